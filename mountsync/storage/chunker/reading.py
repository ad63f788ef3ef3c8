"""Reads files in chunks: only the chunks of a range, some pieces ahead, in order."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import trio

from mountsync.errors import Corrupt, MountsyncError, NotFound, Stale
from mountsync.model.entry import Token
from mountsync.paths import RelPath
from mountsync.storage.api import Into, Storage, SupportsPour
from mountsync.storage.chunker.layout import Layout

_SEGMENT: Final = 8 << 20
"""Bytes that one read of the base asks for at most."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A range of bytes of one chunk."""

    path: RelPath
    token: Token | None
    offset: int
    length: int


def segments(layout: Layout, offset: int, length: int | None, most: int = _SEGMENT) -> Iterator[Segment]:
    """The ranges of chunks that make up `length` bytes from `offset`; real sizes count, not the option."""
    start = 0
    end = None if length is None else offset + length
    for piece in layout.chunks:
        size = piece.entry.size
        low = max(0, offset - start)
        high = size if end is None else min(size, end - start)
        for at in range(low, high, most):
            yield Segment(piece.path, piece.entry.token, at, min(most, high - at))
        start += size


@dataclass(slots=True)
class _Flight:
    """One segment that is being read."""

    segment: Segment
    pieces: list[bytes] = field(default_factory=list)
    error: MountsyncError | None = None
    landed: trio.Event = field(default_factory=trio.Event)


class _Ahead:
    """Gives the bytes of segments in order, while later ones are read already."""

    def __init__(self, base: Storage, waiting: Iterator[Segment], nursery: trio.Nursery, width: int) -> None:
        self._base = base
        self._waiting = waiting
        self._nursery = nursery
        self._flights: deque[_Flight] = deque()
        self._ready: deque[bytes] = deque()
        for _ in range(width):
            self._launch()

    def __aiter__(self) -> _Ahead:
        return self

    async def __anext__(self) -> bytes:
        while not self._ready:
            if not self._flights:
                raise StopAsyncIteration
            flight = self._flights.popleft()
            await flight.landed.wait()
            if flight.error is not None:
                raise flight.error
            self._ready.extend(flight.pieces)
            self._launch()
        return self._ready.popleft()

    def _launch(self) -> None:
        segment = next(self._waiting, None)
        if segment is not None:
            flight = _Flight(segment)
            self._flights.append(flight)
            self._nursery.start_soon(self._fly, flight)

    async def _fly(self, flight: _Flight) -> None:
        try:
            flight.pieces = await _read(self._base, flight.segment)
        except MountsyncError as error:
            flight.error = error
        flight.landed.set()


async def _read(base: Storage, segment: Segment) -> list[bytes]:
    """All bytes of a segment. Raises Corrupt when there are fewer, Stale when the chunk has changed."""
    try:
        async with base.read(segment.path, segment.offset, segment.length, expect=segment.token) as blocks:
            pieces = [bytes(block) async for block in blocks]
    except NotFound as error:
        raise _gone(segment) from error
    if sum(map(len, pieces)) != segment.length:
        raise _short(segment)
    return pieces


@asynccontextmanager
async def read_chunks(
    base: Storage, layout: Layout, offset: int, length: int | None
) -> AsyncIterator[AsyncIterator[bytes]]:
    """The bytes of a sound file in chunks. Errors while iterating are as `Storage.read` says."""
    failure: BaseException | None = None
    async with trio.open_nursery() as nursery:
        try:
            yield _Ahead(base, segments(layout, offset, length), nursery, max(1, base.info.concurrency))
        except BaseException as error:  # noqa: BLE001 - raised below, outside of the nursery's group
            failure = error
        nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


@asynccontextmanager
async def pour_chunks(
    base: Storage, layout: Layout, into: Into, offset: int, length: int | None
) -> AsyncIterator[AsyncIterator[int]]:
    """The same for `SupportsPour.pour`. What lies in one chunk is poured by the base."""
    assert isinstance(base, SupportsPour)
    parts = list(islice(segments(layout, offset, length, most=sys.maxsize), 2))
    if len(parts) == 1:
        async with _pour(base, parts[0], into, offset) as counts:
            yield counts
    else:
        async with read_chunks(base, layout, offset, length) as pieces:
            yield _Given(pieces, into, offset)


@asynccontextmanager
async def _pour(
    base: SupportsPour, part: Segment, into: Into, offset: int
) -> AsyncIterator[AsyncIterator[int]]:
    """`offset`: where the segment begins in the file."""
    shift = offset - part.offset

    def put(data: memoryview, at: int) -> object:
        return into(data, at + shift)

    async with AsyncExitStack() as stack:
        opened = base.pour(part.path, put, part.offset, part.length, expect=part.token)
        try:
            counts = await stack.enter_async_context(opened)
        except NotFound as error:
            raise _gone(part) from error
        yield _Whole(counts, part)


class _Whole:
    """Counts of a segment. Raises Corrupt when they end too early."""

    def __init__(self, counts: AsyncIterator[int], part: Segment) -> None:
        self._counts = counts
        self._part = part
        self._left = part.length

    def __aiter__(self) -> _Whole:
        return self

    async def __anext__(self) -> int:
        try:
            count = await anext(self._counts)
        except StopAsyncIteration:
            if self._left:
                raise _short(self._part) from None
            raise
        self._left -= count
        return count


class _Given:
    """Gives pieces away in threads, and counts them."""

    def __init__(self, pieces: AsyncIterator[bytes], into: Into, offset: int) -> None:
        self._pieces = pieces
        self._into = into
        self._at = offset

    def __aiter__(self) -> _Given:
        return self

    async def __anext__(self) -> int:
        piece = await anext(self._pieces)
        await trio.to_thread.run_sync(self._into, memoryview(piece), self._at)
        self._at += len(piece)
        return len(piece)


def _gone(part: Segment) -> Stale:
    return Stale("a chunk went away; the file was replaced or damaged", path=part.path)


def _short(part: Segment) -> Corrupt:
    return Corrupt("a chunk is shorter than it was when it was listed", path=part.path)
