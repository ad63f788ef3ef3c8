"""What is agreed, when one directory takes the place of another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mountsync.model.entry import DIRECTORY, Entry, Kind
from mountsync.state.base import Base, BaseRow
from mountsync.state.database import Database
from mountsync.state.tree import ROOT_ID, NodeId

FILE = Entry(Kind.FILE, size=1, mtime_ns=1)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(str(tmp_path / "state.db"))
    yield opened
    opened.close()


def row(parent: int, name: bytes, node: int, remote: Entry = DIRECTORY) -> BaseRow:
    return BaseRow(NodeId(parent), name, NodeId(node), 0, remote, None, None)


def rows(database: Database) -> list[tuple[int, bytes, int]]:
    return database.rows("SELECT parent, name, node FROM base ORDER BY parent, name")


def test_what_is_agreed_in_a_directory_goes_to_the_one_that_takes_its_place(database: Database) -> None:
    base = Base(database)
    with database.transaction:
        base.put(row(ROOT_ID, b"d", 10))
        base.put(row(10, b"f", 11, FILE))
        heirs = base.put(row(ROOT_ID, b"d", 20))
    assert rows(database) == [(1, b"d", 20), (20, b"f", 11)]
    assert heirs == {10: 20}


def test_directories_of_one_name_in_both_become_one(database: Database) -> None:
    """No row is left in a directory that has no place any more, however deep."""
    base = Base(database)
    with database.transaction:
        for parent, name, node in ((ROOT_ID, b"d", 10), (10, b"s", 11), (11, b"t", 12)):
            base.put(row(parent, name, node))
        for parent, name, node in ((12, b"old", 13), (12, b"both", 14), (11, b"old", 15)):
            base.put(row(parent, name, node, FILE))
        for parent, name, node in ((20, b"s", 21), (21, b"t", 22)):
            base.put(row(parent, name, node))
        for parent, name, node in ((22, b"new", 23), (22, b"both", 24)):
            base.put(row(parent, name, node, FILE))
        heirs = base.put(row(ROOT_ID, b"d", 20))
    assert heirs == {10: 20, 11: 21, 12: 22}
    assert rows(database) == [
        (1, b"d", 20), (20, b"s", 21), (21, b"old", 15), (21, b"t", 22),
        (22, b"both", 24), (22, b"new", 23), (22, b"old", 13),
    ]  # fmt: skip
