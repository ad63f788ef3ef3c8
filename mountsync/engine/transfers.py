"""Bodies on their way: progress for whoever looks, and the bandwidth limit."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import trio

from mountsync.formats.sizes import Bandwidth
from mountsync.model.status import Transfer
from mountsync.storage.api import Source

_FREE_BYTES = 1 << 16
"""Bodies up to this size are not shown: they are gone before anybody could read the line."""


@dataclass(slots=True, eq=False)
class Meter:
    """One body on its way."""

    path: str
    direction: str
    size: int
    began: float
    done: int = 0

    def rate(self, now: float) -> float:
        """Bytes per second since it began."""
        return self.done / max(now - self.began, 1e-3)


class Pace:
    """Lets bytes through at a rate; waiting is shared by all that go the same way."""

    def __init__(self, rate: int | None) -> None:
        """`rate` in bytes per second, None for no limit."""
        self._rate = rate
        self._free_at = 0.0

    @property
    def is_limited(self) -> bool:
        """Whether anything ever waits."""
        return self._rate is not None

    async def take(self, count: int) -> None:
        """Returns when `count` bytes may travel."""
        if self._rate is None:
            return
        now = trio.current_time()
        begin = max(self._free_at, now)
        self._free_at = begin + count / self._rate
        if begin > now:
            await trio.sleep(begin - now)


@dataclass(slots=True)
class Transfers:
    """All bodies on their way of one session."""

    up: Pace = field(default_factory=lambda: Pace(None))
    down: Pace = field(default_factory=lambda: Pace(None))
    _running: dict[int, Meter] = field(default_factory=dict)
    _keys: itertools.count[int] = field(default_factory=itertools.count)

    @classmethod
    def limited(cls, limit: Bandwidth) -> Transfers:
        """With the limits of an option."""
        return cls(Pace(limit.up), Pace(limit.down))

    def begin(self, path: str, direction: str, size: int) -> Running:
        """Registers a body; use the result as a context manager."""
        return Running(self, Meter(path, direction, size, trio.current_time()))

    def snapshot(self) -> list[Transfer]:
        """What is on its way now, oldest first; small bodies are left out."""
        now = trio.current_time()
        return [
            Transfer(path=m.path, direction=m.direction, done=m.done, size=m.size, rate=m.rate(now))
            for m in self._running.values()
            if m.size > _FREE_BYTES
        ]

    def add(self, meter: Meter) -> int:
        """Puts a meter on the list and returns its key."""
        key = next(self._keys)
        self._running[key] = meter
        return key

    def remove(self, key: int) -> None:
        """Takes a meter from the list."""
        del self._running[key]


class Running:
    """A registered body."""

    def __init__(self, transfers: Transfers, meter: Meter) -> None:
        self._transfers = transfers
        self._key = -1
        self.meter = meter

    def __enter__(self) -> Running:
        self._key = self._transfers.add(self.meter)
        return self

    def __exit__(self, *_: object) -> None:
        self._transfers.remove(self._key)

    @property
    def pace(self) -> Pace:
        """The limit that holds for this body."""
        return self._transfers.up if self.meter.direction == "up" else self._transfers.down

    async def passed(self, count: int) -> None:
        """Counts bytes and waits for the bandwidth limit."""
        self.meter.done += count
        await self.pace.take(count)


class MeteredSource:
    """A source whose reads are counted and held to the bandwidth limit."""

    def __init__(self, source: Source, running: Running) -> None:
        self._source = source
        self._running = running
        descriptor = getattr(source, "fileno", None)
        # What a storage copies by the descriptor, inside the kernel, is not counted nor held back.
        if descriptor is not None and running.meter.size > _FREE_BYTES and not running.pace.is_limited:
            self.fileno = descriptor

    @property
    def size(self) -> int:
        return self._source.size

    async def read(self, offset: int, length: int) -> bytes:
        data = await self._source.read(offset, length)
        await self._running.passed(len(data))
        return data

    def still(self) -> bool:
        return self._source.still()
