"""Attempts at a step that changes a volume: each begins with a look, so that it is still the right step.

What the server asked to send later, or what it may have done although its answer was lost, must not be
sent again blindly: meanwhile somebody else can have been at work there.
"""

from __future__ import annotations

import random

import trio

from mountsync.storage.modal.patience import Limits, Patience
from mountsync.storage.modal.refusals import TryAgain


class Attempts:
    """Those of one step. They end together, `Limits.call` seconds after the first unless told otherwise."""

    def __init__(self, limits: Limits, within: float | None = None) -> None:
        self._patience = Patience(limits, trio.current_time, random.random, within)
        self.doubtful = False
        """An attempt that failed may have taken effect."""

    @property
    def left(self) -> float:
        """Seconds that one more attempt may take."""
        return max(self._patience.left(), 0.1)

    async def pause(self, failed: TryAgain) -> None:
        """Waits for the next attempt. Raises the error of the one that failed when there is to be none."""
        self.doubtful = self.doubtful or failed.doubtful
        delay = self._delay(failed)
        if delay is None:
            raise failed.error from failed
        await trio.sleep(delay)

    def _delay(self, failed: TryAgain) -> float | None:
        if failed.retry_after is not None:
            return self._patience.after_request(failed.retry_after)
        return self._patience.after_loss()
