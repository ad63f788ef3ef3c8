"""Bodies on their way to rclone: it sends files of this machine's disk, so each body becomes one.

A folder in the storage's state holds them while they travel. Beside each lies a note of where it goes,
so that the next start can remove what a dead upload left on the remote, where remotes show that.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import trio

from mountsync.errors import from_os_error
from mountsync.paths import RelPath, from_bytes, to_bytes
from mountsync.storage.api import Source
from mountsync.storage.sources import PieceReader

_NOTE: Final = ".to"


class Staging:
    """The folder of bodies under way. `hold` gives a file's name in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._run = secrets.token_hex(4)
        self.folder = str(folder)

    def prepare(self) -> list[RelPath]:
        """Makes the folder, and tells where what dead processes left there was going."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        notes = [place for place in self._folder.iterdir() if place.name.endswith(_NOTE)]
        return [from_bytes(note.read_bytes()) for note in notes]

    def clear(self) -> None:
        """Removes what is there, after `prepare` told it."""
        for place in self._folder.iterdir():
            with suppress(FileNotFoundError):
                place.unlink()

    @asynccontextmanager
    async def hold(self, path: RelPath, source: Source, mtime_ns: int | None) -> AsyncIterator[str]:
        """The name, in `folder`, of a file with the body and the time; gone afterwards.

        Raises Stale when the body became shorter, NoSpace when this machine's disk is full.
        """
        name = f"{self._run}-{secrets.token_hex(8)}"
        place = self._folder / name
        try:
            await trio.to_thread.run_sync(_note, place, path)
            await _spool(place, source, mtime_ns)
            yield name
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_remove, place)


def _note(place: Path, path: RelPath) -> None:
    place.with_name(place.name + _NOTE).write_bytes(to_bytes(path))


def _remove(place: Path) -> None:
    for one in (place, place.with_name(place.name + _NOTE)):
        with suppress(FileNotFoundError):
            one.unlink()


async def _spool(place: Path, source: Source, mtime_ns: int | None) -> None:
    try:
        fd = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            async for piece in PieceReader(source):
                await trio.to_thread.run_sync(_write_all, fd, piece)
        finally:
            os.close(fd)
        if mtime_ns is not None:
            os.utime(place, ns=(mtime_ns, mtime_ns))
    except OSError as error:
        raise from_os_error(error) from error


def _write_all(fd: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(fd, rest) :]
