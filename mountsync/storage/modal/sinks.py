"""Where the bytes of a slice go as they come: to a reader in trio, or away at once. On the asyncio loop."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from mountsync.storage.api import Into
from mountsync.storage.modal.bridge import Flowing

HANDED_AHEAD: Final = 2
"""Pieces of a MiB that wait for their reader before the sender is held up: they take memory."""
POURED_AHEAD: Final = 8
"""The same for counts of bytes that went away, which take none."""
_TOLD: Final = 0.05
"""Seconds between two tellings of bytes that went away: each wakes another thread."""


class _Sink:
    """What both have of their flow."""

    def __init__(self, flow: Flowing[Any]) -> None:
        self._flow = flow

    @property
    def is_full(self) -> bool:
        """As `Sink.is_full`."""
        return self._flow.is_full

    def when_taken(self, act: Callable[[], None]) -> None:
        """As `Sink.when_taken`."""
        self._flow.when_taken(act)


class Handed(_Sink):
    """Hands pieces over."""

    borrows = False

    def give(self, piece: bytes | memoryview) -> None:
        """As `Sink.give`."""
        self._flow.give(bytes(piece))


class Poured(_Sink):
    """Gives pieces away at once, and hands over how many bytes that were."""

    borrows = True

    def __init__(self, flow: Flowing[int], into: Into, start: int, length: int) -> None:
        super().__init__(flow)
        self._into = into
        self._told = self._at = start
        self._end = start + length
        self._told_at = time.monotonic()

    def give(self, piece: bytes | memoryview) -> None:
        """As `Sink.give`."""
        self._into(memoryview(piece), self._at)
        self._at += len(piece)
        now = time.monotonic()
        if now - self._told_at >= _TOLD or self._at == self._end:
            self._flow.give(self._at - self._told)
            self._told, self._told_at = self._at, now
