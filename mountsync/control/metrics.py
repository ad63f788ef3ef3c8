"""Serves figures for Prometheus over HTTP: `GET /metrics`, nothing else."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
import trio
from msgspec.structs import replace

from mountsync.errors import MountError
from mountsync.formats.metrics_text import CONTENT_TYPE, metrics_text
from mountsync.model.status import Status
from mountsync.settings import Endpoint
from mountsync.telemetry import without_secrets

_PATIENCE_S: Final = 10.0
"""A client that asks or reads more slowly is cut off."""
_MAX_REQUEST: Final = 16 << 10
_AT_ONCE: Final = 16
_END: Final = b"\r\n\r\n"
_REFUSAL: Final = b"HTTP/1.1 400 "
_DRAIN_S: Final = 2.0
_DRAIN_PIECES: Final = 64

_log = structlog.get_logger(__name__)

Statuses = Callable[[], Awaitable[Sequence[Status]]]


async def serve_metrics(
    statuses: Statuses,
    endpoint: Endpoint,
    version: str,
    *,
    task_status: trio.TaskStatus[int] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answers until cancelled; starts with the port. Raises MountError when it cannot listen there."""
    try:
        listeners = await trio.open_tcp_listeners(endpoint.port, host=endpoint.host)
    except OSError as error:
        where = f"{endpoint.host}:{endpoint.port}"
        raise MountError(
            f"figures cannot be served at {where} ({(error.strerror or str(error)).lower()})",
            hint="choose another --metrics",
        ) from error
    port: int = listeners[0].socket.getsockname()[1]
    _log.info("figures are served", host=endpoint.host, port=port)
    task_status.started(port)
    await trio.serve_listeners(_Answerer(statuses, version), listeners)


class _Answerer:
    """One request per connection."""

    def __init__(self, statuses: Statuses, version: str) -> None:
        self._statuses = statuses
        self._version = version
        self._room = trio.Semaphore(_AT_ONCE)

    async def __call__(self, stream: trio.SocketStream) -> None:
        with trio.move_on_after(_PATIENCE_S):
            async with self._room:
                try:
                    answer = await self._answer(stream)
                    await stream.send_all(answer)
                    await stream.send_eof()
                    if answer.startswith(_REFUSAL):
                        await _drain(stream)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    _log.debug("a reader of figures went away")

    async def _answer(self, stream: trio.SocketStream) -> bytes:
        method, path = _request(await _head(stream))
        if not method:
            return _reply("400 Bad Request", "not a request\n")
        if method not in ("GET", "HEAD"):
            return _reply("405 Method Not Allowed", "only GET\n", extra="Allow: GET, HEAD\r\n")
        if path != "/metrics":
            return _reply("404 Not Found", "the figures are at /metrics\n")
        # A mount without a section bears the text of its remote.
        named = [replace(each, name=without_secrets(each.name)) for each in await self._statuses()]
        text = metrics_text(named, self._version)
        return _reply("200 OK", text, kind=CONTENT_TYPE, only_head=method == "HEAD")


async def _drain(stream: trio.abc.ReceiveStream) -> None:
    """Takes what a client still sends: a close with bytes unread would take the answer back."""
    with trio.move_on_after(_DRAIN_S):
        for _ in range(_DRAIN_PIECES):
            if not await stream.receive_some(_MAX_REQUEST):
                return


async def _head(stream: trio.SocketStream) -> bytes:
    """What came before the empty line; less when the client stopped or sent too much."""
    data = b""
    while _END not in data and len(data) <= _MAX_REQUEST:
        more = await stream.receive_some(4096)
        if not more:
            break
        data += more
    return data


def _request(head: bytes) -> tuple[str, str]:
    """Method and path without its query; empty when it is no request."""
    words = head.partition(b"\r\n")[0].decode("latin-1").split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1.") or _END not in head:
        return "", ""
    return words[0], words[1].partition("?")[0]


def _reply(
    status: str,
    text: str,
    *,
    kind: str = "text/plain; charset=utf-8",
    extra: str = "",
    only_head: bool = False,
) -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        f"{extra}Connection: close\r\n\r\n"
    )
    return head.encode("ascii") + (b"" if only_head else body)
