"""A small client of HTTP/1.1, for blocks: connections that are used again, TLS, and proxies.

On the asyncio loop only. It asks once: what comes of a failure is for the caller to decide. What is said
on a connection is h11's affair. Bodies are taken as they come and sent from where they lie, so that memory
holds what travels and no more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol, TypeAlias
from urllib.parse import SplitResult, urljoin, urlsplit

import h11

from mountsync.storage.modal.road import PORTS, Origin, Proxy, Road

_HEAD_MOST: Final = 64 << 10
"""Bytes of a head, or of a line between chunks."""
_PIECE: Final = 1 << 18
"""Bytes of a body that are handed to the connection at once."""
_PAST: Final = 1 << 20
"""Bodies larger than this go past h11 once their head was read: it copies each piece twice."""
_GROUP: Final = 1 << 20
"""Bytes of a body that came, put together to one."""
_REST: Final = 15.0
"""Seconds after which a connection without work is not trusted any more."""
_REDIRECTS: Final = 5
_MOVED: Final = frozenset({301, 302, 303, 307, 308})

_READ: Final = 1 << 18
"""Bytes that are taken from a socket at once: a buffer of this size stays in a processor's own cache."""

_Bytes: TypeAlias = bytes | memoryview
Give: TypeAlias = Callable[[bytes], object]
"""Takes the next piece of a body."""


class Tap(Protocol):
    """Holds up what comes of one answer. It takes no harm from being used too late."""

    def pause(self) -> None:
        """Lets what comes wait in the kernel, as long as it takes."""
        ...

    def resume(self) -> None:
        """Takes it again."""
        ...


@dataclass(frozen=True, slots=True)
class Lent:
    """Takes the next piece of a body out of a buffer that is filled anew when it returns."""

    give: Callable[[memoryview], object]


Outlet: TypeAlias = Callable[[Mapping[str, str], Tap], Give | Lent | None]
"""Asked with the headers of an answer where its body goes while it comes; None: it is wanted whole."""


class BadAnswer(Exception):
    """What came is no answer of HTTP/1.1, or leads to no such thing."""


class EndedEarly(BadAnswer):
    """The connection ended within an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. Names of `headers` are lower case; `body` is what was kept, in pieces of a MiB or so."""

    status: int
    headers: Mapping[str, str]
    body: tuple[bytes, ...]


def origin_of(url: SplitResult) -> Origin:
    """Raises BadAnswer for a URL that HTTP does not lead to: servers hand them out."""
    if url.scheme not in PORTS or not url.hostname:
        raise BadAnswer(f"a URL of the kind {url.scheme!r} was handed out")
    return Origin(url.scheme, url.hostname, url.port or PORTS[url.scheme])


class _Incoming:
    """An answer, as far as it has come. A little more than `limit` bytes of body are kept at most."""

    def __init__(
        self,
        request: h11.Request,
        limit: int,
        outlet: Outlet | None = None,
        connection: _Connection | None = None,
    ) -> None:
        self._connection = connection
        self._is_get = request.method == b"GET"
        self._outlet = outlet
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.head: h11.Response | None = None
        self.has_begun = False
        self.is_past = False
        """Whether the body goes past h11, which copies it twice; then its length is known."""
        self.left = 0
        """Bytes of such a body that have not come."""
        self.is_more = False
        """Whether more came than was announced."""
        self._room = limit
        self._pieces: list[bytes] = []
        self._give: Give = self._pieces.append
        self._lend: Callable[[memoryview], object] | None = None
        self._group: list[bytes] = []
        self._grouped = 0

    def hear(self, talk: h11.Connection) -> bool:
        """Takes what has come; whether that is all that is wanted. Raises h11.RemoteProtocolError."""
        self.has_begun = True
        while (event := talk.next_event()) is not h11.NEED_DATA:
            if isinstance(event, h11.Response):
                self.head = event
                if self._is_get and (length := _length_of(event)) > _PAST:
                    self._go_past(event, length)
                    return self.take(memoryview(talk.trailing_data[0]))
            elif isinstance(event, h11.Data):
                self._add(bytes(event.data))
            elif not isinstance(event, h11.InformationalResponse):
                return True
            if self._room < 0:
                return True
        return False

    def _go_past(self, head: h11.Response, length: int) -> None:
        self.is_past, self.left = True, length
        goes = self._outlet(_headers_of(head), self) if self._outlet is not None else None
        if isinstance(goes, Lent):
            self._lend = goes.give
        elif goes is not None:
            self._give = goes

    def pause(self) -> None:
        """As `Tap.pause`."""
        if self._connection is not None:
            self._connection.pause(self)

    def resume(self) -> None:
        """As `Tap.resume`."""
        if self._connection is not None:
            self._connection.resume(self)

    def take(self, data: memoryview) -> bool:
        """Takes a part of a body past h11; whether that is all that is wanted."""
        self.is_more = len(data) > self.left
        part = data[: self.left]
        self.left -= len(part)
        if self._lend is not None:
            self._lend(part)
        else:
            self._add(bytes(part))
        return not self.left or self._room < 0

    def _add(self, data: bytes) -> None:
        self._room -= len(data)
        self._grouped += len(data)
        self._group.append(data)
        if self._grouped >= _GROUP:
            self._close_group()

    def _close_group(self) -> None:
        group, self._group, self._grouped = self._group, [], 0
        self._give(b"".join(group))

    def answer(self) -> Answer:
        """What came, once it is all."""
        assert self.head is not None
        if self._group:
            self._close_group()
        return Answer(self.head.status_code, _headers_of(self.head), tuple(self._pieces))


def _headers_of(head: h11.Response) -> Mapping[str, str]:
    headers: dict[str, str] = {}
    for raw, value in head.headers:
        name, text = raw.decode("ascii"), value.decode("latin-1")
        headers[name] = f"{headers[name]}, {text}" if name in headers else text
    return headers


def _length_of(head: h11.Response) -> int:
    """The announced length of a body; 0 where there is none, or it is not the whole truth."""
    fields = dict(head.headers)
    if head.status_code not in (200, 206) or b"transfer-encoding" in fields:
        return 0
    return int(fields.get(b"content-length", b"0"))


class _Connection(asyncio.BufferedProtocol):
    """One connection, with one request at a time. `idle`: seconds in which something must move."""

    transport: asyncio.Transport

    def __init__(self, idle: float, buffer: memoryview, proxy: Proxy | None = None) -> None:
        """`buffer`: of all connections of the loop. `proxy`: where requests go in the clear by a proxy."""
        self.proxy = proxy
        self._idle = idle
        self._buffer = buffer
        self._loop = asyncio.get_running_loop()
        self._talk = h11.Connection(h11.CLIENT, _HEAD_MOST)
        self._incoming: _Incoming | None = None
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

    def rest(self) -> bool:
        """Makes it ready for another request; False when it can carry none."""
        states = (self._talk.our_state, self._talk.their_state)
        if self._talk.trailing_data[0] or self.transport.is_closing():
            return False
        if states == (h11.DONE, h11.DONE):
            self._talk.start_next_cycle()
        elif states != (h11.IDLE, h11.IDLE):  # as after `_renew`
            return False
        self._rests_since = self._loop.time()
        return True

    async def exchange(
        self, request: h11.Request, body: _Bytes, limit: int, outlet: Outlet | None = None
    ) -> Answer:
        """Sends a request and waits for its answer.

        Raises OSError, BadAnswer, or TimeoutError when nothing moves for long.
        """
        incoming = self._incoming = _Incoming(request, limit, outlet, self)
        if len(body) > _PIECE:  # an early answer ends the sending
            incoming.done.add_done_callback(lambda _: self._writable.set())
        self._move()
        self._watch(incoming)
        try:
            await self._send(request, body, incoming.done)
            await incoming.done
        finally:
            self._watcher.cancel()
            self.resume(incoming)
            self._incoming = None
        answer = incoming.answer()
        if incoming.is_past:
            self._renew(incoming)
        if self._talk.our_state is h11.SEND_BODY and answer.status < 300:
            raise BadAnswer("the answer came before all was sent")
        return answer

    def _renew(self, incoming: _Incoming) -> None:
        """After a body that went past it h11 knows nothing of the connection any more."""
        head = incoming.head
        assert head is not None
        stays = head.http_version == b"1.1" and all(
            b"close" not in value.lower() for name, value in head.headers if name == b"connection"
        )
        if stays and self._talk.our_state is h11.DONE and not incoming.left and not incoming.is_more:
            self._talk = h11.Connection(h11.CLIENT, _HEAD_MOST)

    async def _send(self, request: h11.Request, body: _Bytes, done: asyncio.Future[None]) -> None:
        """Sends all of it, unless an early answer spares us that."""
        if self.transport.is_closing():
            raise ConnectionResetError("the connection was closed")
        head = self._talk.send(request) + self._talk.send(h11.Data(data=bytes(body[:_PIECE])))
        self.transport.write(head)  # together: what is small is one packet
        for start in range(_PIECE, len(body), _PIECE):
            await self._writable.wait()
            if done.done():
                return
            data = h11.Data(data=body[start : start + _PIECE])  # type: ignore[arg-type] # it takes any buffer
            for part in self._talk.send_with_data_passthrough(data) or ():
                self.transport.write(part)
        self._talk.send(h11.EndOfMessage())

    def _hear(self, incoming: _Incoming, data: memoryview) -> None:
        """Takes what came; nothing: it was the end of the connection."""
        if incoming.is_past:
            if not data:
                incoming.done.set_exception(EndedEarly("the connection ended within an answer"))
            elif incoming.take(data):
                incoming.done.set_result(None)
            return
        try:
            self._talk.receive_data(bytes(data))
            if incoming.hear(self._talk):
                incoming.done.set_result(None)
        except h11.RemoteProtocolError as error:
            reason = str(error)[:200]
            incoming.done.set_exception(BadAnswer(reason) if data else EndedEarly(reason))

    def _move(self) -> None:
        self._moved_at = self._loop.time()

    def _watch(self, incoming: _Incoming) -> None:
        """Looks every so often whether anything moved: cheaper than a timer that is set at each piece."""
        if self._is_held:
            self._move()
        end = self._moved_at + self._idle
        if end > self._loop.time():
            self._watcher = self._loop.call_at(end, self._watch, incoming)
        elif not incoming.done.done():
            incoming.done.set_exception(TimeoutError())

    def pause(self, incoming: _Incoming) -> None:
        """Reads no more of this answer; nobody is impatient meanwhile."""
        if incoming is self._incoming and not incoming.done.done():
            self.transport.pause_reading()
            self._is_held = True

    def resume(self, incoming: _Incoming) -> None:
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
            self._hear(incoming, self._buffer[:0])

    def get_buffer(self, _sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        incoming = self._incoming
        if incoming is None or incoming.done.done():
            self.transport.abort()  # nobody asked
            return
        self._move()
        try:
            self._hear(incoming, self._buffer[:nbytes])
        except Exception as error:  # noqa: BLE001 - of whoever takes the body: it is the caller's
            incoming.done.set_exception(error)

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
            request = _request(method, split, origin, connection.proxy, headers, body)
            answer = await connection.exchange(request, body, limit, outlet)
        except BaseException:
            connection.transport.abort()
            raise
        if connection.rest():
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


def _request(
    method: str,
    url: SplitResult,
    origin: Origin,
    proxy: Proxy | None,
    headers: Mapping[str, str],
    body: _Bytes,
) -> h11.Request:
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    more = {"Host": origin.authority} | dict(headers)
    if proxy is not None:
        target = f"http://{origin.authority}{target}"
        more |= proxy.headers
    if method == "PUT":
        more["Content-Length"] = str(len(body))
    try:
        return h11.Request(method=method, target=target, headers=list(more.items()))
    except (h11.LocalProtocolError, ValueError) as error:
        raise BadAnswer("a URL that cannot be asked for was handed out") from error
