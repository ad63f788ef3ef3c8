"""Memory for blocks on their way: a few buffers, used again and again."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from mountsync.storage.modal.transport import BLOCK

_SMALL_PART: Final = 4
"""What is smaller than this part of a block gets memory of its own."""


class Buffers:
    """Lends buffers of one block each; `most` bounds how many are lent at once."""

    def __init__(self, most: int) -> None:
        self._limit = trio.CapacityLimiter(most)
        self._free: list[bytearray] = []

    @asynccontextmanager
    async def lent(self, size: int) -> AsyncIterator[memoryview]:
        """Memory of that size, a block at most, with whatever is in it.

        When nobody has a buffer any more, their memory is given back.
        """
        async with self._limit:
            if size <= BLOCK // _SMALL_PART:
                yield memoryview(bytearray(size))
                return
            buffer = self._free.pop() if self._free else bytearray(BLOCK)
            try:
                yield memoryview(buffer)[:size]
                self._free.append(buffer)  # not after an error: what was given up may still read from it
            finally:
                if self._limit.borrowed_tokens == 1:
                    self._free.clear()
