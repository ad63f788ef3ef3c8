"""gRPC connections: the first of several servers that answers. On the asyncio loop only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import urlsplit

from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase
from grpclib.exceptions import GRPCError, ProtocolError, StreamTerminatedError
from grpclib.protocol import H2Protocol
from h2.exceptions import ProtocolError as H2ProtocolError
from modal_proto import api_pb2

from mountsync.errors import Unreachable
from mountsync.storage.modal.headers import Headers
from mountsync.storage.modal.road import Origin, Road

logging.getLogger("hpack").setLevel(logging.INFO)  # at DEBUG it writes every header, also the secret ones

_WINDOW: Final = 64 << 20
_CONFIGURATION: Final = Configuration(
    _keepalive_time=30.0,
    _keepalive_timeout=10.0,
    _keepalive_permit_without_calls=True,
    _http2_min_sent_ping_interval_without_data=15.0,
    http2_connection_window_size=_WINDOW,
    http2_stream_window_size=_WINDOW,
)


class Details(StatusDetailsCodecBase):
    """Error details: an RPCStatus of Any messages, of which we know the retry policy."""

    def encode(self, status: Status, message: str | None, details: Any) -> bytes:
        raise NotImplementedError("only servers send details")

    def decode(self, status: Status, message: str | None, data: bytes) -> list[Any]:  # noqa: ARG002 - its face
        found = []
        for box in api_pb2.RPCStatus.FromString(data).details:
            policy = api_pb2.RPCRetryPolicy()
            if box.Unpack(policy):
                found.append(policy)
        return found


LOST: Final = (OSError, StreamTerminatedError, ProtocolError, H2ProtocolError, TimeoutError)
"""What a call ends with that was not answered."""
_PATIENCE: Final = 2
"""So many calls in a row that an open connection leaves without an answer are the end of it."""


class _Gathering:
    """A transport that sends what many calls write in one turn of the loop together.

    grpclib writes each frame by itself, and each write is a system call.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> None:
        """As `Transport.write`."""
        self._parts.append(data)
        if len(self._parts) == 1:
            asyncio.get_running_loop().call_soon(self._send)

    def _send(self) -> None:
        parts, self._parts = self._parts, []
        if parts and not self._transport.is_closing():
            self._transport.write(b"".join(parts))

    def close(self) -> None:
        """As `Transport.close`."""
        self._send()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class Link(Channel):
    """One connection, made once: when it is lost there may be another server, which `Channels` knows."""

    def __init__(self, url: str, road: Road) -> None:
        split = urlsplit(url)
        self._road = road
        self._is_secure = split.scheme == "https"
        place: dict[str, Any] = {"path": split.path}
        if split.scheme != "unix":
            place = {"host": split.hostname, "port": split.port or (443 if self._is_secure else 80)}
        tls = road.tls if self._is_secure else None
        super().__init__(**place, ssl=tls, config=_CONFIGURATION, status_details_codec=Details())
        self.users = 0
        """Calls that are under way."""
        self.unanswered = 0
        """Calls in a row that were not answered."""

    @property
    def is_open(self) -> bool:
        return self._protocol is not None and self._connected and not self._protocol.connection.is_closing()

    async def open(self) -> None:
        """Connects. Raises OSError."""
        self._protocol = await self._create_connection()

    async def __connect__(self) -> H2Protocol:
        if self._protocol is None or not self.is_open:
            raise ConnectionResetError("the connection was lost")
        return self._protocol

    def close(self) -> None:
        """Closes it at once: what a dead line does not take would keep it open."""
        transport = getattr(self._protocol.connection, "_transport", None) if self._protocol else None
        if transport is not None:
            transport.abort()
        super().close()

    async def _create_connection(self) -> H2Protocol:
        if self._path is not None:
            return await self._road.local(self._make_protocol, self._path)
        origin = Origin("https" if self._is_secure else "http", self._host, self._port)
        return await self._road.to(self._make_protocol, origin)

    def _make_protocol(self) -> H2Protocol:
        protocol = self._protocol_factory()
        connected = protocol.connection_made

        def connection_made(transport: Any) -> None:
            connected(_Gathering(transport))  # type: ignore[arg-type] # it does all that is asked of it
            protocol.connection._connection.encoder = Headers()

        protocol.connection_made = connection_made  # type: ignore[method-assign] # as a subclass would
        return protocol


class Channels:
    """One connection, to whichever of `servers` answers; another one is made when it is lost."""

    def __init__(self, servers: Sequence[str], patience: float, road: Road) -> None:
        """`patience`: seconds for connecting to one server."""
        self._servers = list(servers)
        self._patience = patience
        self._road = road
        self._link: Link | None = None
        self._links: set[Link] = set()
        """The present one, and those that only wait for the end of their calls."""
        self._opening: asyncio.Task[Link] | None = None

    @asynccontextmanager
    async def use(self, seconds: float) -> AsyncIterator[Link]:
        """A connection for one call, which has so many seconds; connecting is a part of them.

        Raises OSError or TimeoutError of the last server when none answers, and TimeoutError when time is
        over. A connection that is lost is not used again. One that merely leaves calls without an answer
        stays with those that it has, and others get a new one when that happens twice in a row: one slow
        call says nothing about the rest, and one that had hardly any time left nothing about the connection.
        """
        clock = asyncio.get_running_loop().time
        end = clock() + seconds
        link = self._present()
        if link is None:
            async with asyncio.timeout_at(end):
                link = await self._get()
        link.users += 1
        began = clock()
        try:
            async with asyncio.timeout_at(end):
                yield link
            link.unanswered = 0
        except GRPCError:
            link.unanswered = 0
            raise
        except LOST as lost:
            is_fair = clock() - began >= self._patience / 2
            link.unanswered += is_fair or not isinstance(lost, TimeoutError)
            raise
        finally:
            link.users -= 1
            self._tidy(link)

    def _tidy(self, link: Link) -> None:
        if link is self._link and not (link.is_open and link.unanswered < _PATIENCE):
            self._link = None
        if link is not self._link and not (link.users and link.is_open):
            self._links.discard(link)
            link.close()

    def _present(self) -> Link | None:
        """The connection that is there; None when there is none any more."""
        if self._link is not None and not self._link.is_open:
            self._tidy(self._link)
        return self._link

    async def _get(self) -> Link:
        if self._opening is None:
            self._opening = asyncio.ensure_future(self._connect())
            self._opening.add_done_callback(self._opened)
        return await asyncio.shield(self._opening)  # others may wait for it too

    def _opened(self, opening: asyncio.Task[Link]) -> None:
        self._opening = None
        if not opening.cancelled() and opening.exception() is None:
            self._link = opening.result()
            self._links.add(self._link)

    def close(self) -> None:
        """Closes all connections."""
        if self._opening is not None:
            self._opening.cancel()
        for link in self._links:
            link.close()
        self._links.clear()
        self._link = None

    async def _connect(self) -> Link:
        last: Exception = Unreachable("there is no server")
        for url in list(self._servers):
            link = Link(url, self._road)
            try:
                async with asyncio.timeout(self._patience):
                    await link.open()
            except OSError as error:  # TimeoutError is one
                last = error
                continue
            self._servers.sort(key=lambda server: server != url)
            return link
        raise last
