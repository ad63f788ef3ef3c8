"""A signal that may be rung often and wakes whoever waits once."""

from __future__ import annotations

import trio


class Bell:
    """`ring` is cheap and can be called from anywhere on the loop."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def ring(self) -> None:
        """Wakes the waiter, now or when it comes."""
        self._event.set()

    async def wait(self) -> None:
        """Returns once it was rung since the last time."""
        await self._event.wait()
        self._event = trio.Event()

    async def wait_at_most(self, seconds: float) -> bool:
        """As `wait`, but gives up after that time; tells whether it was rung."""
        with trio.move_on_after(max(0.0, seconds)):
            await self.wait()
            return True
        return False
