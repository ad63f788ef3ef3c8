"""A small client of HTTP/1.1, for blocks: connections that are used again, TLS, and proxies.

On the asyncio loop only. It asks once: what comes of a failure is for the caller to decide. Bodies are
taken as they come and sent from where they lie, so that memory holds what travels and no more.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from functools import partial
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urljoin, urlsplit

from mountsync.storage.modal.answers import Answer, BadAnswer, EndedEarly, Incoming, Outlet
from mountsync.storage.modal.road import PORTS, Origin, Proxy, Road

_PIECE: Final = 1 << 18
"""Bytes of a body that are handed to the connection at once."""
_REST: Final = 15.0
"""Seconds after which a connection without work is not trusted any more."""
_REDIRECTS: Final = 5
_MOVED: Final = frozenset({301, 302, 303, 307, 308})

_READ: Final = 1 << 18
"""Bytes that are taken from a socket at once: a buffer of this size stays in a processor's own cache."""

_Bytes: TypeAlias = bytes | memoryview
_VISIBLE: Final = re.compile(r"[!-~]+")
"""What a target may be made of: no more and no other line than is meant."""


def origin_of(url: SplitResult) -> Origin:
    """Raises BadAnswer for a URL that HTTP does not lead to: servers hand them out."""
    if url.scheme not in PORTS or not url.hostname:
        raise BadAnswer(f"a URL of the kind {url.scheme!r} was handed out")
    return Origin(url.scheme, url.hostname, url.port or PORTS[url.scheme])


class _Connection(asyncio.BufferedProtocol):
    """One connection, with one request at a time. `idle`: seconds in which something must move."""

    transport: asyncio.Transport

    def __init__(self, idle: float, buffer: memoryview, proxy: Proxy | None = None) -> None:
        """`buffer`: of all connections of the loop. `proxy`: where requests go in the clear by a proxy."""
        self.proxy = proxy
        self._idle = idle
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._incoming: Incoming | None = None
        """None at rest, when no body is to be held."""
        self._moved_at = 0.0
        self._watcher: asyncio.TimerHandle
        self._is_held = False
        """Whether nothing is read because nobody takes it."""
        self._writable = asyncio.Event()
        self._writable.set()
        self._rests_since = 0.0

    @property
    def is_fresh(self) -> bool:
        """Whether it is open, and was at work not long ago."""
        return not self.transport.is_closing() and self._rests_since > self._loop.time() - _REST

    async def exchange(
        self, head: bytes, body: _Bytes, limit: int, outlet: Outlet | None = None
    ) -> tuple[Answer, bool]:
        """Sends a request and waits for its answer; whether the connection can carry another one.

        Raises OSError, BadAnswer, or TimeoutError when nothing moves for long.
        """
        incoming = self._incoming = Incoming(limit, outlet, self)
        self._move()
        self._watch(incoming)
        try:
            is_sent = await self._send(head, body, incoming.done)
            await incoming.done
        finally:
            self._watcher.cancel()
            self.resume(incoming)
            self._incoming = None
            incoming.let_go()
        answer = incoming.answer()
        if not is_sent and answer.status < 300:
            raise BadAnswer("the answer came before all was sent")
        self._rests_since = self._loop.time()
        return answer, is_sent and incoming.lets_go_on and not self.transport.is_closing()

    async def _send(self, head: bytes, body: _Bytes, done: asyncio.Future[None]) -> bool:
        """Sends all of it, unless an early answer spares us that; whether it did."""
        if self.transport.is_closing():
            raise ConnectionResetError("the connection was closed")
        self.transport.write(head + bytes(body[:_PIECE]))  # together: what is small is one packet
        if len(body) > _PIECE:
            done.add_done_callback(lambda _: self._writable.set())
        for start in range(_PIECE, len(body), _PIECE):
            await self._writable.wait()
            if done.done():
                return False
            self.transport.write(body[start : start + _PIECE])
        return True

    def _hear(self, incoming: Incoming, data: memoryview) -> None:
        try:
            if incoming.hear(data):
                incoming.done.set_result(None)
        except Exception as error:  # noqa: BLE001 - of whoever takes the body, too: it is the caller's
            incoming.done.set_exception(error)

    def _move(self) -> None:
        self._moved_at = self._loop.time()

    def _watch(self, incoming: Incoming) -> None:
        """Looks every so often whether anything moved: cheaper than a timer that is set at each piece."""
        if self._is_held:
            self._move()
        end = self._moved_at + self._idle
        if end > self._loop.time():
            self._watcher = self._loop.call_at(end, self._watch, incoming)
        elif not incoming.done.done():
            incoming.done.set_exception(TimeoutError())

    def pause(self, incoming: Incoming) -> None:
        """Reads no more of this answer; nobody is impatient meanwhile."""
        if incoming is self._incoming and not incoming.done.done():
            self.transport.pause_reading()
            self._is_held = True

    def resume(self, incoming: Incoming) -> None:
        """Reads again, when it is still this answer."""
        if incoming is self._incoming and not self.transport.is_closing():
            self.transport.resume_reading()
            self._is_held = False
            self._move()

    # what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=_PIECE)

    def connection_lost(self, exc: Exception | None) -> None:
        incoming = self._incoming
        if incoming is None or incoming.done.done():
            return
        if not incoming.has_begun:
            incoming.done.set_exception(exc or ConnectionResetError("the server closed the connection"))
        elif exc is not None:
            incoming.done.set_exception(EndedEarly("the connection broke within an answer"))
        else:
            self._ended(incoming)

    def _ended(self, incoming: Incoming) -> None:
        try:
            incoming.end()
        except EndedEarly as error:
            incoming.done.set_exception(error)
        else:
            incoming.done.set_result(None)

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        incoming = self._incoming
        if incoming is None or incoming.done.done():
            self.transport.abort()  # nobody asked
            return
        self._move()
        self._hear(incoming, self._buffer[:nbytes])

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._move()
        self._writable.set()


class Http:
    """Asks servers. `connect` and `idle`: seconds for a connection, and between two pieces of a body.

    `proxies`: as of urllib's getproxies.
    """

    def __init__(self, *, connect: float, idle: float, proxies: Mapping[str, str]) -> None:
        self._patience = connect
        self._idle = idle
        self._road = Road(proxies, "http/1.1")
        self._buffer = memoryview(bytearray(_READ))
        self._resting: dict[Origin, list[_Connection]] = {}

    async def ask(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        limit: int,
        body: _Bytes = b"",
        outlet: Outlet | None = None,
    ) -> Answer:
        """The answer, with little more than `limit` bytes of its body at most.

        `outlet` is asked about the large body of a success whose length is announced.

        Raises OSError (TimeoutError among them) when the server cannot be reached, BadAnswer when it
        does not speak HTTP/1.1, EndedEarly when the connection ended within the answer. Redirects are
        followed. When it is cancelled the connection is closed at once.
        """
        for _ in range(_REDIRECTS):
            answer = await self._once(method, url, headers, limit, body, outlet)
            target = answer.headers.get("location")
            if answer.status not in _MOVED or target is None or (answer.status == 303 and method != "GET"):
                return answer
            before, url = url, urljoin(url, target)
            if before.startswith("https:") and not url.startswith("https:"):
                raise BadAnswer("it leads from an address with TLS to one without")
        raise BadAnswer("it leads from one address to another")

    async def _once(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        limit: int,
        body: _Bytes,
        outlet: Outlet | None,
    ) -> Answer:
        split = urlsplit(url)
        origin = origin_of(split)
        connection = self._rested(origin) or await self._connect(origin)
        try:
            head = _head(method, split, origin, connection.proxy, headers, body)
            answer, goes_on = await connection.exchange(head, body, limit, outlet)
        except BaseException:
            connection.transport.abort()
            raise
        if goes_on:
            self._resting.setdefault(origin, []).append(connection)
        else:
            connection.transport.abort()
        return answer

    async def close(self) -> None:
        """Closes the connections that rest; those at work end with their tasks."""
        for resting in self._resting.values():
            for connection in resting:
                connection.transport.abort()
        self._resting.clear()
        await asyncio.sleep(0)  # the loop lets go of their sockets

    # connections

    def _rested(self, origin: Origin) -> _Connection | None:
        """A connection that waits for work: the one that was at work last."""
        resting = self._resting.get(origin, [])
        while resting:
            connection = resting.pop()
            if connection.is_fresh:
                return connection
            connection.transport.abort()
        return None

    async def _connect(self, origin: Origin) -> _Connection:
        async with asyncio.timeout(self._patience):
            proxy = None if origin.is_secure else self._road.proxy_to(origin)
            if proxy is not None:  # it is told with each request what is wanted
                return await self._road.straight(partial(_Connection, self._idle, self._buffer, proxy), proxy)
            return await self._road.to(partial(_Connection, self._idle, self._buffer), origin)


def _head(
    method: str,
    url: SplitResult,
    origin: Origin,
    proxy: Proxy | None,
    headers: Mapping[str, str],
    body: _Bytes,
) -> bytes:
    """The head of a request. Raises BadAnswer for a URL that would be another one, or other headers."""
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    more = {"Host": origin.authority} | dict(headers)
    if proxy is not None:
        target = f"http://{origin.authority}{target}"
        more |= proxy.headers
    if method == "PUT":
        more["Content-Length"] = str(len(body))
    if not (_VISIBLE.fullmatch(target) and _VISIBLE.fullmatch(origin.authority)):
        raise BadAnswer("a URL that cannot be asked for was handed out")
    lines = (f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in more.items()), "", "")
    return "\r\n".join(lines).encode("latin-1")
