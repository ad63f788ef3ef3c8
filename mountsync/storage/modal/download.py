"""Ranged downloads: a window of block URLs at a time, blocks side by side, every version checked.

URLs are made for one version of a file. After they were handed out the file is looked at: what is
there then must be the version that the reader began with, so no byte of another one is ever given.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

import trio

from mountsync.errors import Corrupt, NameRefused, Stale
from mountsync.storage.api import Into
from mountsync.storage.modal.refusals import UrlRefused
from mountsync.storage.modal.transport import BLOCK, Download, Located, NativeEntry, Transport

_WINDOW: Final = 8 * BLOCK
"""Bytes located by one call at most."""
_DEPTHS: Final = ((0.25, 4), (0.04, 2))
"""Blocks that one reader has under way at once, by the seconds that it had to wait for one of them."""
_LITTLE: Final = 4
"""A block is almost given out when less than this part of it is left."""
_REFUSALS: Final = 3

Look: TypeAlias = Callable[[], Awaitable[NativeEntry | None]]
"""What is at the path now."""
Accept: TypeAlias = Callable[[NativeEntry | None], NativeEntry]
"""Gives back what was found; raises when that is not the file that the reader wants."""


Piece = TypeVar("Piece")


class Landing(Protocol[Piece]):
    """What becomes of the bytes of a range."""

    depth: int
    """Blocks that a reader has under way at once, at first."""

    def fetch(self, url: str, start: int, length: int) -> Download[Piece]:
        """Starts the download of a slice, which begins at `start` in the remote file."""
        ...

    def keep(self, data: bytes, start: int) -> Piece:
        """What becomes of few bytes that came with the answer of another call."""
        ...

    def size(self, piece: Piece) -> int:
        """How many bytes a piece stands for."""
        ...


class AsBytes:
    """The bytes are given to the reader.

    Where blocks come at once, one is under way, and the next one starts when little of it is left: memory
    for more would bring nothing.
    """

    depth = 1

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def fetch(self, url: str, _start: int, length: int) -> Download[bytes]:
        return self._transport.fetch_block(url, length)

    def keep(self, data: bytes, _start: int) -> bytes:
        return data

    def size(self, piece: bytes) -> int:
        return len(piece)


class AsCounts:
    """The bytes go somewhere else; the reader gets to know how many are there.

    No block is held, so that the server is kept busy from the start.
    """

    depth = 4

    def __init__(self, transport: Transport, into: Into) -> None:
        self._transport = transport
        self._into = into

    def fetch(self, url: str, start: int, length: int) -> Download[int]:
        return self._transport.pour_block(url, start, length, self._into)

    def keep(self, data: bytes, start: int) -> int:
        self._into(memoryview(data), start)
        return len(data)

    def size(self, piece: int) -> int:
        return piece


class _Moved(Stale):
    """The URLs are not for the version that is there: at the start that is worth another try."""


class Slots:
    """Counts the blocks that all readers hold. Each reader may always have one."""

    def __init__(self, most: int = 8) -> None:
        self._left = most

    def take(self, *, first: bool) -> bool:
        """Takes a slot if there is one, or if it is the reader's first."""
        if self._left <= 0 and not first:
            return False
        self._left -= 1
        return True

    def give(self) -> None:
        """Gives a slot back."""
        self._left += 1


@dataclass(slots=True)
class _Slice(Generic[Piece]):
    """A slice on its way."""

    download: Download[Piece]
    stop: int
    """Where it ends in the file."""
    waited: float = 0.0
    """Seconds that its reader waited for it."""


class RangeReader(Generic[Piece]):
    """Iterates over the bytes of a range, in pieces. Call `start`, then `stop`."""

    def __init__(
        self,
        transport: Transport,
        volume: str,
        path: str,
        look: Look,
        accept: Accept,
        slots: Slots,
        landing: Landing[Piece],
        offset: int,
        length: int | None,
    ) -> None:
        self._transport = transport
        self._volume = volume
        self._path = path
        self._look = look
        self._accept = accept
        self._slots = slots
        self._landing = landing
        self._next = offset
        """Where the first piece begins that has not come yet."""
        self._located = offset
        """As far as URLs are known."""
        self._started = offset
        """As far as transfers are started."""
        self._end = offset + length if length is not None else None
        self._urls: deque[str] = deque()
        self._given = offset
        """Where the first piece begins that was not given out."""
        self._flight: deque[_Slice[Piece]] = deque()
        """What is not given out to its end."""
        self._pieces: deque[Piece] = deque()
        """What has come and is to be given out."""
        self._depth = landing.depth
        self._pinned: tuple[int, int] | None = None
        self._refusals = 0

    async def start(self) -> None:
        """Pins the version. Raises what `look` and `accept` raise, NotFound or IsADirectory."""
        for last in (False, False, True):
            try:
                await self._begin()
            except _Moved:
                await self.stop()
                if last:
                    raise
            else:
                return

    async def _begin(self) -> None:
        if self._end == self._next:
            self._pin(self._accept(await self._look()))
            return
        try:
            await self._open()
        except NameRefused:
            native = self._accept(await self._look())
            if self._next < native.size:
                raise
            self._pin(native)

    async def _open(self) -> None:
        """The first window; the whole of it when that is little."""
        start, stop = self._next, self._window(self._next)
        located, small = await self._transport.begin(self._volume, self._path, start, stop - start)
        if small is None:
            await self._enter(start, stop, located)
            return
        self._verify(located.size, small.entry)
        for data in small.body:
            self._pieces.append(self._landing.keep(data, self._next))
            self._next += len(data)
        self._located = self._started = self._next

    def _pin(self, native: NativeEntry) -> None:
        self._pinned = (native.size, native.mtime)
        self._end = native.size if self._end is None else min(self._end, native.size)

    async def stop(self) -> None:
        """Stops all transfers: nothing comes any more when it returns. Safe to call twice."""
        while self._flight:
            leaving = self._flight.popleft()
            self._slots.give()
            await leaving.download.stop()
        self._urls.clear()
        self._located = self._started = self._next

    def __aiter__(self) -> RangeReader[Piece]:
        return self

    async def __anext__(self) -> Piece:
        if not self._pieces:
            self._pieces.extend(await self._more())
        piece = self._pieces.popleft()
        self._given += self._landing.size(piece)
        if self._flight and self._flight[0].stop == self._given:
            self._flight.popleft()
            self._slots.give()
        self._start_transfers()
        return piece

    async def _more(self) -> tuple[Piece, ...]:
        """The next pieces. Raises StopAsyncIteration at the end."""
        while self._end is None or self._next < self._end:
            try:
                await self._fill()
                return await self._take()
            except UrlRefused:
                self._refusals += 1
                if self._refusals > _REFUSALS:
                    raise
                await self.stop()
        raise StopAsyncIteration

    async def _take(self) -> tuple[Piece, ...]:
        """What has come of the first slice."""
        coming = self._flight[0]
        began = trio.current_time()
        pieces = await coming.download.more()
        coming.waited += trio.current_time() - began
        self._depth = max([self._depth, *(depth for seconds, depth in _DEPTHS if coming.waited > seconds)])
        self._next += sum(map(self._landing.size, pieces))
        self._refusals = 0
        if self._next == coming.stop:
            await coming.download.more()  # its connection is free then
        return pieces

    async def _fill(self) -> None:
        """Starts as many transfers as may be under way."""
        self._start_transfers()
        if (
            len(self._flight) < self._depth
            and not self._urls
            and self._end is not None
            and self._located < self._end
        ):
            await self._locate()

    def _start_transfers(self) -> None:
        while self._urls and self._has_room() and self._slots.take(first=not self._flight):
            stop = min(_block_end(self._started), self._located)
            download = self._landing.fetch(self._urls.popleft(), self._started, stop - self._started)
            self._flight.append(_Slice(download, stop))
            self._started = stop

    def _has_room(self) -> bool:
        """Whether one more slice may be under way."""
        under_way = len(self._flight)
        return under_way < self._depth or (
            under_way == self._depth and self._flight[0].stop - self._given <= BLOCK // _LITTLE
        )

    def _window(self, start: int) -> int:
        """Where the window that begins at `start` ends, at most."""
        stop = start - start % BLOCK + _WINDOW
        return stop if self._end is None else min(stop, self._end)

    async def _locate(self) -> None:
        """The next window."""
        start, stop = self._located, self._window(self._located)
        located = await self._transport.locate(self._volume, self._path, start, stop - start)
        await self._enter(start, stop, located)

    async def _enter(self, start: int, stop: int, located: Located) -> None:
        """Takes a window's URLs: its first transfers, and then the check of the version."""
        stop = max(start, min(stop, located.size))
        if len(located.urls) != _blocks_between(start, stop):
            raise Corrupt(
                f"{len(located.urls)} block URLs came for another number of blocks", path=self._path
            )
        self._urls.extend(located.urls)
        self._located = stop
        self._start_transfers()
        self._verify(located.size, await self._look())

    def _verify(self, size: int, found: NativeEntry | None) -> None:
        native = self._accept(found)
        if native.size != size or self._pinned not in (None, (native.size, native.mtime)):
            raise _Moved("the file changed while it was read", path=self._path)
        if self._pinned is None:
            self._pin(native)


def _block_end(offset: int) -> int:
    return offset - offset % BLOCK + BLOCK


def _blocks_between(start: int, stop: int) -> int:
    return -(-stop // BLOCK) - start // BLOCK if stop > start else 0
