"""Bodies of uploads for tests: true ones, and ones that fail, stop or change; and short-hands."""

from __future__ import annotations

import random

import trio

from mountsync.model.entry import Entry, Problem
from mountsync.paths import ROOT, RelPath
from mountsync.storage.api import Storage
from mountsync.storage.sources import BytesSource


def body(size: int, seed: int = 0) -> bytes:
    """`size` bytes that look random and are the same for the same seed."""
    return random.Random(f"{size}/{seed}").randbytes(size)


class ChangingSource(BytesSource):
    """Says that the content moved on, from the `changes_after`th question on."""

    def __init__(self, data: bytes, *, changes_after: int = 0) -> None:
        super().__init__(data)
        self._left = changes_after

    def still(self) -> bool:
        self._left -= 1
        return self._left >= 0


class BreakingSource(BytesSource):
    """Raises `error` when a byte from `at` on is wanted."""

    def __init__(self, data: bytes, at: int, error: Exception) -> None:
        super().__init__(data)
        self._at = at
        self._error = error

    async def read(self, offset: int, length: int) -> bytes:
        await trio.lowlevel.checkpoint()
        if offset + length > self._at:
            raise self._error
        return await super().read(offset, length)


class StoppingSource(BytesSource):
    """Waits for ever when a byte from `at` on is wanted; `reached` tells that it does."""

    def __init__(self, data: bytes, at: int) -> None:
        super().__init__(data)
        self._at = at
        self.reached = trio.Event()

    async def read(self, offset: int, length: int) -> bytes:
        if offset + length > self._at:
            self.reached.set()
            await trio.sleep_forever()
        return await super().read(offset, length)


async def put(storage: Storage, path: str, data: bytes = b"", **more) -> Entry:
    """Writes one object."""
    return await storage.write(RelPath(path), BytesSource(data), **more)


async def get(storage: Storage, path: str, offset: int = 0, length: int | None = None, **more) -> bytes:
    """Reads one object or a range of it."""
    async with storage.read(RelPath(path), offset, length, **more) as pieces:
        return b"".join([piece async for piece in pieces])


async def items(storage: Storage, path: str = ROOT, *, recursive: bool = True) -> dict[str, Entry | Problem]:
    """A listing as a dict; a path that comes twice is an error."""
    found: dict[str, Entry | Problem] = {}
    async with storage.list(RelPath(path), recursive=recursive) as batches:
        async for batch in batches:
            for at, item in batch:
                assert at not in found, f"{at!r} was listed twice"
                found[at] = item
    return found
