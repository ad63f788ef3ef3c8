"""SQLite in a mounted folder: byte-range locks, shared maps, and a remote that holds the database."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.parts.programs import LIMIT_S, need, run

OnRemote = Callable[[], Path]
MODES = ["delete", "wal"]

WRITER = """
import sqlite3, sys
path, writer, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
database = sqlite3.connect(path, timeout=200, isolation_level=None)
database.execute("PRAGMA synchronous = NORMAL")
for number in range(count):
    database.execute("BEGIN IMMEDIATE")
    database.execute("INSERT INTO entry VALUES (?, ?, ?)", (writer, number, "x" * 300))
    database.execute("COMMIT")
database.close()
"""


def is_sound(path: Path) -> int:
    """Checks the whole database; how many rows it has."""
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        return int(database.execute("SELECT count(*) FROM entry").fetchone()[0])


def make(path: Path, mode: str) -> None:
    with closing(sqlite3.connect(path)) as database:
        assert database.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode,)
        database.execute("CREATE TABLE entry (writer INTEGER, number INTEGER, text TEXT)")
        database.commit()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("writers", [1, 3])
def test_writers(place: Path, on_remote: OnRemote, tmp_path: Path, mode: str, writers: int) -> None:
    """Each transaction of each process is there, on both sides."""
    path = place / "data.db"
    make(path, mode)
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITER, path, str(writer), "60"]) for writer in range(writers)
    ]
    assert [process.wait(LIMIT_S) for process in processes] == [0] * writers
    assert is_sound(path) == 60 * writers
    remote = on_remote()
    assert os.listdir(remote) == ["data.db"]
    copy = tmp_path / "copy.db"
    copy.write_bytes((remote / "data.db").read_bytes())
    assert is_sound(copy) == 60 * writers


def test_reader_beside_a_writer(place: Path) -> None:
    """In WAL mode a reader keeps what it saw first."""
    path = place / "data.db"
    make(path, "wal")
    with closing(sqlite3.connect(path)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM entry").fetchone() == (0,)
        run(sys.executable, "-c", WRITER, path, "0", "20", cwd=place)
        assert reader.execute("SELECT count(*) FROM entry").fetchone() == (0,)
        reader.rollback()
        assert reader.execute("SELECT count(*) FROM entry").fetchone() == (20,)


def test_second_writer_is_locked_out(place: Path) -> None:
    path = place / "data.db"
    make(path, "delete")
    with closing(sqlite3.connect(path, isolation_level=None)) as first:
        first.execute("BEGIN IMMEDIATE")
        code = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0).execute('BEGIN IMMEDIATE')"
        second = subprocess.run(
            [sys.executable, "-c", code, path], capture_output=True, text=True, check=False
        )
        assert "database is locked" in second.stderr
        first.execute("ROLLBACK")


def test_rolled_back_journal_of_a_killed_writer(place: Path) -> None:
    """A hot journal is found and rolled back by the next one who opens the database."""
    path = place / "data.db"
    make(path, "delete")
    code = f"""
import os, signal, sqlite3
database = sqlite3.connect({str(path)!r}, isolation_level=None)
database.execute("PRAGMA cache_size = 5")
database.execute("BEGIN")
for number in range(3000):
    database.execute("INSERT INTO entry VALUES (0, ?, ?)", (number, "x" * 300))
os.kill(os.getpid(), signal.SIGKILL)
"""
    subprocess.run([sys.executable, "-c", code], check=False, timeout=LIMIT_S)
    assert sorted(os.listdir(place)) == ["data.db", "data.db-journal"]
    assert is_sound(path) == 0
    assert os.listdir(place) == ["data.db"]


def test_thousand_transactions(place: Path, on_remote: OnRemote, tmp_path: Path) -> None:
    """By the sqlite3 shell, each row in a transaction that is durable."""
    need("sqlite3")
    path = place / "data.db"
    rows = "".join(f"INSERT INTO entry VALUES (0, {number}, 'row {number}');\n" for number in range(1000))
    script = "CREATE TABLE entry (writer INTEGER, number INTEGER, text TEXT);\n" + rows
    run("sqlite3", "-bail", path, cwd=place, stdin=script)
    assert (
        run("sqlite3", path, "PRAGMA integrity_check; SELECT count(*) FROM entry", cwd=place) == "ok\n1000\n"
    )
    copy = tmp_path / "copy.db"
    copy.write_bytes((on_remote() / "data.db").read_bytes())
    assert is_sound(copy) == 1000
