"""What this machine knows about changes that may be half done: kept in the state folder.

The truth about a *replacement* is in the metadata on the base itself (see `commit`); the journal only
says which paths to look at after a crash, and which chunks an interrupted upload has finished. For a
*move* and a *removal* it holds what is to be done. It lies outside the base, so that the base holds
exactly what rclone would have made, and no other machine can take our work under way for abandoned.

Each process has a folder of its own, `run-…`, whose lock it holds; the next one adopts the records of
those that died. Records survive the death of the process; `durable` ones a power cut too.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from mountsync.errors import StateError
from mountsync.paths import RelPath, from_bytes, to_bytes
from mountsync.storage.kept import sync_folder

_RUN: Final = "run-"
_LOCK: Final = "lock"
_PLACE: Final = "place"


class FinishedChunk(msgspec.Struct, frozen=True, array_like=True):
    """A chunk whose bytes are on the base: found again by its token, compared by its sha256."""

    index: int
    size: int
    token: str
    digest: str


class UploadRecord(msgspec.Struct, frozen=True, tag="upload"):
    """An upload was begun: its chunks carry `transaction`."""

    path: bytes
    transaction: str
    replaces: str = ""
    """The transaction of the version that it replaces."""


class RemovalRecord(msgspec.Struct, frozen=True, tag="removal"):
    """These objects, in these versions, shall go."""

    path: bytes
    objects: list[tuple[bytes, str]]


class MoveRecord(msgspec.Struct, frozen=True, tag="move"):
    """A file is taken to another name, object by object, each in this version."""

    path: bytes
    target: bytes
    phases: list[list[tuple[bytes, bytes, str]]]
    """From, to, token; the steps of one phase may be taken at once."""
    metadata: bytes = b""
    """What makes the target valid; empty when the last step does."""
    replaces: str = ""
    """The token of the target's own object, empty when nothing was there."""
    rest: list[tuple[bytes, str]] = []
    """Objects that go when the target is valid: path, token; an empty token means any."""
    mtime_ns: int | None = None


Record: TypeAlias = UploadRecord | RemovalRecord | MoveRecord


class Noted:
    """One record in the journal, and the chunks that were finished under it."""

    def __init__(self, file: Path, record: Record, finished: dict[int, FinishedChunk]) -> None:
        self.file = file
        self.record = record
        self.finished = finished
        self.ended = False

    @property
    def path(self) -> RelPath:
        return from_bytes(self.record.path)


class Journal:
    """The records of one overlay. Synchronous: call it from threads, not from two at once per record."""

    def __init__(self, state_dir: Path, identity: str, place: str = "") -> None:
        """Adopts what dead processes left. Raises StateError when the folder cannot be used.

        `place` names the base: its folders begin with it, so that others can tell that theirs lies in it.
        """
        self._place = place.rstrip("/")
        self._home = state_dir / f"chunker-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
        self._serial = 0
        try:
            self._known = self._home / "known"
            state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self._home, self._known):
                folder.mkdir(mode=0o700, exist_ok=True)
            if place:
                (self._home / _PLACE).write_text(self._place, "utf-8", "surrogateescape")
            self._run = self._home / f"{_RUN}{secrets.token_hex(6)}"
            self._run.mkdir(mode=0o700)
            self._lock = _lock(self._run)
            self._adopt()
        except OSError as error:
            raise StateError(f"the chunker's journal cannot be used: {error}") from error

    def begin(self, record: Record, *, durable: bool = False) -> Noted:
        """Writes a record down. `durable`: it survives power loss when this returns."""
        self._serial += 1
        file = self._run / f"{self._serial:08d}"
        with open(file, "wb") as out:
            out.write(msgspec.json.encode(record) + b"\n")
            if durable:
                out.flush()
                os.fsync(out.fileno())
        if durable:
            sync_folder(self._run)
        return Noted(file, record, {})

    def note_chunks(self, noted: Noted, chunks: list[FinishedChunk]) -> None:
        """Adds finished chunks to an upload."""
        noted.finished |= {chunk.index: chunk for chunk in chunks}
        with open(noted.file, "ab") as out:
            out.write(b"".join(msgspec.json.encode(chunk) + b"\n" for chunk in chunks))

    def end(self, noted: Noted) -> None:
        """Forgets a record. Safe to call twice."""
        noted.file.unlink(missing_ok=True)
        noted.ended = True

    def left(self) -> list[Noted]:
        """All records that are there, oldest first."""
        return [noted for file in sorted(self._run.iterdir()) if (noted := _load(file)) is not None]

    def elsewhere(self, roots: Iterable[Path] = ()) -> list[Noted]:
        """The records of other processes that lie in this base, as they are now; they may end at any time.

        `roots` are folders in which other state folders of storages lie: a mount has its own. Records of
        a folder above or below this base count where they are about it, under their paths here.
        """
        found = []
        homes = {self._home, *(home for root in roots for home in root.glob("*/chunker-*"))}
        for home in homes:
            shift = self._shift(home)
            for file in home.glob(f"{_RUN}*/*") if shift is not None else ():
                with suppress(FileNotFoundError):
                    noted = _load(file) if file.parent != self._run else None
                    path = None if noted is None or shift is None else shift(noted.record.path)
                    if noted is not None and path is not None:
                        record = msgspec.structs.replace(noted.record, path=path)
                        found.append(Noted(noted.file, record, noted.finished))
        return found

    def _shift(self, home: Path) -> Callable[[bytes], bytes | None] | None:
        """How a path there is called here (None: not at all); None when that is another base."""
        if home.name == self._home.name:
            return lambda path: path
        try:
            theirs = (home / _PLACE).read_text("utf-8", "surrogateescape")
        except FileNotFoundError:
            return None
        if theirs.startswith(f"{self._place}/"):
            above = _raw(theirs[len(self._place) + 1 :]) + b"/"
            return lambda path: above + path
        if f"{self._place}/".startswith(f"{theirs}/"):
            below = _raw(self._place[len(theirs) + 1 :])
            start = below + b"/" if below else b""
            return lambda path: path[len(start) :] if path.startswith(start) else None
        return None

    def remember(self, path: RelPath, chunks: list[FinishedChunk]) -> None:
        """Keeps the digests of the chunks of a file that is complete; replaces what was known."""
        file = self._known_file(path)
        fresh = file.with_suffix(f".{secrets.token_hex(4)}")
        fresh.write_bytes(msgspec.json.encode(chunks))
        fresh.replace(file)

    def recall(self, path: RelPath) -> dict[int, FinishedChunk]:
        """The digests of the chunks of a file by index; empty when they are not known."""
        try:
            data = self._known_file(path).read_bytes()
            return {chunk.index: chunk for chunk in msgspec.json.decode(data, type=list[FinishedChunk])}
        except (FileNotFoundError, msgspec.DecodeError):
            return {}

    def forget(self, path: RelPath) -> None:
        """Drops the digests of a file that is gone."""
        self._known_file(path).unlink(missing_ok=True)

    def close(self) -> None:
        """Gives the folder back; records that are left stay for the next process. Safe to call twice."""
        if self._lock < 0:
            return
        if {file.name for file in self._run.iterdir()} == {_LOCK}:
            (self._run / _LOCK).unlink()
            self._run.rmdir()
        os.close(self._lock)
        self._lock = -1

    def _known_file(self, path: RelPath) -> Path:
        return self._known / hashlib.sha256(to_bytes(path)).hexdigest()[:32]

    def _adopt(self) -> None:
        for run in self._home.glob(f"{_RUN}*"):
            if run == self._run or (lock := _try_lock(run)) is None:
                continue
            for file in sorted(run.iterdir()):
                if file.name != _LOCK:
                    file.rename(self._run / f"{run.name}-{file.name}")
            (run / _LOCK).unlink(missing_ok=True)
            run.rmdir()
            os.close(lock)


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _lock(run: Path) -> int:
    fd = os.open(run / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return fd


def _try_lock(run: Path) -> int | None:
    """The lock of a dead process's folder; None while its process lives or another adopts it."""
    try:
        fd = os.open(run / _LOCK, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd


def _load(file: Path) -> Noted | None:
    """The record in a file; None for what is not one, or was torn before it was complete."""
    if file.name == _LOCK:
        return None
    lines = file.read_bytes().split(b"\n")[:-1]
    if not lines:
        return None
    return Noted(file, msgspec.json.decode(lines[0], type=Record), dict(_finished(lines[1:])))


def _finished(lines: list[bytes]) -> Iterator[tuple[int, FinishedChunk]]:
    for line in lines:
        chunk = msgspec.json.decode(line, type=FinishedChunk)
        yield chunk.index, chunk
