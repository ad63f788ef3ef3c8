"""Storages that pour, and where it goes, for tests."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from mountsync.storage.memory import MemoryStorage

PIECE = 1 << 20


class Puddle:
    """Takes what is poured. `error` is raised at its offset; `late` counts what comes after `closed`."""

    def __init__(self, error: Exception | None = None, at: int = 0) -> None:
        self.bytes = bytearray()
        self.calls = 0
        self.closed = False
        self.late = 0
        self._error = error
        self._at = at

    def put_at(self, data: memoryview, offset: int) -> None:
        self.calls += 1
        self.late += self.closed
        if self._error is not None and offset + len(data) > self._at:
            raise self._error
        end = offset + len(data)
        self.bytes.extend(bytes(max(0, end - len(self.bytes))))
        self.bytes[offset:end] = data

    def get_at(self, buffer: memoryview, offset: int) -> None:
        buffer[:] = self.bytes[offset : offset + len(buffer)]


class PouringMemory(MemoryStorage):
    """Pours by pieces of a MiB out of threads. `between` is awaited before each; `cut` ends it early."""

    between: Callable[[int], Awaitable[object]] | None = None
    cut: int | None = None

    @asynccontextmanager
    async def pour(self, path, into, offset=0, length=None, *, expect=None):
        async with self.read(path, offset, length, expect=expect) as pieces:
            data = b"".join([piece async for piece in pieces])[: self.cut]
        yield _Pours(self, data, into, offset)


class _Pours:
    def __init__(self, storage: PouringMemory, data: bytes, into, offset: int) -> None:
        self._storage, self._left, self._into, self._at = storage, memoryview(data), into, offset

    def __aiter__(self):
        return self

    async def __anext__(self) -> int:
        piece, self._left = self._left[:PIECE], self._left[PIECE:]
        if not piece:
            raise StopAsyncIteration
        if self._storage.between is not None:
            await self._storage.between(self._at)
        await trio.to_thread.run_sync(self._into, piece, self._at)
        self._at += len(piece)
        return len(piece)
