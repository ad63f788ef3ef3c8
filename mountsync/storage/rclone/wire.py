"""HTTP/1.1 over a Unix socket, by h11: one request at a time on a connection, connections kept."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import h11
import trio

_PIECE: Final = 1 << 18
_IDLE: Final = 16
"""Connections that are kept while nobody needs them."""


class Broken(Exception):
    """The connection failed. `sent`: the request may have arrived."""

    def __init__(self, reason: str, *, sent: bool) -> None:
        super().__init__(reason)
        self.sent = sent


class Answer:
    """Status and headers of a response (names in lower case); its body in pieces, or whole."""

    def __init__(self, connection: Connection, head: h11.Response) -> None:
        self._connection = connection
        self.status = head.status_code
        self.headers: Mapping[str, str] = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in head.headers
        }

    async def piece(self) -> bytes:
        """The next bytes of the body; none at its end. Raises Broken."""
        event = await self._connection.event()
        return bytes(event.data) if isinstance(event, h11.Data) else b""

    async def whole(self) -> bytes:
        """All that is left of the body. Raises Broken."""
        pieces = []
        while piece := await self.piece():
            pieces.append(piece)
        return b"".join(pieces)


class Connection:
    """One socket and the state of what is said on it."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._talk = h11.Connection(h11.CLIENT)

    async def ask(self, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Sends a request and waits for the head of its response. Raises Broken."""
        told = {"Host": "rclone", "Content-Length": str(len(body))} | dict(headers)
        request = h11.Request(method=method, target=target, headers=list(told.items()))
        parts = [
            self._talk.send(request),
            self._talk.send(h11.Data(body)),
            self._talk.send(h11.EndOfMessage()),
        ]
        try:
            await self._stream.send_all(b"".join(part or b"" for part in parts))
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise Broken("it was closed", sent=False) from error
        event = await self.event()
        while isinstance(event, h11.InformationalResponse):
            event = await self.event()
        if not isinstance(event, h11.Response):
            raise Broken("it was closed before an answer came", sent=True)
        return Answer(self, event)

    async def event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """What is said next. Raises Broken."""
        try:
            event = self._talk.next_event()
            while event is h11.NEED_DATA:
                self._talk.receive_data(await self._stream.receive_some(_PIECE))
                event = self._talk.next_event()
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError) as error:
            raise Broken(str(error) or "it was closed", sent=True) from error
        return event

    def is_reusable(self) -> bool:
        """Whether the last exchange ended well; then the next may begin."""
        if self._talk.our_state is h11.DONE and self._talk.their_state is h11.DONE:
            self._talk.start_next_cycle()
            return True
        return False

    def close(self) -> None:
        self._stream.socket.close()


class Wire:
    """Connections to one socket; as many at once as there are requests."""

    def __init__(self, socket: str) -> None:
        self._socket = socket
        self._idle: list[Connection] = []

    @asynccontextmanager
    async def ask(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b""
    ) -> AsyncIterator[Answer]:
        """A request and its answer, whose body is read inside. Cancelling it hangs up. Raises Broken."""
        connection, answer = await self._begin(method, target, headers, body)
        reusable = False
        try:
            yield answer
            reusable = connection.is_reusable() and len(self._idle) < _IDLE
        finally:
            if reusable:
                self._idle.append(connection)
            else:
                connection.close()

    async def _begin(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[Connection, Answer]:
        connection = self._idle.pop() if self._idle else await self._connect()
        try:
            return connection, await connection.ask(method, target, headers, body)
        except BaseException:
            connection.close()
            raise

    async def _connect(self) -> Connection:
        try:
            return Connection(await trio.open_unix_socket(self._socket))
        except OSError as error:
            raise Broken(str(error), sent=False) from error

    def close(self) -> None:
        """Hangs up on what is idle."""
        while self._idle:
            self._idle.pop().close()
