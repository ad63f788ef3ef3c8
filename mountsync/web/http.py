"""HTTP/1.1 on the loopback: h11 reads and writes it, trio carries it."""

from __future__ import annotations

import http
from collections.abc import Awaitable, Callable
from typing import Final

import h11
import structlog
import trio

from mountsync.errors import MountError
from mountsync.web.guard import Request
from mountsync.web.page import Response

_PATIENCE_S: Final = 30.0
"""A client that is silent, or does not read, for so long is cut off; a question may take that long too."""
_LONGEST_ANSWER_S: Final = 600.0
"""Settling a conflict may move a whole file."""
_MAX_HEAD: Final = 16 << 10
_MAX_BODY: Final = 64 << 10
_AT_ONCE: Final = 32
_LINGER_S: Final = 2.0
_LINGER_READS: Final = 64

_log = structlog.get_logger(__name__)

Answer = Callable[[Request], Awaitable[Response]]


class _TooLarge(Exception):
    """A body that no request of ours has."""


async def listen(port: int) -> trio.SocketListener:
    """Listens on 127.0.0.1; 0: any port that is free. Raises MountError."""
    try:
        [listener] = await trio.open_tcp_listeners(port, host="127.0.0.1")
    except OSError as error:
        raise MountError(
            f"127.0.0.1:{port} cannot be used ({(error.strerror or str(error)).lower()})",
            hint="choose another --port, or leave it out",
        ) from error
    return listener


def port_of(listener: trio.SocketListener) -> int:
    """Where it listens."""
    port: int = listener.socket.getsockname()[1]
    return port


async def serve(listener: trio.SocketListener, answer: Answer) -> None:
    """Answers until cancelled. A client that misbehaves ends its own connection and no other."""
    room = trio.Semaphore(_AT_ONCE)

    async def greet(stream: trio.SocketStream) -> None:
        async with room:
            await _Connection(stream, answer).run()

    await trio.serve_listeners(greet, [listener])


class _Connection:
    """One client, request after request."""

    def __init__(self, stream: trio.SocketStream, answer: Answer) -> None:
        self._stream = stream
        self._answer = answer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)

    async def run(self) -> None:
        try:
            while await self._one():
                self._http.start_next_cycle()
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            _log.debug("a browser went away")
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint)
        except _TooLarge:
            await self._refuse(413)

    async def _one(self) -> bool:
        """Answers one request; whether another may follow."""
        with trio.fail_after(_PATIENCE_S):
            request = await self._receive()
        if request is None:
            return False
        with trio.fail_after(_LONGEST_ANSWER_S):
            response = await self._answered(request)
        with trio.fail_after(_PATIENCE_S):
            await self._send(response, only_head=request.method == "HEAD")
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    async def _receive(self) -> Request | None:
        head: h11.Request | None = None
        body = b""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                await self._more()
            elif isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
                if len(body) > _MAX_BODY:
                    raise _TooLarge
            elif isinstance(event, h11.EndOfMessage):
                assert head is not None
                return _request(head, body)
            else:
                return None

    async def _more(self) -> None:
        if self._http.they_are_waiting_for_100_continue:
            await self._write(h11.InformationalResponse(status_code=100, headers=[]))
        self._http.receive_data(await self._stream.receive_some(_MAX_HEAD))

    async def _answered(self, request: Request) -> Response:
        try:
            return await self._answer(request)
        except Exception:  # noqa: BLE001 - a bug in one answer must not end the others
            _log.exception("a request of a browser failed", path=request.path)
            return Response(500, b"internal error; see the output of `mountsync web`\n")

    async def _send(self, response: Response, *, only_head: bool) -> None:
        reason = http.HTTPStatus(response.status).phrase
        await self._write(h11.Response(status_code=response.status, reason=reason, headers=response.headers))
        if not only_head:
            await self._write(h11.Data(data=response.body))
        await self._write(h11.EndOfMessage())

    async def _write(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            await self._stream.send_all(data)

    async def _refuse(self, status: int) -> None:
        """Says why nothing more is read."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        with trio.move_on_after(_PATIENCE_S):
            try:
                answer = Response(status, b"not a request for this page\n", extra={"Connection": "close"})
                await self._send(answer, only_head=False)
                await self._drain()
            except (trio.BrokenResourceError, h11.LocalProtocolError):
                _log.debug("a browser went away")

    async def _drain(self) -> None:
        """Reads on for a while: hanging up on what is still coming would take the answer away, too."""
        await self._stream.send_eof()
        with trio.move_on_after(_LINGER_S):
            for _ in range(_LINGER_READS):
                if not await self._stream.receive_some(_MAX_BODY):
                    return


def _request(head: h11.Request, body: bytes) -> Request:
    headers: dict[str, str] = {}
    for name, value in head.headers:
        key = name.decode("ascii").lower()
        # Twice the same header is never ours; the joined value then fits nothing.
        headers[key] = (
            f"{headers[key]},{value.decode('latin-1')}" if key in headers else value.decode("latin-1")
        )
    return Request(head.method.decode("ascii"), head.target.decode("latin-1"), headers, body)
