"""The commit levels of the state file."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import apsw
import pytest
import trio

from mountsync.errors import StateDamaged, StateLocked, StateVersion
from mountsync.state.database import Database, StateLock
from mountsync.state.tree import ROOT_ID, Node, Tree


def directory(node_id: int) -> Node:
    return Node(ROOT_ID if node_id == 1 else node_id, 0o40755, 0, 0, 0, 2, 0, 1, 1, 1, 0, 0, None, 1)  # type: ignore[arg-type]


@pytest.fixture
def database(tmp_path: Path):
    opened = Database(str(tmp_path / "state.db"))
    yield opened
    opened.close()


def test_rollback_mends_memory(database: Database) -> None:
    tree = Tree(database)
    with database.transaction:
        tree.insert(directory(1))
    root = tree.node(1)
    with pytest.raises(RuntimeError), database.transaction:
        root.mtime_ns = 99
        tree.save(root)
        tree.insert(directory(7))
        raise RuntimeError
    assert root.mtime_ns == 1
    assert tree.find(7) is None


def test_failed_transaction_keeps_the_soft_one_before_it(database: Database) -> None:
    tree = Tree(database)
    with database.soft:
        tree.insert(directory(1))
    with pytest.raises(RuntimeError), database.transaction:
        tree.insert(directory(7))
        raise RuntimeError
    assert database.has_soft
    database.commit_soft()
    assert tree.find(1) is not None
    assert tree.find(7) is None
    assert not database.has_soft


def run_and_die(folder: Path, body: str) -> None:
    script = (
        "import os\nfrom mountsync.state.database import Database\n"
        f"database = Database({str(folder / 'state.db')!r})\n" + textwrap.dedent(body) + "os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 9


def test_ordered_survives_death_and_soft_does_not(tmp_path: Path) -> None:
    run_and_die(
        tmp_path,
        """
        with database.transaction:
            database.set_setting("kept", 1)
        with database.soft:
            database.set_setting("lost", 1)
        """,
    )
    again = Database(str(tmp_path / "state.db"))
    assert again.setting("kept") == 1
    assert again.setting("lost") is None
    again.close()


def test_a_commit_carries_the_soft_ones_before_it(tmp_path: Path) -> None:
    run_and_die(
        tmp_path,
        """
        with database.soft:
            database.set_setting("soft", 1)
        with database.transaction:
            database.set_setting("kept", 1)
        """,
    )
    again = Database(str(tmp_path / "state.db"))
    assert again.setting("soft") == 1
    again.close()


async def test_one_sync_serves_all_waiters(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda fd: (syncs.append(fd), real(fd)))
    with database.transaction:
        database.set_setting("a", 1)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(database.make_durable)
    assert len(syncs) == 1


async def test_checkpoint_while_a_transaction_is_open(database: Database) -> None:
    with database.transaction:
        database.set_setting("a", 1)
    with database.soft:
        database.set_setting("b", 2)
    await database.checkpoint()
    database.commit_soft()
    assert database.setting("b") == 2


def test_another_version_is_refused_and_untouched(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    Database(str(path)).close()
    connection = apsw.Connection(str(path))
    connection.pragma("user_version", 77)
    connection.close()
    before = path.read_bytes()
    with pytest.raises(StateVersion, match="77"):
        Database(str(path))
    assert path.read_bytes() == before


def test_a_state_of_the_version_before_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    old = Database(str(path))
    old.set_setting("kept", 1)
    old.close()
    connection = apsw.Connection(str(path))
    connection.execute("ALTER TABLE attempt DROP COLUMN digest")
    connection.pragma("user_version", 2)
    connection.close()
    database = Database(str(path))
    assert database.setting("kept") == 1
    assert database.value("SELECT count(digest) FROM attempt") == 0
    database.close()
    assert apsw.Connection(str(path)).pragma("user_version") == 3


def test_rubbish_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"not a database" * 1000)
    with pytest.raises(StateDamaged):
        Database(str(path))
    assert path.read_bytes() == b"not a database" * 1000


def test_lock_names_its_holder(tmp_path: Path) -> None:
    held = StateLock(str(tmp_path))
    with pytest.raises(StateLocked) as caught:
        StateLock(str(tmp_path))
    assert caught.value.pid == os.getpid()
    held.release()
    StateLock(str(tmp_path)).release()
