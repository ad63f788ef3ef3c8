"""A small client of HTTP/1.1, for blocks: connections that are used again, TLS, and proxies.

On the asyncio loop only. It asks once: what comes of a failure is for the caller to decide. Bodies are
taken as they come and sent from where they lie, so that memory holds what travels and no more.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

from mountsync.formats.http1 import Answer, AnswerReader, BadAnswer, EndedEarly, request_head

_PIECE: Final = 1 << 18
"""Bytes of a body that are handed to the connection at once."""
_REST: Final = 15.0
"""Seconds for which a connection without work is kept."""
_REDIRECTS: Final = 5
_MOVED: Final = frozenset({301, 302, 303, 307, 308})
_GOODBYE: Final = 1.0
"""Seconds that closing waits for connections to be gone."""
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections lead."""

    scheme: str
    host: str
    port: int

    @property
    def is_secure(self) -> bool:
        return self.scheme == "https"

    @property
    def authority(self) -> str:
        """As `Host` has it, without the port that goes without saying."""
        return self.host_text if self.port == _PORTS[self.scheme] else f"{self.host_text}:{self.port}"

    @property
    def host_text(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host


def origin_of(url: SplitResult) -> Origin:
    """Raises BadAnswer for a URL that HTTP does not lead to: servers hand them out."""
    if url.scheme not in _PORTS or not url.hostname:
        raise BadAnswer(f"a URL of the kind {url.scheme!r} was handed out")
    return Origin(url.scheme, url.hostname, url.port or _PORTS[url.scheme])


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, which is spoken to in the clear. `credentials` as its header wants them."""

    host: str
    port: int
    credentials: str | None

    def headers(self) -> dict[str, str]:
        return {} if self.credentials is None else {"Proxy-Authorization": self.credentials}


class Proxies:
    """The proxies that the usual variables name."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._named = {
            name.lower().removesuffix("_proxy"): value
            for name, value in sorted(environ.items())  # lower case comes last, and wins
            if name.lower().endswith("_proxy") and value
        }
        if "REQUEST_METHOD" in environ:
            self._named.pop("http", None)  # there anybody's header `Proxy` would have set it

    def of(self, origin: Origin) -> Proxy | None:
        """The proxy on the way there. Raises OSError for one that cannot be used."""
        named = self._named.get(origin.scheme)
        if named is None or self._is_direct(origin):
            return None
        url = urlsplit(named if "://" in named else f"http://{named}")
        if url.scheme != "http" or not url.hostname:
            raise OSError(0, f"proxies of the kind {url.scheme!r} cannot be used")
        return Proxy(url.hostname, url.port or 80, _basic(url))

    def _is_direct(self, origin: Origin) -> bool:
        hosts = (origin.host, f"{origin.host}:{origin.port}")
        names = [name.strip().lower().lstrip(".") for name in self._named.get("no", "").split(",")]
        return any(
            name in ("*", host) or host.endswith(f".{name}") for name in names if name for host in hosts
        )


def _basic(url: SplitResult) -> str | None:
    if url.username is None:
        return None
    pair = f"{unquote(url.username)}:{unquote(url.password or '')}"
    return "Basic " + base64.b64encode(pair.encode()).decode("ascii")


class _Connection(asyncio.Protocol):
    """One connection, with one request at a time."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.proxy: Proxy | None = None
        """Where requests go in the clear by a proxy, that proxy."""
        self.rests_since = 0.0
        self._loop = asyncio.get_running_loop()
        self._reader: AnswerReader | None = None
        self._done: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle
        self.lost: asyncio.Future[None] = self._loop.create_future()
        """Done when the loop has let go of it."""
        self._moved_at = 0.0

    @property
    def is_open(self) -> bool:
        return self.transport is not None and not self.transport.is_closing()

    def abort(self) -> None:
        """Closes it at once."""
        if self.transport is not None:
            self.transport.abort()

    def let_go(self) -> None:
        """Nobody waits for it any more."""
        if not self.lost.done():
            self.lost.set_result(None)

    async def exchange(
        self, head: bytes, body: bytes | memoryview, reader: AnswerReader, idle: float
    ) -> bool:
        """Sends a request and has `reader` take the answer; whether the connection can be used again.

        Raises OSError, BadAnswer, or TimeoutError when nothing moves for `idle` seconds.
        """
        done = self._done = self._loop.create_future()
        self._reader = reader
        self._moved_at = self._loop.time()
        self._timer = self._loop.call_later(idle, self._watch, idle)
        try:
            if not self.is_open:
                raise ConnectionResetError("the connection was closed")
            sent = await self._send(head, body, done)
            await done
        finally:
            self._done = self._reader = None
            self._timer.cancel()
        if not sent and reader.answer.status < 300:
            raise BadAnswer("the answer came before all was sent")
        return sent and reader.is_reusable and self.is_open

    def _watch(self, idle: float) -> None:
        left = self._moved_at + idle - self._loop.time()
        if left <= 0:
            self._fail(TimeoutError("nothing moved"))
        elif self._done is not None:
            self._timer = self._loop.call_later(left, self._watch, idle)

    async def _send(self, head: bytes, body: bytes | memoryview, done: asyncio.Future[None]) -> bool:
        """Whether all of it went out, which an early answer may spare us."""
        assert self.transport is not None
        if isinstance(body, bytes):
            self.transport.write(head + body)
            return True
        self.transport.write(head)
        for start in range(0, len(body), _PIECE):
            if self._drained is not None:
                await asyncio.wait((self._drained, done), return_when=asyncio.FIRST_COMPLETED)
            if done.done():
                return False
            self.transport.write(body[start : start + _PIECE])
        return True

    def _fail(self, error: Exception) -> None:
        if self._done is not None and not self._done.done():
            self._done.set_exception(error)
        self.abort()

    # what the loop calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.set_write_buffer_limits(high=_PIECE)

    def connection_lost(self, exc: Exception | None) -> None:
        self.let_go()
        self.resume_writing()
        if self._done is None or self._done.done():
            return
        assert self._reader is not None
        if not self._reader.has_begun:
            self._done.set_exception(exc or ConnectionResetError("the server closed the connection"))
            return
        try:
            if exc is not None:
                raise EndedEarly("the connection broke within an answer") from exc
            self._reader.end()
        except BadAnswer as error:
            self._done.set_exception(error)
        else:
            self._done.set_result(None)

    def data_received(self, data: bytes) -> None:
        reader, done = self._reader, self._done
        if reader is None or done is None or done.done():
            self.abort()  # nobody asked
            return
        self._moved_at = self._loop.time()
        try:
            reader.feed(data)
        except BadAnswer as error:
            self._fail(error)
        else:
            if reader.is_done:
                done.set_result(None)

    def pause_writing(self) -> None:
        self._drained = self._loop.create_future()

    def resume_writing(self) -> None:
        self._moved_at = self._loop.time()
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)


class Http:
    """Asks servers. `connect` and `idle`: seconds for a connection, and between two pieces of a body."""

    def __init__(self, *, connect: float, idle: float, proxies: Proxies | None) -> None:
        self._patience = connect
        self._idle = idle
        self._proxies = proxies
        self._resting: dict[Origin, list[_Connection]] = {}
        self._all: set[_Connection] = set()
        self._sweeping: asyncio.TimerHandle | None = None
        self._tls: ssl.SSLContext | None = None

    async def ask(
        self, method: str, url: str, *, headers: Mapping[str, str], limit: int, body: bytes | memoryview = b""
    ) -> Answer:
        """The answer, with little more than `limit` bytes of its body at most.

        Raises OSError (TimeoutError among them) when the server cannot be reached, BadAnswer when it
        does not speak HTTP/1.1, EndedEarly when the connection ended within the answer. Redirects are
        followed. When it is cancelled the connection is closed at once.
        """
        for _ in range(_REDIRECTS):
            answer = await self._once(method, url, headers, limit, body)
            target = answer.headers.get("location")
            if answer.status not in _MOVED or target is None or (answer.status == 303 and method != "GET"):
                return answer
            before, url = url, urljoin(url, target)
            if before.startswith("https:") and not url.startswith("https:"):
                raise BadAnswer("it leads from an address with TLS to one without")
        raise BadAnswer("it leads from one address to another")

    async def _once(
        self, method: str, url: str, headers: Mapping[str, str], limit: int, body: bytes | memoryview
    ) -> Answer:
        split = urlsplit(url)
        origin = origin_of(split)
        connection = self._rested(origin) or await self._connect(origin)
        try:
            head = _head(method, split, origin, connection.proxy, headers, body)
            reader = AnswerReader(limit)
            again = await connection.exchange(head, body, reader, self._idle)
        except BaseException:
            connection.abort()
            raise
        if again:
            self._rest(origin, connection)
        else:
            connection.abort()
        return reader.answer

    async def close(self) -> None:
        """Closes all connections."""
        if self._sweeping is not None:
            self._sweeping.cancel()
            self._sweeping = None
        self._resting.clear()
        for connection in self._all:
            connection.abort()
        if self._all:
            await asyncio.wait([connection.lost for connection in self._all], timeout=_GOODBYE)

    # connections

    def _rest(self, origin: Origin, connection: _Connection) -> None:
        loop = asyncio.get_running_loop()
        connection.rests_since = loop.time()
        self._resting.setdefault(origin, []).append(connection)
        if self._sweeping is None:
            self._sweeping = loop.call_later(_REST, self._sweep)

    def _rested(self, origin: Origin) -> _Connection | None:
        """An open connection that waits for work."""
        resting = self._resting.get(origin, [])
        while resting:
            connection = resting.pop()
            if connection.is_open:
                return connection
            connection.abort()
        return None

    def _sweep(self) -> None:
        """Closes what rested for long. The oldest lie in front: what was used last is used first."""
        loop = asyncio.get_running_loop()
        self._sweeping = None
        for resting in self._resting.values():
            while resting and (not resting[0].is_open or resting[0].rests_since <= loop.time() - _REST):
                resting.pop(0).abort()
        if any(self._resting.values()):
            self._sweeping = loop.call_later(_REST, self._sweep)

    async def _connect(self, origin: Origin) -> _Connection:
        proxy = self._proxies.of(origin) if self._proxies is not None else None
        async with asyncio.timeout(self._patience):
            if proxy is None:
                return await self._dial(origin.host, origin.port, origin if origin.is_secure else None)
            connection = await self._dial(proxy.host, proxy.port, None)
            try:
                if origin.is_secure:
                    await self._tunnel(connection, proxy, origin)
                else:
                    connection.proxy = proxy
            except BaseException:
                connection.abort()
                connection.let_go()
                raise
            return connection

    async def _dial(self, host: str, port: int, secure: Origin | None) -> _Connection:
        loop = asyncio.get_running_loop()
        extra: dict[str, Any] = {} if secure is None else {"ssl": self._context()}
        _, connection = await loop.create_connection(
            _Connection, host, port, happy_eyeballs_delay=0.25, **extra
        )
        self._all.add(connection)
        connection.lost.add_done_callback(lambda _: self._all.discard(connection))
        return connection

    async def _tunnel(self, connection: _Connection, proxy: Proxy, origin: Origin) -> None:
        target = f"{origin.host_text}:{origin.port}"
        head = request_head("CONNECT", target, {"Host": target} | proxy.headers())
        reader = AnswerReader(0, bodiless=True)
        await connection.exchange(head, b"", reader, self._idle)
        if reader.answer.status != 200:
            raise OSError(0, f"the proxy answered {reader.answer.status}")
        assert connection.transport is not None
        loop = asyncio.get_running_loop()
        inner = await loop.start_tls(
            connection.transport, connection, self._context(), server_hostname=origin.host
        )
        if inner is None:
            raise ConnectionResetError("the proxy closed the connection")
        connection.connection_made(inner)

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
            with suppress(NotImplementedError):
                self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls


def _head(
    method: str,
    url: SplitResult,
    origin: Origin,
    proxy: Proxy | None,
    headers: Mapping[str, str],
    body: bytes | memoryview,
) -> bytes:
    target = (url.path or "/") + (f"?{url.query}" if url.query else "")
    more = {"Host": origin.authority}
    if proxy is not None:
        target = f"http://{origin.authority}{target}"
        more |= proxy.headers()
    if method == "PUT":
        more["Content-Length"] = str(len(body))
    try:
        return request_head(method, target, more | dict(headers))
    except ValueError as error:
        raise BadAnswer("a URL that cannot be asked for was handed out") from error
