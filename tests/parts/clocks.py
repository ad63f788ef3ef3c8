"""Clocks that jump."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest
import trio
from trio.testing import MockClock

_IDLE_S: Final = 0.01
_STUCK_S: Final = 5.0
"""So long it waits for threads; one may wait for the clock itself."""


def working_clock(monkeypatch: pytest.MonkeyPatch) -> MockClock:
    """A clock that jumps when everything has been waiting for 10 ms, but not while threads are at work.

    A busy machine takes longer than that to come back from a thread: a minute would pass during a small
    read, and what a test gives a minute to would seem never to happen.
    """
    clock = MockClock(autojump_threshold=_IDLE_S)
    monkeypatch.setattr(trio.to_thread, "run_sync", _holding(clock, trio.to_thread.run_sync))
    return clock


def _holding(clock: MockClock, run_sync: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    at_work = 0

    async def run(*arguments: Any, **named: Any) -> Any:
        nonlocal at_work
        at_work += 1
        clock.autojump_threshold = _STUCK_S
        try:
            return await run_sync(*arguments, **named)
        finally:
            at_work -= 1
            if not at_work:
                clock.autojump_threshold = _IDLE_S

    return run
