"""Uploads in parts that are under way, noted so that the next start can give them up.

One file per upload. It is not synced: it survives the death of the process; after a power cut parts
may stay on the server until a lifecycle rule of the bucket removes them.
"""

from __future__ import annotations

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
    """The notes in a folder. Methods block for a moment; call them in threads."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._live: set[str] = set()

    def note(self, attempt: Attempt) -> None:
        """Remembers an upload before its first part is sent."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = _name(attempt)
        self._live.add(name)
        fresh = self._folder / f"{name}.new"
        fresh.write_bytes(msgspec.json.encode(attempt))
        os.replace(fresh, self._folder / name)

    def forget(self, attempt: Attempt) -> None:
        """The upload has ended."""
        self._live.discard(_name(attempt))
        (self._folder / _name(attempt)).unlink(missing_ok=True)

    def left(self) -> list[Attempt]:
        """Those that an earlier process did not end."""
        if not self._folder.is_dir():
            return []
        found = [path for path in self._folder.iterdir() if path.name not in self._live]
        return [attempt for path in found if (attempt := _read(path)) is not None]


def _name(attempt: Attempt) -> str:
    return hashlib.sha256(f"{attempt.key}\0{attempt.upload}".encode()).hexdigest()[:32]


def _read(path: Path) -> Attempt | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Attempt)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None  # torn, or ended this moment
