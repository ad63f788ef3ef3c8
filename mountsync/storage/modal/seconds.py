"""Which of Modal's seconds are over. Pure.

Modal tells times in whole seconds of a clock that is not ours, and no call asks it for the time. What
is known of it comes from our own writes: each has a time of Modal's that lies between two of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mountsync.storage.modal.tokens import YOUNG
from mountsync.storage.modal.transport import NativeEntry

_SEEN: Final = 2.0
"""Seconds after which a version that was seen cannot be rewritten within its own second any more."""
_SOON: Final = 1.0
"""What is seen so many seconds after a write was answered is taken for it ..."""
_SLACK: Final = 0.5
"""... or what is so much younger than it can be, since clocks drift and Modal has several."""
_KEPT: Final = 300.0
"""Seconds for which observations are taken together; clocks drift, and are set."""
_SWEEP_AT: Final = 2000


class ModalClock:
    """What our own writes told of Modal's clock. `clock`: seconds of ours, monotonic."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._ahead: tuple[float, float] | None = None
        """Modal's clock is ahead of ours by so much at least, and by so much at most."""
        self._since = 0.0

    def learn(self, mtime: int, began: float) -> None:
        """A write of ours got this time, and was not begun before `began`."""
        now = self._clock()
        least, most = mtime - now, mtime + 1 - began
        if self._ahead is not None and now < self._since + _KEPT:
            narrowed = max(least, self._ahead[0]), min(most, self._ahead[1])
            if narrowed[0] <= narrowed[1]:
                self._ahead = narrowed
                return
        self._ahead, self._since = (least, most), now

    def is_over(self, mtime: float, local: float) -> bool:
        """Whether nothing can get this time any more. `local`: this machine's time, since 1970."""
        if self._ahead is None:
            return local >= mtime + YOUNG
        return self._clock() + self._ahead[0] >= mtime + 1

    def can_be_of(self, mtime: int, answered: float) -> bool:
        """Whether what is seen now with this time can be what we wrote, which was answered at `answered`."""
        if self._ahead is None:
            return self._clock() <= answered + _SOON
        return mtime <= answered + self._ahead[1] + _SLACK


class Sightings:
    """When versions were seen first whose second may not be over. `now`: seconds since 1970."""

    def __init__(self, clock: ModalClock, now: Callable[[], float]) -> None:
        self._clock = clock
        self._now = now
        self._first: dict[str, tuple[int, int, float]] = {}
        self._sweep_at = _SWEEP_AT

    def is_young(self, native: NativeEntry) -> bool:
        """Whether what is seen now may still be rewritten unseen: with the same size, in the same second.

        However far the clocks are apart, the second of what was seen is over when a second has gone by.
        """
        now = self._now()
        if self._clock.is_over(native.mtime, now):
            return False
        size, mtime, first = self._first.get(native.path, (-1, -1, now))
        if (size, mtime) != (native.size, native.mtime):
            first = now
            self._first[native.path] = (native.size, native.mtime, now)
            self._sweep(now)
        return now < first + _SEEN

    def _sweep(self, now: float) -> None:
        if len(self._first) < self._sweep_at:
            return
        self._first = {
            path: seen for path, seen in self._first.items() if not self._clock.is_over(seen[1], now)
        }
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._first))
