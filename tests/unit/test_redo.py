"""The redo log: what it gives back after a death, and what it must not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mountsync.errors import NoSpace
from mountsync.state.database import Database
from mountsync.state.redo import RedoLog


@pytest.fixture
def log(tmp_path: Path):
    made = RedoLog(str(tmp_path / "log"))
    yield made
    made.close()


LINES = [
    ("INSERT a", (1, b"\xff", None, "text", 2.5)),
    ("DELETE b", ()),
    ("INSERT a", (2, b"", None, "", 0.0)),
]


def test_gives_back_what_was_written(log: RedoLog) -> None:
    log.begin(7)
    log.append(LINES)
    log.append(LINES[:1])
    assert log.read(7) == LINES + LINES[:1]
    assert log.read(8) == log.read(6) == []
    log.begin(8)
    assert log.read(8) == []
    log.append(LINES[1:2])
    assert log.read(8) == LINES[1:2]  # and not what epoch 7 left behind it


def test_a_torn_record_ends_the_log(log: RedoLog, tmp_path: Path) -> None:
    log.begin(1)
    log.append(LINES)
    whole = os.path.getsize(tmp_path / "log")
    log.append([("INSERT c", (b"x" * 100,))])
    size = os.path.getsize(tmp_path / "log")
    for end in range(whole, size):
        os.truncate(tmp_path / "log", end)
        assert log.read(1) == LINES
    with open(tmp_path / "log", "r+b") as file:
        file.seek(30)
        file.write(b"\xaa\xaa")
    assert log.read(1) == []


def test_a_database_that_was_abandoned_has_all_its_commits(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    database = Database(path)
    for number in range(50):
        with database.transaction:
            database.set_setting(f"k{number}", number)
        if number == 20:
            database.fold()
    database.abandon()
    again = Database(path)
    assert [again.setting(f"k{number}") for number in range(50)] == list(range(50))
    again.abandon()
    again = Database(path)
    assert again.setting("k49") == 49
    again.close()


def test_a_failed_transaction_leaves_the_others(tmp_path: Path) -> None:
    path = str(tmp_path / "state.db")
    database = Database(path)
    with database.transaction:
        database.set_setting("a", 1)
    with database.soft:
        database.set_setting("b", 2)
    with pytest.raises(ZeroDivisionError), database.transaction:
        database.set_setting("a", 5)
        database.set_setting("c", 1 / 0)
    assert (database.setting("a"), database.setting("b")) == (1, 2)
    with database.transaction:
        database.set_setting("d", 4)
    database.abandon()
    again = Database(path)
    assert [again.setting(key) for key in "abcd"] == [1, 2, None, 4]
    again.close()


def test_a_full_disk_fails_the_commit_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = str(tmp_path / "state.db")
    database = Database(path)
    with database.transaction:
        database.set_setting("a", 1)
    real = os.pwrite
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", lambda fd, data, at: real(fd, data[:5], at))
        with pytest.raises(NoSpace), database.transaction:
            database.set_setting("a", 2)
    assert database.setting("a") == 1
    with database.transaction:
        database.set_setting("b", 3)
    database.abandon()
    again = Database(path)
    assert (again.setting("a"), again.setting("b")) == (1, 3)
    again.close()


def test_many_commits_fold_by_themselves(tmp_path: Path) -> None:
    database = Database(str(tmp_path / "state.db"))
    for number in range(300):
        with database.transaction:
            database.set_setting("big", bytes([number & 255]) * 10_000)
    assert os.path.getsize(tmp_path / "state.db-redo") < 2 << 20
    database.abandon()
    again = Database(str(tmp_path / "state.db"))
    assert again.setting("big") == bytes([299 & 255]) * 10_000
    again.close()
