"""The body of an upload: cut in chunks, hashed while it streams."""

from __future__ import annotations

import hashlib
from typing import Final

import trio

from mountsync.errors import Stale
from mountsync.storage.api import Source
from mountsync.storage.sources import PIECE, StorageSource

_INLINE: Final = 1 << 14
"""Pieces up to this size are hashed on the loop: less than the cost of a thread."""


class RunningHash:
    """A hash of the content from its start on, fed in order."""

    def __init__(self, name: str) -> None:
        self._hash = hashlib.new(name, usedforsecurity=False)
        self._busy = False
        self.done = 0
        """Bytes hashed."""

    async def feed(self, offset: int, data: bytes) -> None:
        """Takes what continues the bytes that it has; ignores the rest."""
        skip = self.done - offset
        if self._busy or not 0 <= skip < len(data):
            return
        fresh = memoryview(data)[skip:]
        if len(fresh) <= _INLINE:
            self._hash.update(fresh)
        else:
            await self._update(fresh)
        self.done += len(fresh)

    async def _update(self, fresh: memoryview) -> None:
        """In a thread, and to its end: a cancelled hash would have taken unknown bytes."""
        self._busy = True
        try:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(self._hash.update, fresh)
        finally:
            self._busy = False

    def hexdigest(self) -> str:
        """The digest in hex of the bytes that it has."""
        return self._hash.hexdigest()

    async def finish(self, source: Source) -> str:
        """The digest in hex, after the bytes that nobody fed were read from `source`."""
        while self.done < source.size:
            data = await source.read(self.done, PIECE)
            if not data:
                raise Stale("the source ended early")
            await self.feed(self.done, data)
        return self._hash.hexdigest()


class Window:
    """One chunk of a source: a source of its own, whose bytes are hashed as they are read."""

    def __init__(self, source: Source, offset: int, size: int, whole: RunningHash | None = None) -> None:
        """`whole` is fed with what is read, when this is the only reader of the source."""
        self._source = source
        self._offset = offset
        self._size = size
        self._own = RunningHash("sha256")
        self._whole = whole

    @property
    def size(self) -> int:
        return self._size

    async def read(self, offset: int, length: int) -> bytes:
        length = max(0, min(length, self._size - offset))
        data = await self._source.read(self._offset + offset, length)
        if len(data) != length:
            raise Stale("the source ended early")
        await self._own.feed(offset, data)
        if self._whole is not None:
            await self._whole.feed(self._offset + offset, data)
        return data

    def still(self) -> bool:
        return self._source.still()

    async def digest(self) -> str:
        """The sha256 of the chunk; reads what was not read yet."""
        while self._own.done < self._size:
            await self.read(self._own.done, PIECE)
        return self._own.hexdigest()


def is_costly(source: Source) -> bool:
    """Whether reading the source twice costs a transfer."""
    return isinstance(source, StorageSource)
