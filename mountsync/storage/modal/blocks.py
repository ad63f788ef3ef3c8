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
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Protocol, TypeVar
from urllib.request import getproxies

from mountsync.errors import Corrupt, MountsyncError, Unreachable
from mountsync.storage.modal.http import Answer, BadAnswer, EndedEarly, Give, Http, Tap
from mountsync.storage.modal.patience import Limits
from mountsync.storage.modal.refusals import LATER, UrlRefused

T = TypeVar("T")

SMALL: Final = 1 << 16
"""Bodies up to this size in bytes are hashed and sent without a thread or a stream."""
_LARGE: Final = 1 << 20
_RECEIPT_MOST: Final = 1 << 20
_GET: Final = {"Accept": "*/*", "Accept-Encoding": "identity", "User-Agent": "mountsync"}
_PUT: Final = _GET | {"Content-Type": "application/octet-stream"}


class _TryAgain(Exception):
    """One attempt failed in a way that may pass; `error` is what to raise when none is left."""

    def __init__(self, error: MountsyncError) -> None:
        super().__init__(str(error))
        self.error = error


class Sink(Protocol):
    """Where a body goes, piece by piece."""

    def give(self, thing: bytes) -> None:
        """Takes the next piece."""
        ...

    @property
    def is_full(self) -> bool:
        """Whether it had better be given no more for now."""
        ...

    def when_taken(self, act: Callable[[], None]) -> None:
        """Has `act` called once, when it is not full any more."""
        ...


class _Delivery:
    """Gives the bytes of a slice away, each once, however often the slice has to be asked for."""

    def __init__(self, length: int, sink: Sink) -> None:
        self._length = length
        self._sink = sink
        self._tap: Tap | None = None
        """Of the answer that is given away while it comes."""
        self._given = 0
        self._at = 0
        """Where the answer has come to that is being given."""

    def opened(self, headers: Mapping[str, str], tap: Tap) -> Give | None:
        """Where the body goes while it comes; nowhere if its digest or length may tell against it yet."""
        is_sure = headers.get("content-length") == str(self._length) and not headers.get("repr-digest")
        self._at = 0
        self._tap = tap
        return self._take if is_sure else None

    def take_all(self, body: tuple[bytes, ...]) -> None:
        """Gives a body that was kept until it was known to be good."""
        self._at = 0
        self._tap = None
        for piece in body:
            self._take(piece)

    def _take(self, piece: bytes) -> None:
        fresh = piece[max(0, self._given - self._at) :]
        self._at += len(piece)
        if fresh:
            self._given += len(fresh)
            self._sink.give(fresh)
        if self._tap is not None and self._sink.is_full:
            self._tap.pause()
            self._sink.when_taken(self._tap.resume)

    @property
    def is_complete(self) -> bool:
        return self._given == self._length


class BlockCourier:
    """Sends and fetches blocks, so many at once. `proxies`: the usual variables are honoured."""

    def __init__(self, limits: Limits, *, proxies: bool) -> None:
        self._limits = limits
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

        async def attempt() -> bytes:
            body = data if len(data) > SMALL else bytes(data)
            answer = await self._http.ask("PUT", url, headers=_PUT, limit=_RECEIPT_MOST, body=body)
            _accept(answer)
            return b"".join(answer.body)

        return await self._persist(attempt, len(data))

    async def fetch(self, url: str, length: int) -> tuple[bytes, ...]:
        """Downloads a slice of exactly `length` bytes, in pieces of a MiB or so."""

        async def attempt() -> tuple[bytes, ...]:
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

        async def attempt() -> None:
            answer = await self._http.ask("GET", url, headers=_GET, limit=length, outlet=delivery.opened)
            _accept(answer)
            if not delivery.is_complete:
                await _verify(answer.body, length, answer.headers.get("repr-digest"))
                delivery.take_all(answer.body)

        return await self._persist(attempt, length)

    async def _persist(self, attempt: Callable[[], Awaitable[T]], size: int) -> T:
        if size > _LARGE:
            async with self._large:
                return await self._attempts(attempt)
        return await self._attempts(attempt)

    async def _attempts(self, attempt: Callable[[], Awaitable[T]]) -> T:
        end = time.monotonic() + self._limits.call
        for number in range(self._limits.block_attempts):
            try:
                async with self._all:
                    return await attempt()
            except _TryAgain as failed:
                error = failed.error
            except EndedEarly:
                error = Corrupt("the body of a block ended early")
            except BadAnswer as bad:
                error = Unreachable(f"Modal's block store answered strangely: {bad}", hint=LATER)
            except (OSError, TimeoutError) as lost:
                detail = getattr(lost, "strerror", None) or type(lost).__name__
                error = Unreachable(
                    f"Modal's block store cannot be reached: {detail}", hint="check the network and proxies"
                )
            delay: float = self._limits.first_delay * 2**number * (0.75 + 0.5 * random.random())  # noqa: S311 - no secret
            if time.monotonic() + delay > end:
                break
            await asyncio.sleep(delay)
        raise error


def _accept(answer: Answer) -> None:
    status = answer.status
    if status == 429 or status >= 500:
        raise _TryAgain(Unreachable(f"Modal's block store answered {status}", hint=LATER))
    if status >= 300:
        raise UrlRefused(f"Modal's block store answered {status}", hint=LATER)


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
            return base64.b64decode(value.strip().strip(":"))
    return None
