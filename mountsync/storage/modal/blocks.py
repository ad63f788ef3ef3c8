"""Blocks over HTTP. On the asyncio loop only.

A body is believed only when it has the very length that was asked for and fits its digest, if it
carries one: the server pads for us, so that a body that ended early never looks like trailing zeros.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import Any, Final, Protocol, TypeVar
from urllib.request import getproxies

from mountsync.errors import Corrupt, MountsyncError, Throttled, Unreachable
from mountsync.storage.modal.answers import Answer, BadAnswer, EndedEarly, Give, Lent, Tap
from mountsync.storage.modal.http import Http
from mountsync.storage.modal.patience import Limits, Patience
from mountsync.storage.modal.refusals import LATER, UrlRefused

T = TypeVar("T")

SMALL: Final = 1 << 16
"""Bodies up to this size in bytes are hashed and sent without a thread or a stream."""
_LARGE: Final = 1 << 20
_RECEIPT_MOST: Final = 1 << 20
_TOO_MANY: Final = 429
_BUSY: Final = (_TOO_MANY, 503)
_GET: Final = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "mountsync"}
_PUT: Final = _GET | {"Content-Type": "application/octet-stream"}


class _TryAgain(Exception):
    """One attempt failed in a way that may pass; `error` is what to raise when none is left.

    `retry_after`: seconds after which the server wants to be asked again, if it said so.
    """

    def __init__(self, error: MountsyncError, retry_after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


class Sink(Protocol):
    """Where a body goes, piece by piece."""

    @property
    def borrows(self) -> bool:
        """Whether it is done with a piece when `give` returns, so that a buffer can be lent to it."""
        ...

    def give(self, thing: bytes | memoryview, /) -> None:
        """Takes the next piece. A MountsyncError ends the transfer."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether it had better be given no more for now."""
        ...

    def when_taken(self, act: Callable[[], None]) -> None:
        """Has `act` called once, when it is not full any more."""
        ...


class _Turn:
    """The time and the places of one attempt among those that are under way. It can be left early."""

    def __init__(self, places: Sequence[asyncio.Semaphore], end: float) -> None:
        self._places = places
        self._held: list[asyncio.Semaphore] = []
        self._bound = asyncio.timeout_at(end)
        self.is_left = False

    async def __aenter__(self) -> _Turn:
        try:
            for place in self._places:
                await place.acquire()
                self._held.append(place)
            await self._bound.__aenter__()
        except BaseException:
            self._free()
            raise
        return self

    async def __aexit__(self, *error: Any) -> None:
        self._free()
        await self._bound.__aexit__(*error)

    def _free(self) -> None:
        while self._held:
            self._held.pop().release()

    def leave(self) -> None:
        """Lets others have the places, and takes all the time there is."""
        self.is_left = True
        self._free()
        if not self._bound.expired():
            self._bound.reschedule(None)


class _Delivery:
    """Gives the bytes of a slice away, each once, however often the slice has to be asked for."""

    def __init__(self, length: int, sink: Sink) -> None:
        self._length = length
        self._sink = sink
        self._tap: Tap | None = None
        """Of the answer that is given away while it comes."""
        self.given = 0
        """Bytes that were given away."""
        self.turn: _Turn | None = None
        """Of the attempt that is under way."""
        self._at = 0
        """Where the answer has come to that is being given."""

    def opened(self, headers: Mapping[str, str], tap: Tap) -> Give | Lent | None:
        """Where the body goes while it comes; nowhere if its digest or length may tell against it yet."""
        is_sure = headers.get("content-length") == str(self._length) and not headers.get("repr-digest")
        self._at = 0
        self._tap = tap
        if not is_sure:
            return None
        return Lent(self._take) if self._sink.borrows else self._take

    def take_all(self, body: tuple[bytes, ...]) -> None:
        """Gives a body that was kept until it was known to be good."""
        self._at = 0
        self._tap = None
        for piece in body:
            self._take(piece)

    def _take(self, piece: bytes | memoryview) -> None:
        fresh = piece[max(0, self.given - self._at) :]
        self._at += len(piece)
        if fresh:
            self.given += len(fresh)
            self._sink.give(fresh)
        if self._tap is not None and self._sink.is_full:
            self._let_wait(self._tap)

    def _let_wait(self, tap: Tap) -> None:
        """It is the reader that is slow: nobody else waits for a turn because of that, and it may last."""
        if self.turn is not None:
            self.turn.leave()
        tap.pause()
        self._sink.when_taken(tap.resume)

    @property
    def is_complete(self) -> bool:
        return self.given == self._length


class BlockCourier:
    """Sends and fetches blocks, so many at once. `proxies`: the usual variables are honoured."""

    def __init__(self, limits: Limits, *, proxies: bool) -> None:
        self._limits = replace(limits, attempts=limits.block_attempts)
        self._http = Http(
            connect=limits.connect + 1,
            idle=limits.idle,
            proxies=getproxies() if proxies else {},
        )
        self._all = asyncio.Semaphore(limits.blocks_at_once)
        self._large = asyncio.Semaphore(limits.large_blocks_at_once)

    async def close(self) -> None:
        """Closes all connections."""
        await self._http.close()

    async def send(self, url: str, data: bytes | memoryview) -> bytes:
        """Uploads a block; returns the body of the answer, which is its receipt."""

        async def attempt(_turn: _Turn) -> bytes:
            body = data if len(data) > SMALL else bytes(data)
            answer = await self._http.ask("PUT", url, headers=_PUT, limit=_RECEIPT_MOST, body=body)
            _accept(answer)
            return b"".join(answer.body)

        return await self._persist(attempt, len(data))

    async def fetch(self, url: str, length: int) -> tuple[bytes, ...]:
        """Downloads a slice of exactly `length` bytes, in pieces of a MiB or so."""

        async def attempt(_turn: _Turn) -> tuple[bytes, ...]:
            answer = await self._http.ask("GET", url, headers=_GET, limit=length)
            _accept(answer)
            await _verify(answer.body, length, answer.headers.get("repr-digest"))
            return answer.body

        return await self._persist(attempt, length)

    async def deliver(self, url: str, length: int, sink: Sink) -> None:
        """Downloads a slice of exactly `length` bytes; its pieces, of a MiB or so, go to `sink` in order.

        They go while the slice is still coming, as the sink takes them, when nothing can be wrong with what
        has come: an answer whose length or digest must be looked at is given when it was.
        """
        delivery = _Delivery(length, sink)

        async def attempt(turn: _Turn) -> None:
            delivery.turn = turn
            answer = await self._http.ask("GET", url, headers=_GET, limit=length, outlet=delivery.opened)
            _accept(answer)
            if not delivery.is_complete:
                await _verify(answer.body, length, answer.headers.get("repr-digest"))
                delivery.take_all(answer.body)

        return await self._persist(attempt, length, lambda: delivery.given)

    async def _persist(
        self,
        attempt: Callable[[_Turn], Awaitable[T]],
        size: int,
        progress: Callable[[], int] = lambda: 0,
    ) -> T:
        """What came of the first attempt that succeeds.

        All end within `Limits.stream` seconds, but for those that left their turn; the last begins within
        `Limits.call` seconds after the first failure without `progress`.
        """
        seen, patience, end = progress(), None, self._end()
        while True:
            wait, turn = None, self._turn(size, end)
            try:
                async with turn:
                    return await attempt(turn)
            except _TryAgain as failed:
                error, wait = failed.error, failed.retry_after
            except EndedEarly:
                error = Corrupt("the body of a block ended early")
            except BadAnswer as bad:
                error = Unreachable(f"Modal's block store answered strangely: {bad}", hint=LATER)
            except (OSError, TimeoutError) as lost:
                error = _out_of_reach(lost)
            if patience is None or progress() != seen:
                seen, patience = progress(), self._patience()
            end = self._end() if turn.is_left else end
            delay = patience.after_loss() if wait is None else patience.after_request(wait)
            if delay is None:
                raise error
            await asyncio.sleep(delay)

    def _patience(self) -> Patience:
        return Patience(self._limits, time.monotonic, random.random)

    def _end(self) -> float:
        return asyncio.get_running_loop().time() + self._limits.stream

    def _turn(self, size: int, end: float) -> _Turn:
        return _Turn((self._large, self._all) if size > _LARGE else (self._all,), end)


def _out_of_reach(lost: Exception) -> Unreachable:
    detail = getattr(lost, "strerror", None) or type(lost).__name__
    return Unreachable(
        f"Modal's block store cannot be reached: {detail}", hint="check the network and proxies"
    )


def _accept(answer: Answer) -> None:
    status, reason = answer.status, f"Modal's block store answered {answer.status}"
    wait = _seconds(answer.headers.get("retry-after")) if status in _BUSY else None
    if status == _TOO_MANY or wait is not None:
        raise _TryAgain(Throttled(reason, retry_after=wait), wait)
    if status >= 500:
        raise _TryAgain(Unreachable(reason, hint=LATER))
    if status >= 300:
        raise UrlRefused(reason, hint=LATER)


def _seconds(header: str | None) -> float | None:
    """The time that a Retry-After asks for; None when it asks for none that can be understood."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return None


async def _verify(body: tuple[bytes, ...], length: int, header: str | None) -> None:
    size = sum(map(len, body))
    if size != length:
        much = "more" if size > length else "only"
        raise _TryAgain(Corrupt(f"{much} {size} bytes of a block came where {length} were asked for"))
    wanted = _digest_of(header)
    if wanted is not None and await _sha256(body, size) != wanted:
        raise _TryAgain(Corrupt("the bytes of a block do not fit their digest"))


async def _sha256(body: tuple[bytes, ...], size: int) -> bytes:
    return _hash(body) if size <= SMALL else await asyncio.to_thread(_hash, body)


def _hash(body: tuple[bytes, ...]) -> bytes:
    digest = hashlib.sha256()
    for piece in body:
        digest.update(piece)
    return digest.digest()


def _digest_of(header: str | None) -> bytes | None:
    """The sha256 in a Repr-Digest (RFC 9530); None when there is none."""
    for part in (header or "").split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "sha-256":
            return _decoded(value.partition(";")[0].strip().strip(":"))
    return None


def _decoded(value: str) -> bytes:
    """What the header says; where it says nothing that makes sense, what no body has."""
    try:
        return base64.b64decode(value)
    except ValueError:
        return b""
