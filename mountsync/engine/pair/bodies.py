"""Bodies on their way between two storages, hashed while they pass."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
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
    """A source that knows the digest of its body once all of it was read, in whatever order."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._state = hashlib.sha256()
        self._at = 0
        self._early: dict[int, bytes] = {}
        self._held = 0
        self._given_up = False
        self._turn = trio.Lock()
        load = getattr(source, "load", None)
        if load is not None:
            self._load: Callable[[], bytes] = load
            self.load = self._load_hashed

        pour = getattr(source, "pour", None)
        if pour is not None:
            self._pour: Callable[[Basin], AbstractAsyncContextManager[AsyncIterator[int]]] = pour
            self.pour = self._pour_hashed
        flow = getattr(source, "flow", None)
        if flow is not None:
            self._flow: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]] = flow
            self.flow = self._flow_hashed

    @property
    def size(self) -> int:
        return self._source.size

    def still(self) -> bool:
        return self._source.still()

    def _load_hashed(self) -> bytes:
        data = self._load()
        self._state, self._at = hashlib.sha256(data), len(data)
        return data

    @asynccontextmanager
    async def _flow_hashed(self) -> AsyncIterator[AsyncIterator[bytes]]:
        async with self._flow() as pieces:
            yield Overheard(pieces, self._feed)

    async def read(self, offset: int, length: int) -> bytes:
        data = await self._source.read(offset, length)
        if not self._given_up:
            async with self._turn:
                await self._take(offset, data)
        return data

    @asynccontextmanager
    async def _pour_hashed(self, basin: Basin) -> AsyncIterator[AsyncIterator[int]]:
        buffer = memoryview(bytearray(_BACK))

        async def hear(count: int) -> None:
            await trio.to_thread.run_sync(self._hash_back, basin, buffer, count)

        async with self._pour(basin) as counts:
            yield Overheard(counts, hear)

    def _hash_back(self, basin: Basin, buffer: memoryview, count: int) -> None:
        """Hashes what was poured, in its order: that is not the order in which it came."""
        end = self._at + count
        while self._at < end:
            part = buffer[: end - self._at]
            basin.get_at(part, self._at)
            self._state.update(part)
            self._at += len(part)

    async def _take(self, offset: int, data: bytes) -> None:
        if offset > self._at:
            self._keep(offset, data)
            return
        await self._feed(data[self._at - offset :])
        while self._early:
            first = min(self._early)
            if first > self._at:
                return
            kept = self._early.pop(first)
            self._held -= len(kept)
            await self._feed(kept[self._at - first :])

    def _keep(self, offset: int, data: bytes) -> None:
        old = self._early.get(offset, b"")
        if len(data) <= len(old):
            return
        self._held += len(data) - len(old)
        self._early[offset] = data
        if self._held > _WAITING:
            self._given_up = True
            self._early.clear()

    async def _feed(self, data: bytes) -> None:
        self._at += len(data)
        if len(data) <= _INLINE:
            self._state.update(data)
        else:
            await trio.to_thread.run_sync(self._state.update, data)

    @property
    def digest(self) -> Digest | None:
        """The sha256, None when not all of it passed or not nearly in order."""
        if self.size == 0:
            return EMPTY_DIGEST
        return Digest(self._state.hexdigest()) if self._at == self.size and not self._given_up else None
