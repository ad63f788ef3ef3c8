"""One SQLite file, one connection on the trio thread.

Two commit levels. *Ordered*: a transaction that was committed survives the death of the process.
*Durable*: it survives power loss too; `make_durable` waits for one sync of the write-ahead log that
covers all commits before the call and is shared by everybody who waits.

An ordered commit is one record in the redo log (see `redo`); SQLite's own commit, which costs several
times as much, is done for many of them at once by `fold`: when the log is full, when somebody wants
durability, and by whoever owns the database a moment after a change. All of it runs on the loop; what
lies between two awaits is a critical section. Checkpoints, which copy SQLite's log into the database,
run on a connection of their own in a thread.
"""

from __future__ import annotations

import fcntl
import importlib.resources
import os
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final

import apsw
import trio

from mountsync.errors import NoSpace, NotFound, StateDamaged, StateLocked, StateVersion, from_os_error
from mountsync.state.redo import RedoLog, Statement

SCHEMA_VERSION: Final = 3
_UPGRADES: Final = {2: "ALTER TABLE attempt ADD COLUMN digest BLOB"}
"""What brings a state of that version to the next one."""
APPLICATION_ID: Final = 0x6D6E7473  # "mnts"
CHECKPOINT_PAGES: Final = 2000
"""Log pages of 4 KiB after which a checkpoint is due."""
LONG_PAGES: Final = 16_000
"""Log pages after which the log must begin anew, even if the loop has to wait for it."""
_INLINE_SYNC_S: Final = 0.0004
"""A disk that syncs faster than this is synced on the loop: a thread hop would cost more."""

Row = tuple[Any, ...]


class StateLock:
    """Holds the state folder for this process. A dead process's lock is free by itself."""

    def __init__(self, folder: str) -> None:
        """Raises StateLocked, with the holder's pid, when another process has it."""
        self._fd = os.open(os.path.join(folder, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid = self._holder()
            os.close(self._fd)
            raise StateLocked(
                f"the state in {folder} is in use by process {pid or 'unknown'}",
                pid=pid,
                hint="unmount it first, or use another --cache-dir",
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, str(os.getpid()).encode(), 0)

    def _holder(self) -> int | None:
        text = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip()
        return int(text) if text.isdigit() else None

    def release(self) -> None:
        """Lets another process in."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Transaction:
    """`with database.transaction:` commits at the end, rolls back on an exception; nests as one.

    A *soft* one (`with database.soft:`) is not committed at its end but by the next transaction that is,
    or by `commit_soft`: until then it does not survive the death of the process. It is for changes
    that promise nothing yet, such as a created file before its first close.
    """

    __slots__ = ("_database", "_soft")

    def __init__(self, database: Database, *, soft: bool) -> None:
        self._database = database
        self._soft = soft

    def __enter__(self) -> None:
        self._database.enter()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.leave(failed=kind is not None, soft=self._soft)


class Database:
    """The state file. Open it only while holding the folder's StateLock."""

    def __init__(self, path: str) -> None:
        """Opens or makes the file and runs what its redo log holds.

        Raises StateVersion or StateDamaged, having changed nothing.
        """
        self.path = path
        self._connection = _open(path)
        self._cursor = self._connection.cursor()
        self._run = self._cursor.execute
        self.transaction = Transaction(self, soft=False)
        self.soft = Transaction(self, soft=True)
        self._depth = 0
        self._open_batch = False
        self._current: list[Statement] = []
        self._soft: list[Statement] = []
        self._batch: list[Statement] = []
        self._undo: list[Callable[[], object]] = []
        self._committed = 0
        self._durable = 0
        self._log_pages = 0
        self._copied_pages = 0
        self._sync_s = 0.0
        self._syncing: trio.Event | None = None
        self._connection.set_wal_hook(self._note_log)
        self._log_fd = os.open(path + "-wal", os.O_RDONLY | os.O_CLOEXEC)
        self._redo = RedoLog(path + "-redo")
        self._epoch = int(self.setting("redo") or 0)
        self._run_again()

    def _run_again(self) -> None:
        """Repeats what a process that died had committed after the last batch."""
        lost = self._redo.read(self._epoch)
        self._start_batch()
        for sql, values in lost:
            self._run(sql, values)
        self.fold()

    def _note_log(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        self._log_pages = pages
        return apsw.SQLITE_OK

    def execute(self, sql: str, values: tuple[Any, ...] = ()) -> apsw.Cursor:
        """Runs one statement that changes rows. Outside of a transaction it is one by itself.

        Values are None, int, float, str or bytes: the statement must do the same when it is run again.
        """
        if not self._depth:
            if sql.startswith("SELECT"):
                return self._run(sql, values)
            with self.transaction:
                return self.execute(sql, values)
        self._current.append((sql, values))
        return self._run(sql, values)

    def enter(self) -> None:
        """Opens a transaction; use `transaction` or `soft` instead."""
        if not self._open_batch:
            self._start_batch()
        self._depth += 1

    def _start_batch(self) -> None:
        self._run("BEGIN IMMEDIATE")
        self._open_batch = True

    def leave(self, *, failed: bool, soft: bool) -> None:
        """Ends a transaction; use `transaction` or `soft` instead."""
        self._depth -= 1
        if self._depth:
            return
        if failed:
            self._roll_back()
        elif soft:
            self._soft += self._current
            self._current = []
            self._undo.clear()
        else:
            self.commit()

    def commit(self) -> None:
        """Ends the transaction: all of it is ordered from here on. One call is one effect."""
        statements = self._soft + self._current if self._soft else self._current
        if statements:
            try:
                self._redo.append(statements)
            except BaseException:
                self._roll_back()
                raise
        self._batch += statements
        self._soft, self._current = [], []
        self._undo.clear()
        if self._redo.is_full:
            self.fold()

    @property
    def has_soft(self) -> bool:
        """Whether a soft transaction waits to be committed."""
        return bool(self._soft)

    def commit_soft(self) -> None:
        """Commits what soft transactions left open; does nothing when there is nothing."""
        if self._soft and not self._depth:
            self.commit()

    def fold(self) -> None:
        """Commits all that is in the redo log, and what is soft, to the database itself.

        Raises NoSpace when the disk is full; everything stays as it was, in the redo log.
        """
        if not self._open_batch or self._depth:
            return
        try:
            self._run("INSERT OR REPLACE INTO setting VALUES ('redo', ?)", (self._epoch + 1,))
            self._run("COMMIT")
        except (apsw.FullError, apsw.IOError) as error:
            self._rebuild_batch()
            raise NoSpace(f"the state cannot be written ({error})", path=self.path) from error
        self._open_batch = False
        self._epoch += 1
        self._batch, self._soft = [], []
        self._committed += 1
        self._redo.begin(self._epoch)

    def _roll_back(self) -> None:
        """Undoes the transaction that failed: the batch is run again without it."""
        if self._current:
            self._current = []
            self._rebuild_batch()
        undo, self._undo = self._undo, []
        for step in reversed(undo):
            step()

    def _rebuild_batch(self) -> None:
        if self._connection.in_transaction:
            self._run("ROLLBACK")
        self._start_batch()
        for sql, values in self._batch + self._soft:
            self._run(sql, values)

    def on_rollback(self, step: Callable[[], object]) -> None:
        """Calls `step` when the open transaction is rolled back: it mends what memory holds of it."""
        self._undo.append(step)

    def row(self, sql: str, values: tuple[Any, ...] = ()) -> Row | None:
        """The first row, or None."""
        # The statement is run to its end: one that is left open would keep the log from being reset.
        found = self._run(sql, values).fetchall()
        return found[0] if found else None

    def rows(self, sql: str, values: tuple[Any, ...] = ()) -> list[Row]:
        """All rows."""
        return self._run(sql, values).fetchall()

    def value(self, sql: str, values: tuple[Any, ...] = ()) -> Any:
        """The first column of the first row, or None."""
        found = self.row(sql, values)
        return None if found is None else found[0]

    @property
    def changes(self) -> int:
        """Rows that the last statement changed."""
        return self._connection.changes()

    def setting(self, key: str) -> Any:
        """A fact about the state as a whole, None when it was never set."""
        return self.value("SELECT value FROM setting WHERE key = ?", (key,))

    def set_setting(self, key: str, value: Any) -> None:
        """Sets such a fact."""
        self.execute("INSERT OR REPLACE INTO setting VALUES (?, ?)", (key, value))

    async def make_durable(self) -> None:
        """Returns when all that was committed before the call is safe from power loss."""
        self.fold()
        wanted = self._committed
        while self._durable < wanted:
            if self._syncing is not None:
                await self._syncing.wait()
            else:
                await self._sync()

    async def _sync(self) -> None:
        covered = self._committed
        if 0 < self._sync_s < _INLINE_SYNC_S:
            self._sync_log()
            self._durable = covered
            return
        self._syncing = trio.Event()
        try:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._sync_log)
            self._durable = covered
        finally:
            self._syncing.set()
            self._syncing = None

    def _sync_log(self) -> None:
        began = time.perf_counter()
        os.fdatasync(self._log_fd)
        self._sync_s = time.perf_counter() - began

    @property
    def checkpoint_due(self) -> bool:
        """Whether the log has grown enough since the last checkpoint."""
        if self._log_pages < self._copied_pages:
            self._copied_pages = 0  # SQLite began its log anew
        return self._log_pages - self._copied_pages >= CHECKPOINT_PAGES

    async def checkpoint(self) -> None:
        """Copies SQLite's log into the database, in a thread, while work goes on.

        Under a load that never pauses the log cannot begin anew: there are always frames that came
        during the copy. Once it is far too long those few are copied on the loop.
        """
        self.fold()
        pages = self._log_pages
        await trio.to_thread.run_sync(_checkpoint, self.path)
        self._copied_pages = pages
        if self._log_pages >= LONG_PAGES and not self._depth:
            self.fold()
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def close(self) -> None:
        """Closes the file; everything committed is durable when this returns."""
        self.fold()
        self._connection.pragma("synchronous", "FULL")
        self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self._close_all()

    def abandon(self) -> None:
        """Leaves everything as the death of the process would; for tests of recovery."""
        if self._connection.in_transaction:
            self._run("ROLLBACK")
        self._close_all()

    def _close_all(self) -> None:
        os.close(self._log_fd)
        self._redo.close()
        self._connection.close()


def _checkpoint(path: str) -> None:
    connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.set_busy_timeout(0)
        connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    except apsw.BusyError:
        pass  # another checkpoint is under way; the next one will cover the rest
    finally:
        connection.close()


def _open(path: str) -> apsw.Connection:
    try:
        connection = apsw.Connection(path)
    except apsw.CantOpenError as error:
        raise StateDamaged(f"{path} cannot be opened ({error})") from error
    try:
        _prepare(connection, path)
    except (apsw.NotADBError, apsw.CorruptError) as error:
        connection.close()
        raise StateDamaged(
            f"{path} is not a sound database ({error})", hint="run `mountsync fsck` to see what is left"
        ) from error
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: apsw.Connection, path: str) -> None:
    version = connection.pragma("user_version")
    if version == 0 and connection.pragma("page_count") == 0:
        _create(connection)
    elif version in _UPGRADES and connection.pragma("application_id") == APPLICATION_ID:
        _upgrade(connection, version)
    elif version != SCHEMA_VERSION or connection.pragma("application_id") != APPLICATION_ID:
        raise StateVersion(
            f"{path} has format {version}, this mountsync needs {SCHEMA_VERSION}",
            hint="use the version of mountsync that wrote it, or another --cache-dir",
        )
    # Without it a statement is compiled again for each new value that could change its plan.
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_QPSG, 1)
    connection.pragma("journal_mode", "WAL")
    connection.pragma("synchronous", "NORMAL")
    connection.pragma("cache_size", -16000)
    connection.pragma("temp_store", "MEMORY")
    connection.pragma("mmap_size", 256 << 20)
    connection.set_busy_timeout(5000)
    # The log file must exist before its descriptor is taken for syncing.
    connection.execute("BEGIN IMMEDIATE; UPDATE setting SET value = value WHERE key = 'remote'; COMMIT")
    if not os.path.exists(path + "-wal"):
        connection.execute("INSERT OR REPLACE INTO setting VALUES ('log', 1)")


def _create(connection: apsw.Connection) -> None:
    schema = importlib.resources.files("mountsync.state").joinpath("schema.sql").read_text()
    connection.pragma("page_size", 4096)
    connection.execute(f"BEGIN IMMEDIATE; {schema}")
    connection.pragma("application_id", APPLICATION_ID)
    connection.pragma("user_version", SCHEMA_VERSION)
    connection.execute("COMMIT")


def _upgrade(connection: apsw.Connection, version: int) -> None:
    """To the version of today, in one transaction: who dies meanwhile has the old one."""
    steps = "; ".join(_UPGRADES[each] for each in range(version, SCHEMA_VERSION))
    connection.execute(f"BEGIN IMMEDIATE; {steps}; PRAGMA user_version = {SCHEMA_VERSION}; COMMIT")


def make_folder(folder: str) -> None:
    """Makes the state folder, readable by its owner only."""
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(folder, 0o700)
    except FileNotFoundError as error:
        raise NotFound("the folder for the state cannot be made", path=folder) from error
    except OSError as error:
        raise from_os_error(error, folder) from error
