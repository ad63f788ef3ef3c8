"""Bodies on their way: progress for whoever looks, and the bandwidth limit."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from functools import partial

import trio

from mountsync.engine.bell import Bell
from mountsync.formats.sizes import Bandwidth
from mountsync.model.status import CYCLE_BOUNDS, Totals, Transfer
from mountsync.storage.api import Source
from mountsync.storage.sources import Basin, Overheard

_FREE_BYTES = 1 << 16
"""Bodies up to this size are not shown: they are gone before anybody could read the line."""
_BEGAN = 100
"""Paths that are kept for the next event; of more only the last are told."""


@dataclass(slots=True)
class Tally:
    """What is counted over the life of a session; `Transfers` of several runs may share one."""

    since: float = field(default_factory=time.time)
    moved: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    """Bytes by direction, of bodies that are not on their way any more."""
    bodies: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    """Bodies that arrived, by direction."""
    failures: int = 0
    events_lost: int = 0
    cycles: int = 0
    cycle_seconds: float = 0.0
    began: deque[str] = field(default_factory=lambda: deque(maxlen=_BEGAN))
    """Paths of bodies that began to travel, for whoever tells of them and then clears it."""
    bell: Bell = field(default_factory=Bell)
    """Rings when a body begins to travel."""
    _within: list[int] = field(default_factory=lambda: [0] * len(CYCLE_BOUNDS))

    @contextmanager
    def cycle(self) -> Iterator[None]:
        """Counts the block as one cycle."""
        began = trio.current_time()
        try:
            yield
        finally:
            took = trio.current_time() - began
            self.cycles += 1
            self.cycle_seconds += took
            for place, bound in enumerate(CYCLE_BOUNDS):
                self._within[place] += took <= bound

    def totals(self, running: Iterable[Meter] = ()) -> Totals:
        """All of it, with what is on its way counted as far as it got."""
        moved = dict(self.moved)
        for meter in running:
            moved[meter.direction] += meter.done
        return Totals(
            since=self.since,
            bytes_up=moved["up"],
            bytes_down=moved["down"],
            files_up=self.bodies["up"],
            files_down=self.bodies["down"],
            failures=self.failures,
            events_lost=self.events_lost,
            cycles=self.cycles,
            cycle_seconds=self.cycle_seconds,
            cycles_within=list(self._within),
        )


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
    tally: Tally = field(default_factory=Tally)
    _running: dict[int, Meter] = field(default_factory=dict)
    _keys: itertools.count[int] = field(default_factory=itertools.count)

    @classmethod
    def limited(cls, limit: Bandwidth, tally: Tally | None = None) -> Transfers:
        """With the limits of an option; `tally` goes on counting what others counted before."""
        return cls(Pace(limit.up), Pace(limit.down), tally or Tally())

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

    def totals(self) -> Totals:
        """What was counted until now."""
        return self.tally.totals(self._running.values())

    def add(self, meter: Meter) -> int:
        """Puts a meter on the list and returns its key."""
        key = next(self._keys)
        self._running[key] = meter
        self.tally.began.append(meter.path)
        self.tally.bell.ring()
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

    def __exit__(self, kind: object, *_: object) -> None:
        self._transfers.remove(self._key)
        meter, tally = self.meter, self._transfers.tally
        # What a storage copies by the descriptor is not seen passing: an arrived body counts in full.
        tally.moved[meter.direction] += meter.size if kind is None else meter.done
        tally.bodies[meter.direction] += kind is None

    @property
    def pace(self) -> Pace:
        """The limit that holds for this body."""
        return self._transfers.up if self.meter.direction == "up" else self._transfers.down

    async def passed(self, count: int) -> None:
        """Counts bytes and waits for the bandwidth limit."""
        self.meter.done += count
        await self.pace.take(count)


class MeteredSource:
    """A source whose reads are counted and held to the bandwidth limit.

    What else the source can do it can do too. Its own methods would hold it in a cycle there.
    """

    def __init__(self, source: Source, running: Running) -> None:
        self._source = source
        self._running = running
        is_free = not running.pace.is_limited
        descriptor = getattr(source, "fileno", None)
        # What a storage copies by the descriptor, inside the kernel, is not counted nor held back.
        if descriptor is not None and running.meter.size > _FREE_BYTES and is_free:
            self.fileno = descriptor
        load = getattr(source, "load", None)
        if load is not None and is_free:
            self.load = partial(_load, load, running)
        flow = getattr(source, "flow", None)
        if flow is not None and is_free:  # a connection that is held back may be cut
            self.flow = partial(_flow, flow, running)
        pour = getattr(source, "pour", None)
        if pour is not None and is_free:
            self.pour = partial(_pour, pour, running)
        read_into = getattr(source, "read_into", None)
        if read_into is not None:
            self.read_into = partial(_read_into, read_into, running)

    @property
    def size(self) -> int:
        return self._source.size

    async def read(self, offset: int, length: int) -> bytes:
        data = await self._source.read(offset, length)
        await self._running.passed(len(data))
        return data

    def still(self) -> bool:
        return self._source.still()


def _load(load: Callable[[], bytes], running: Running) -> bytes:
    data = load()
    running.meter.done += len(data)
    return data


@asynccontextmanager
async def _flow(
    flow: Callable[[], AbstractAsyncContextManager[AsyncIterator[bytes]]], running: Running
) -> AsyncIterator[AsyncIterator[bytes]]:
    async def count(data: bytes) -> None:
        await running.passed(len(data))

    async with flow() as pieces:
        yield Overheard(pieces, count)


@asynccontextmanager
async def _pour(
    pour: Callable[[Basin], AbstractAsyncContextManager[AsyncIterator[int]]], running: Running, basin: Basin
) -> AsyncIterator[AsyncIterator[int]]:
    async with pour(basin) as counts:
        yield Overheard(counts, running.passed)


async def _read_into(
    read_into: Callable[[int, memoryview], Awaitable[int]], running: Running, offset: int, buffer: memoryview
) -> int:
    count = await read_into(offset, buffer)
    await running.passed(count)
    return count
