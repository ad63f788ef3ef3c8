"""Blocks over HTTP, by aiohttp. On the asyncio loop only.

A body is believed only when it has the very length that was asked for and fits its digest, if it
carries one: the server pads for us, so that a body that ended early never looks like trailing zeros.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import aiohttp
from aiohttp.abc import AbstractStreamWriter

from mountsync.errors import Corrupt, MountsyncError, Unreachable
from mountsync.storage.modal.patience import Limits
from mountsync.storage.modal.refusals import UrlRefused

T = TypeVar("T")

SMALL: Final = 1 << 16
"""Bodies up to this size in bytes are hashed and sent without a thread or a stream."""
_LARGE: Final = 1 << 20
_PIECE: Final = 1 << 20
_HEADERS: Final = {"Accept-Encoding": "identity"}


class _TryAgain(Exception):
    """One attempt failed in a way that may pass; `error` is what to raise when none is left."""

    def __init__(self, error: MountsyncError) -> None:
        super().__init__(str(error))
        self.error = error


class _View(aiohttp.Payload):
    """A body that lies in memory, written piece by piece and never copied as a whole."""

    def __init__(self, data: bytes | memoryview) -> None:
        super().__init__(data, content_type="application/octet-stream")
        self._size = len(data)

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        view = memoryview(self._value)[:content_length]
        for start in range(0, len(view), _PIECE):
            await writer.write(view[start : start + _PIECE])


class BlockCourier:
    """Sends and fetches blocks, so many at once. `proxies`: the usual variables are honoured."""

    def __init__(self, limits: Limits, *, proxies: bool) -> None:
        self._limits = limits
        self._proxies = proxies
        self._session: aiohttp.ClientSession | None = None
        self._all = asyncio.Semaphore(limits.blocks_at_once)
        self._large = asyncio.Semaphore(limits.large_blocks_at_once)

    async def close(self) -> None:
        """Closes all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            limits = self._limits
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=limits.blocks_at_once),
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=limits.connect + 1, sock_read=limits.idle
                ),
                read_bufsize=1 << 20,
                auto_decompress=False,
                trust_env=self._proxies,
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    async def send(self, url: str, data: bytes | memoryview) -> bytes:
        """Uploads a block; returns the body of the answer, which is its receipt."""

        async def attempt() -> bytes:
            headers = _HEADERS | {"Content-Type": "application/octet-stream"}
            body = _View(data) if len(data) > SMALL else bytes(data)
            async with self._open().put(url, data=body, headers=headers) as answer:
                _accept(answer.status)
                return await answer.read()

        return await self._persist(attempt, len(data))

    async def fetch(self, url: str, length: int) -> tuple[bytes, ...]:
        """Downloads a slice of exactly `length` bytes, in pieces of a MiB or so."""

        async def attempt() -> tuple[bytes, ...]:
            async with self._open().get(url, headers=_HEADERS) as answer:
                _accept(answer.status)
                body = await _body(answer, length)
                await _verify(body, length, answer.headers.get("Repr-Digest"))
                return body

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
            except aiohttp.ClientPayloadError:
                error = Corrupt("the body of a block ended early")
            except (aiohttp.ClientError, OSError, TimeoutError) as lost:
                error = Unreachable(f"Modal's block store cannot be reached: {type(lost).__name__}")
            delay: float = self._limits.first_delay * 2**number * (0.75 + 0.5 * random.random())  # noqa: S311 - no secret
            if time.monotonic() + delay > end:
                break
            await asyncio.sleep(delay)
        raise error


def _accept(status: int) -> None:
    if status == 429 or status >= 500:
        raise _TryAgain(Unreachable(f"Modal's block store answered {status}"))
    if status >= 400:
        raise UrlRefused(f"Modal's block store answered {status}")


async def _body(answer: aiohttp.ClientResponse, length: int) -> tuple[bytes, ...]:
    """The body, as far as a little more than was asked for.

    It stays in pieces: one allocation of a whole block costs more than the rest of the download.
    """
    pieces: list[bytes] = []
    group: list[bytes] = []
    total = held = 0
    async for piece in answer.content.iter_any():
        group.append(piece)
        total += len(piece)
        held += len(piece)
        if held >= _PIECE or total > length:
            pieces.append(b"".join(group))
            group, held = [], 0
        if total > length:
            break
    if group:
        pieces.append(group[0] if len(group) == 1 else b"".join(group))
    return tuple(pieces)


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
