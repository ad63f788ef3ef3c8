"""One change at a time per path, within this process."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import trio

from mountsync.paths import RelPath


class PathLocks:
    """Locks that exist as long as somebody holds or awaits them."""

    def __init__(self) -> None:
        self._locks: dict[RelPath, tuple[trio.Lock, int]] = {}

    @asynccontextmanager
    async def hold(self, *paths: RelPath) -> AsyncIterator[None]:
        """Holds all of the paths; taken in one order everywhere, so that nobody waits in a circle."""
        async with AsyncExitStack() as stack:
            for path in sorted(set(paths)):
                await stack.enter_async_context(self._one(path))
            yield

    @asynccontextmanager
    async def _one(self, path: RelPath) -> AsyncIterator[None]:
        lock, users = self._locks.get(path, (trio.Lock(), 0))
        self._locks[path] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._locks[path]
            if users == 1:
                del self._locks[path]
            else:
                self._locks[path] = lock, users - 1
