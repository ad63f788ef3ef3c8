"""Uploads in parts that are under way, noted so that the next start can give them up.

One file per upload. It is not synced: it survives the death of the process; after a power cut parts
may stay on the server until a lifecycle rule of the bucket removes them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

import msgspec


class Attempt(msgspec.Struct, frozen=True):
    """An upload in parts."""

    bucket: str
    key: str
    upload: str


class Attempts:
    """The notes in a folder, which several processes may share: each holds a lock on its live ones.

    Methods block for a moment; call them in threads.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}
        """Descriptors, each with the lock of a note."""

    def note(self, attempt: Attempt) -> None:
        """Remembers an upload before its first part is sent."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = _name(attempt)
        fd = os.open(self._folder / name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._held[name] = fd
        fcntl.flock(fd, fcntl.LOCK_EX)
        os.write(fd, msgspec.json.encode(attempt))

    def forget(self, attempt: Attempt) -> None:
        """The upload has ended."""
        name = _name(attempt)
        (self._folder / name).unlink(missing_ok=True)
        fd = self._held.pop(name, None)
        if fd is not None:
            os.close(fd)

    def left(self) -> list[Attempt]:
        """Those that a process which is gone did not end."""
        if not self._folder.is_dir():
            return []
        return [attempt for path in self._folder.iterdir() if (attempt := _abandoned(path)) is not None]

    def release(self) -> None:
        """Leaves what could not be ended to the next start. Safe to call twice."""
        while self._held:
            os.close(self._held.popitem()[1])


def _name(attempt: Attempt) -> str:
    return hashlib.sha256(f"{attempt.key}\0{attempt.upload}".encode()).hexdigest()[:32]


def _abandoned(path: Path) -> Attempt | None:
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return msgspec.json.decode(file.read(), type=Attempt)
    except (FileNotFoundError, BlockingIOError, msgspec.MsgspecError):
        return None  # it ended this moment, is under way, or is torn
