"""Clocks that jump."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

_STUCK_S: Final = 5.0
"""So long it waits for threads; one may wait for the clock itself."""


@contextmanager
def working_clock(idle_s: float = 0.01) -> Iterator[MockClock]:
    """A clock that jumps when everything has been waiting so long, but not while threads are at work.

    A busy machine takes longer than that to come back from a thread: a minute would pass during a small
    read, and what a test gives a minute to would seem never to happen.
    """
    clock = MockClock(autojump_threshold=idle_s)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trio.to_thread, "run_sync", _holding(clock, trio.to_thread.run_sync))
        yield clock


def _holding(clock: MockClock, run_sync: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    idle_s, at_work = clock.autojump_threshold, 0

    async def run(*arguments: Any, **named: Any) -> Any:
        nonlocal at_work
        at_work += 1
        clock.autojump_threshold = _STUCK_S
        try:
            return await run_sync(*arguments, **named)
        finally:
            at_work -= 1
            if not at_work:
                clock.autojump_threshold = idle_s

    return run
