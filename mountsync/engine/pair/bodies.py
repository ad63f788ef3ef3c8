"""Bodies on their way between two storages, hashed while they pass."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final

import trio

from mountsync.model.entry import EMPTY_DIGEST, Digest
from mountsync.storage.api import Source
from mountsync.storage.sources import Basin, Overheard

_INLINE: Final = 64 << 10
"""Bytes that are hashed on the loop: a thread hop would take longer."""
_BACK: Final = 1 << 18
"""Bytes that are read back at once: they stay in a processor's own cache."""
_WAITING: Final = 64 << 20
"""Bytes kept, at most, that were read before those in front of them."""


class HashingSource:
    """A source that knows the digest of its body once all of it was read, in whatever order.

    What else the source can do it can do too. Its own methods would hold it in a cycle there.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._passing = passing = _Passing()
        load = getattr(source, "load", None)
        if load is not None:
            self.load = partial(_load, load, passing)
        pour = getattr(source, "pour", None)
        if pour is not None:
            self.pour = partial(_pour, pour, passing)
        flow = getattr(source, "flow", None)
        if flow is not None:
            self.flow = partial(_flow, flow, passing)

    @property
    def size(self) -> int:
        return self._source.size

    def still(self) -> bool:
        return self._source.still()

    async def read(self, offset: int, length: int) -> bytes:
        data = await self._source.read(offset, length)
        await self._passing.take(offset, data)
        return data

    @property
    def digest(self) -> Digest | None:
        """The sha256, None when not all of it passed or not nearly in order."""
        return EMPTY_DIGEST if self.size == 0 else self._passing.digest(self.size)


class _Passing:
    """The digest of a body, as far as it has passed."""

    def __init__(self) -> None:
        self._state = hashlib.sha256()
        self._at = 0
        self._early: dict[int, bytes] = {}
        self._held = 0
        self._given_up = False
        self._turn = trio.Lock()

    def digest(self, size: int) -> Digest | None:
        """The sha256 if so many bytes have passed, and nearly in order."""
        return Digest(self._state.hexdigest()) if self._at == size and not self._given_up else None

    def whole(self, data: bytes) -> None:
        """The whole body has passed."""
        self._state, self._at = hashlib.sha256(data), len(data)

    async def take(self, offset: int, data: bytes) -> None:
        """A piece has passed; it waits for those in front of it."""
        if self._given_up:
            return
        async with self._turn:
            if offset > self._at:
                self._keep(offset, data)
                return
            await self.feed(data[self._at - offset :])
            await self._catch_up()

    async def _catch_up(self) -> None:
        while self._early:
            first = min(self._early)
            if first > self._at:
                return
            kept = self._early.pop(first)
            self._held -= len(kept)
            await self.feed(kept[self._at - first :])

    def _keep(self, offset: int, data: bytes) -> None:
        old = self._early.get(offset, b"")
        if len(data) <= len(old):
            return
        self._held += len(data) - len(old)
        self._early[offset] = data
        if self._held > _WAITING:
            self._given_up = True
            self._early.clear()

    async def feed(self, data: bytes) -> None:
        """The next bytes have passed."""
        self._at += len(data)
        if len(data) <= _INLINE:
            self._state.update(data)
        else:
            await trio.to_thread.run_sync(self._state.update, data)

    def read_back(self, basin: Basin, buffer: memoryview, count: int) -> None:
        """Hashes what was poured, in its order: that is not the order in which it came."""
        end = self._at + count
        while self._at < end:
            part = buffer[: end - self._at]
            basin.get_at(part, self._at)
            self._state.update(part)
            self._at += len(part)


def _load(load: Callable[[], bytes], passing: _Passing) -> bytes:
    data = load()
    passing.whole(data)
    return data


@asynccontextmanager
async def _flow(
    flow: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]], passing: _Passing
) -> AsyncIterator[AsyncIterator[bytes]]:
    async with flow() as pieces:
        yield Overheard(pieces, passing.feed)


@asynccontextmanager
async def _pour(
    pour: Callable[[Basin], AbstractAsyncContextManager[AsyncIterator[int]]], passing: _Passing, basin: Basin
) -> AsyncIterator[AsyncIterator[int]]:
    buffer = memoryview(bytearray(_BACK))

    async def hear(count: int) -> None:
        await trio.to_thread.run_sync(passing.read_back, basin, buffer, count)

    async with pour(basin) as counts:
        yield Overheard(counts, hear)
