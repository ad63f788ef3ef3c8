"""Memory for blocks on their way: a few buffers, used again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from mountsync.storage.modal.transport import BLOCK


class Buffers:
    """Lends buffers of one block each; `most` bounds how many are lent at once."""

    def __init__(self, most: int) -> None:
        self._limit = trio.CapacityLimiter(most)
        self._free: list[bytearray] = []

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[bytearray]:
        """A buffer with whatever is in it. When nobody has one any more, their memory is given back."""
        async with self._limit:
            buffer = self._free.pop() if self._free else bytearray(BLOCK)
            try:
                yield buffer
                self._free.append(buffer)  # not after an error: what was given up may still read from it
            finally:
                if self._limit.borrowed_tokens == 1:
                    self._free.clear()
