"""gRPC connections: the first of several servers that answers. On the asyncio loop only."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from grpclib.client import Channel
from grpclib.config import Configuration
from grpclib.const import Status
from grpclib.encoding.base import StatusDetailsCodecBase
from modal_proto import api_pb2

from mountsync.errors import Unreachable

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


class Channels:
    """One connection, to whichever of `servers` answered; made anew when it is lost."""

    def __init__(self, servers: Sequence[str], patience: float) -> None:
        """`patience`: seconds for connecting to one server."""
        self._servers = list(servers)
        self._patience = patience
        self._channel: Channel | None = None
        self._lock = asyncio.Lock()

    async def get(self) -> Channel:
        """A connected channel. Raises OSError or TimeoutError of the last server when none answers."""
        if self._channel is not None:
            return self._channel
        async with self._lock:
            if self._channel is None:
                self._channel = await self._connect()
            return self._channel

    def drop(self) -> None:
        """Forgets the connection: the next call makes another one, perhaps to another server."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None

    close = drop

    async def _connect(self) -> Channel:
        last: Exception = Unreachable("there is no server")
        for url in list(self._servers):
            channel = _channel(url)
            try:
                async with asyncio.timeout(self._patience):
                    await channel.__connect__()
            except (OSError, TimeoutError) as error:
                channel.close()
                last = error
                continue
            self._servers.sort(key=lambda server: server != url)
            return channel
        raise last


def _channel(url: str) -> Channel:
    split = urlsplit(url)
    common: dict[str, Any] = {"config": _CONFIGURATION, "status_details_codec": Details()}
    if split.scheme == "unix":
        return Channel(path=split.path, **common)
    secure = split.scheme == "https"
    return Channel(split.hostname, split.port or (443 if secure else 80), ssl=secure or None, **common)
