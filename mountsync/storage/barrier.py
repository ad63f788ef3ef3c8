"""Group commit: many wait, one does the work for all who came before it began."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio


class SharedBarrier:
    """Runs `work` so that each caller returns after a run that began when it had already called.

    Callers that come while a run is under way share the next one. An error goes to the caller that
    ran it; the others try again.
    """

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._arrived = 0
        self._covered = 0
        self._lock = trio.Lock()

    async def wait(self) -> None:
        """Returns when a run that began after this call has succeeded."""
        self._arrived += 1
        mine = self._arrived
        async with self._lock:
            if self._covered >= mine:
                return
            covers = self._arrived
            await self._work()
            self._covered = covers
