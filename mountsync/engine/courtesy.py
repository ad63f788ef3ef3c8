"""The background gives way to programs that work in the folder.

Both share one interpreter: a copied tree that is uploaded while it is still being copied takes twice as
long to copy, and nobody gains by it. What waits is in the journal meanwhile.
"""

from __future__ import annotations

from typing import Final

import trio

from mountsync.vfs.traffic import Traffic

_LOOK_S: Final = 0.03
"""How long the folder is watched to see whether it is at rest."""
_MOST_S: Final = 0.5
"""The longest wait: also under a load that never pauses something is uploaded every so often."""
_BUSY_PER_S: Final = 1000
"""Requests per second from which on the folder is busy; a film is played with fewer than a hundred."""


class Courtesy:
    """Waits for a moment in which the folder is at rest."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._count = traffic.requests
        self._at = trio.current_time()
        self._was_busy = False

    async def wait(self) -> bool:
        """Returns when few requests come, or when that took too long; tells whether few come."""
        patience = trio.current_time() + _MOST_S
        while self._is_busy():
            if trio.current_time() >= patience:
                return False
            await trio.sleep(_LOOK_S)
        return True

    def _is_busy(self) -> bool:
        """Whether many requests came since the last look."""
        now, count = trio.current_time(), self._traffic.requests
        asked, took = count - self._count, now - self._at
        if asked > _BUSY_PER_S * max(took, _LOOK_S):
            self._was_busy = True
        elif took >= _LOOK_S or not self._was_busy:
            self._was_busy = False
        else:
            return True  # too short a time to tell
        self._at, self._count = now, count
        return self._was_busy
