"""How long one call keeps trying. Pure but for the clock and chance that it is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from mountsync.storage.modal.refusals import RETRIED


@dataclass(frozen=True, slots=True)
class Limits:
    """Seconds and counts that bound every operation."""

    connect: float = 3.0
    """For one server address."""
    call: float = 15.0
    """For one call with all its attempts, waits that the server asked for included."""
    idle: float = 20.0
    """Between two pieces of a stream or a body."""
    stream: float = 1800.0
    """For one stream or body as a whole, however steadily it comes.

    On a line that carries 40 kB in a second this is enough for the eight large blocks that travel at once,
    and for a listing of 700,000 names.
    """
    per_block: float = 0.004
    """More for a call that names the blocks of a file, for each: it is asked about by its digest of 32
    bytes and answered with a URL of some hundreds. A line on which this is too little would need two months
    for the blocks of the largest file.
    """
    attempts: int = 4
    first_delay: float = 0.1
    block_attempts: int = 5
    calls_at_once: int = 64
    blocks_at_once: int = 32
    large_blocks_at_once: int = 8


@dataclass(slots=True)
class Patience:
    """The attempts of one call. `doubtful`: a failed attempt may have taken effect.

    Its time begins when it is first asked for: with the first attempt, so that waiting for a turn is none
    of it; or with a failure after progress.
    """

    limits: Limits
    clock: Callable[[], float]
    chance: Callable[[], float]
    """A number in [0, 1), to spread retries."""
    within: float | None = None
    """Seconds for all attempts; by default those of any call."""
    doubtful: bool = False
    _failures: int = 0
    _end: float | None = field(default=None, init=False)

    def left(self) -> float:
        """Seconds until the deadline, never negative."""
        now = self.clock()
        if self._end is None:
            self._end = now + (self.limits.call if self.within is None else self.within)
        return max(0.0, self._end - now)

    def renew(self) -> None:
        """What was tried is getting on: its time begins anew with the next failure, which counts as ever."""
        self._end = None

    def after_refusal(self, status: str, retry_after: float | None) -> float | None:
        """Seconds to wait before the next attempt; None when there is to be none."""
        if retry_after is not None:
            self.doubtful = self.doubtful or status in RETRIED
            return self.after_request(retry_after)
        return self.after_loss() if status in RETRIED else None

    def after_request(self, retry_after: float) -> float | None:
        """The same, when the server asked for so many seconds: such attempts are not counted."""
        return self._before_end(max(retry_after, 0.1))

    def after_loss(self) -> float | None:
        """The same, when no answer came."""
        self.doubtful = True
        self._failures += 1
        if self._failures >= self.limits.attempts:
            return None
        delay: float = min(self.limits.first_delay * 2 ** (self._failures - 1), 1.0)
        return self._before_end(delay * (0.75 + 0.5 * self.chance()))

    def _before_end(self, delay: float) -> float | None:
        return delay if delay < self.left() else None
