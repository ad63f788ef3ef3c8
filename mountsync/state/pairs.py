"""What the two sides of a pair last agreed on, in one SQLite file of its own.

A row is one path; its bytes carry a checksum, and the file keeps the count and the sum of all
checksums, so that a row which was changed or lost is found. `mark` names the state as a whole: the sides
keep it too, so that a file that was put back from a backup is found to be older than they are. Whatever
is not sound is *unknown*: nothing is concluded from it, and it is never deleted.

Format of a row: msgpack array of `RowForm`, then the CRC-32 of path and array, four bytes, little-endian.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
import zlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import apsw
import msgspec

from mountsync.errors import NoSpace, StateDamaged
from mountsync.model.base import Agreed
from mountsync.model.entry import Digest, Entry, Kind, Token
from mountsync.paths import RelPath, from_bytes, to_bytes

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x6D6E7470  # "mntp"
FILE: Final = "pair.db"

_KINDS: Final = (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK)
_SCHEMA: Final = """
CREATE TABLE setting (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE base (path BLOB PRIMARY KEY, row BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE digest (storage TEXT, path BLOB, token TEXT NOT NULL, digest BLOB NOT NULL,
                     PRIMARY KEY (storage, path)) WITHOUT ROWID;
"""


class RowForm(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One row as it is stored; `kind` is an index, the others are as in `Agreed`."""

    kind: int
    size: int
    mtime_ns: int | None
    mode: int | None
    digest: bytes | None
    target: bytes | None
    a: str | None
    b: str | None
    a_mtime_ns: int | None
    b_mtime_ns: int | None
    a_mode: int | None
    b_mode: int | None


_decode = msgspec.msgpack.Decoder(RowForm).decode
_encode = msgspec.msgpack.Encoder().encode


def pack(path: RelPath, row: Agreed) -> bytes:
    """A row with its checksum. A token that is not Unicode is left out: it costs a digest, no more."""
    entry = row.entry
    body = _encode(
        RowForm(
            _KINDS.index(entry.kind),
            entry.size,
            entry.mtime_ns,
            entry.mode,
            None if entry.digest is None else bytes.fromhex(entry.digest),
            None if entry.target is None else to_bytes(entry.target),
            _plain(row.a),
            _plain(row.b),
            row.a_mtime_ns,
            row.b_mtime_ns,
            row.a_mode,
            row.b_mode,
        )
    )
    return body + _checksum(path, body).to_bytes(4, "little")


def _plain(token: Token | None) -> str | None:
    return token if token is not None and token.isascii() else None


def _checksum(path: RelPath, body: bytes) -> int:
    return zlib.crc32(body, zlib.crc32(to_bytes(path)))


def form_of(packed: bytes) -> RowForm:
    """The fields of a row whose checksum is known to be right."""
    return _decode(memoryview(packed)[:-4])


def unpack(packed: bytes) -> Agreed:
    """The row whose checksum is known to be right."""
    form = form_of(packed)
    entry = Entry(
        _KINDS[form.kind],
        form.size,
        form.mtime_ns,
        form.mode,
        None if form.digest is None else Digest(form.digest.hex()),
        None,
        None if form.target is None else from_bytes(form.target),
    )
    a = None if form.a is None else Token(form.a)
    b = None if form.b is None else Token(form.b)
    return Agreed(entry, a, b, form.a_mtime_ns, form.b_mtime_ns, form.a_mode, form.b_mode)


Rows = dict[RelPath, bytes]
"""Packed rows by path: small in memory, and unpacked only where something changed."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """All rows, and why nothing may be concluded from them (None: they are sound)."""

    rows: Rows
    unknown: str | None


class PairState:
    """One pair's file. Open it only while holding the folder's `StateLock`, or as a copy."""

    def __init__(self, path: str) -> None:
        """Opens or makes the file; one that cannot be read is put aside and told of by `put_aside`."""
        self._path = path
        self.put_aside: str | None = None
        try:
            self._connection = _open(path)
        except StateDamaged as error:
            self._begin_anew(error.reason)
        self._run = self._connection.cursor().execute

    def _begin_anew(self, reason: str) -> None:
        """Keeps the damaged file under another name and goes on with an empty one."""
        self.put_aside = reason
        _put_aside(self._path)
        self._connection = _open(self._path)
        self._run = self._connection.cursor().execute

    def _give_up(self, reason: str) -> None:
        self._connection.close()
        self._begin_anew(reason)

    def setting(self, key: str) -> str | None:
        """A fact about the pair, None when it was never set."""
        found = self._run("SELECT value FROM setting WHERE key = ?", (key,)).fetchall()
        return str(found[0][0]) if found else None

    @property
    def size(self) -> int:
        """How many rows there are, about."""
        try:
            return int((self.setting("total") or "0").partition(":")[0])
        except (apsw.Error, ValueError):
            return 0

    def load(self) -> Loaded:
        """Every row, its checksum verified. What is not sound is put aside."""
        rows: Rows = {}
        try:
            reason = self._load_into(rows)
        except apsw.Error as error:
            reason = f"it is damaged ({error})"
        if reason is not None:
            self._give_up(reason)
        return Loaded(rows, reason or self.put_aside)

    def _load_into(self, rows: Rows) -> str | None:
        """Fills `rows` with what has the right checksum; tells what is wrong."""
        total = 0
        for raw, packed in self._run("SELECT path, row FROM base"):
            path = from_bytes(raw)
            check = int.from_bytes(packed[-4:], "little")
            if _checksum(path, packed[:-4]) != check:
                return "a row of it was changed"
            total += check
            rows[path] = packed
        wanted = self.setting("total")
        return "rows of it are missing" if wanted != f"{len(rows)}:{total}" and (rows or wanted) else None

    def commit(
        self,
        rows: Rows,
        changed: Mapping[RelPath, Agreed | None],
        settings: Mapping[str, str],
    ) -> None:
        """Writes what changed, brings `rows` up to date with it, durable on return. Raises NoSpace."""
        after = {path: None if row is None else pack(path, row) for path, row in changed.items()}
        count, total = self._total(rows)
        for path, packed in after.items():
            for old, sign in ((rows.get(path), -1), (packed, 1)):
                if old is not None:
                    count += sign
                    total += sign * int.from_bytes(old[-4:], "little")
        facts = {**settings, "total": f"{count}:{total}"}
        try:
            self._write(after, facts)
        except apsw.CorruptError as error:
            self._give_up(f"it is damaged ({error})")
            self._write({**rows, **after}, facts)
        for path, packed in after.items():
            if packed is None:
                rows.pop(path, None)
            else:
                rows[path] = packed

    def _total(self, rows: Rows) -> tuple[int, int]:
        count, _, total = (self.setting("total") or "0:0").partition(":")
        if int(count) == len(rows):
            return int(count), int(total)
        return len(rows), sum(int.from_bytes(packed[-4:], "little") for packed in rows.values())

    def _write(self, after: Mapping[RelPath, bytes | None], facts: Mapping[str, str]) -> None:
        puts = [(to_bytes(path), packed) for path, packed in after.items() if packed is not None]
        drops = [(to_bytes(path),) for path, packed in after.items() if packed is None]
        try:
            with self._connection:
                cursor = self._connection.cursor()
                cursor.executemany("INSERT OR REPLACE INTO base VALUES (?, ?)", puts)
                cursor.executemany("DELETE FROM base WHERE path = ?", drops)
                cursor.executemany("INSERT OR REPLACE INTO setting VALUES (?, ?)", list(facts.items()))
        except (apsw.FullError, apsw.IOError) as error:
            raise NoSpace(f"the state of the pair cannot be written ({error})") from error

    def forget_all(self) -> None:
        """Empties the base: what was in it cannot be trusted. Digests stay, they are valid by token."""
        try:
            with self._connection:
                self._run("DELETE FROM base")
                self._run("DELETE FROM setting WHERE key = 'total'")
        except apsw.CorruptError as error:
            self._give_up(f"it is damaged ({error})")

    def find_digest(self, storage: str, path: RelPath, token: Token) -> Digest | None:
        """A digest that was computed for that version and is in no row."""
        try:
            found = self._run(
                "SELECT digest FROM digest WHERE storage = ? AND path = ? AND token = ?",
                (storage, to_bytes(path), token),
            ).fetchall()
        except apsw.CorruptError:
            return None  # it is computed once more
        raw = found[0][0] if found else None
        return Digest(raw.hex()) if isinstance(raw, bytes) else None

    def store_digests(self, found: Iterable[tuple[str, RelPath, Token, Digest]]) -> None:
        """Remembers digests of versions that are in no row; an older one of a path is forgotten."""
        values = [(storage, to_bytes(path), token, bytes.fromhex(d)) for storage, path, token, d in found]
        if values:
            with suppress(apsw.CorruptError, UnicodeEncodeError), self._connection:
                self._connection.cursor().executemany(
                    "INSERT OR REPLACE INTO digest VALUES (?, ?, ?, ?)", values
                )

    def close(self) -> None:
        """Closes the file."""
        self._connection.close()


def _open(path: str) -> apsw.Connection:
    try:
        connection = apsw.Connection(path)
    except apsw.CantOpenError as error:
        raise StateDamaged(f"{path} cannot be opened ({error})") from error
    try:
        _prepare(connection)
    except (apsw.NotADBError, apsw.CorruptError, StateDamaged) as error:
        connection.close()
        raise StateDamaged(f"it was damaged ({error})") from error
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: apsw.Connection) -> None:
    # A rollback journal and not a log: one file, which a dry run can copy and which holds all of it.
    connection.pragma("journal_mode", "DELETE")
    connection.pragma("synchronous", "FULL")
    connection.set_busy_timeout(5000)
    if connection.pragma("user_version") == 0 and connection.pragma("page_count") == 0:
        connection.execute(f"BEGIN IMMEDIATE; {_SCHEMA}")
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", SCHEMA_VERSION)
        connection.execute("COMMIT")
    version, owner = connection.pragma("user_version"), connection.pragma("application_id")
    if (version, owner) != (SCHEMA_VERSION, APPLICATION_ID):
        raise StateDamaged(f"its format is {version}, {SCHEMA_VERSION} was expected")
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    if not {"setting", "base", "digest"} <= names:
        raise StateDamaged("a table is missing")


def _put_aside(path: str) -> None:
    """Keeps a damaged file under another name, for whoever wants to look."""
    aside = f"{path}.damaged-{time.strftime('%Y%m%dT%H%M%S')}-{secrets.token_hex(2)}"
    for suffix in ("", "-journal"):
        with suppress(FileNotFoundError):
            os.replace(path + suffix, aside + suffix)


def copied(folder: str) -> tuple[PairState, str]:
    """The state as a copy that may be changed, and the temporary folder it lies in; for dry runs."""
    temporary = tempfile.mkdtemp(prefix="mountsync-dry-run-")
    for suffix in ("", "-journal"):
        with suppress(FileNotFoundError):
            shutil.copyfile(os.path.join(folder, FILE + suffix), os.path.join(temporary, FILE + suffix))
    return PairState(os.path.join(temporary, FILE)), temporary
