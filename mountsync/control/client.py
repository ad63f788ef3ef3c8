"""The client side of the control socket, for the command line and for tests."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import msgspec
import trio

from mountsync import errors
from mountsync.control import sockets, wire
from mountsync.control.lines import LineReader
from mountsync.control.protocol import COMMANDS, Command, Event, Failure, Request
from mountsync.errors import MountError, MountsyncError, Unreachable, alone_in

_LONGEST_REPLY = 1 << 30


class _Incoming(msgspec.Struct):
    """Any line from the server."""

    id: int | None = None
    result: Any = None
    error: Failure | None = None
    event: Event | None = None


class _Waiting:
    """A request whose reply has not come."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.reply = _Incoming()


class Client:
    """One connection. Requests may run side by side; events come after `subscribe`."""

    def __init__(self, stream: trio.SocketStream, commands: Mapping[str, Command] = COMMANDS) -> None:
        self._stream = stream
        self._commands = commands
        self._waiting: dict[int, _Waiting] = {}
        self._last_id = 0
        self._sending = trio.Lock()
        self._put_event, self.events = trio.open_memory_channel[Event](1024)

    async def request(self, cmd: str, /, **args: Any) -> Any:
        """Carries out a command and returns its result, of the type that `COMMANDS` names.

        Raises the error that the server reports, as its class of `mountsync.errors`, and Unreachable
        when the mount ends before it answers.
        """
        self._last_id += 1
        number = self._last_id
        waiting = self._waiting[number] = _Waiting()
        line = wire.encode(Request(number, cmd, args))
        try:
            async with self._sending:
                await self._stream.send_all(line + b"\n")
            await waiting.done.wait()
        except trio.BrokenResourceError as error:
            raise _gone() from error
        finally:
            del self._waiting[number]
        return _result_of(self._commands[cmd], waiting.reply)

    async def receive(self) -> None:
        """Hands out replies and events until the server hangs up; `open_client` runs it."""
        try:
            with suppress(trio.BrokenResourceError):  # hanging up and vanishing are the same to us
                async for line in LineReader(self._stream, _LONGEST_REPLY):
                    self._dispatch(wire.decode(line, _Incoming))
        finally:
            self._put_event.close()
            for waiting in self._waiting.values():
                waiting.done.set()

    def _dispatch(self, incoming: _Incoming) -> None:
        if incoming.event is not None:
            try:
                self._put_event.send_nowait(incoming.event)
            except trio.WouldBlock:
                return  # events are hints for a display; one that falls behind may miss some
        elif incoming.id is None or incoming.id in self._waiting:
            addressed = self._waiting.values() if incoming.id is None else [self._waiting[incoming.id]]
            for waiting in addressed:
                waiting.reply = incoming
                waiting.done.set()


def _result_of(command: Command, reply: _Incoming) -> Any:
    if reply.error is not None:
        raise rebuilt(reply.error)
    if reply.result is None:
        raise _gone()
    return msgspec.convert(reply.result, type=command.result)


def _gone() -> Unreachable:
    return Unreachable("the mount ended before it answered", hint="see its log")


def rebuilt(failure: Failure) -> MountsyncError:
    """The error that the server described; its message is complete already."""
    kind = getattr(errors, failure.class_, MountsyncError)
    if not (isinstance(kind, type) and issubclass(kind, MountsyncError)):
        kind = MountsyncError
    error = kind.__new__(kind)
    MountsyncError.__init__(error, failure.message)
    return error


@asynccontextmanager
async def open_client(path: Path, commands: Mapping[str, Command] = COMMANDS) -> AsyncIterator[Client]:
    """A connection to the mount that listens at `path`. Raises MountError when none does."""
    try:
        connected = sockets.connect(path)
    except OSError as error:
        raise _cannot_connect(path, error) from error
    async with trio.SocketStream(trio.socket.from_stdlib_socket(connected)) as stream:
        client = Client(stream, commands)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(client.receive)
                yield client
                nursery.cancel_scope.cancel()
        except BaseExceptionGroup as group:
            raise alone_in(group) from None


def _cannot_connect(path: Path, error: OSError) -> MountError:
    if isinstance(error, PermissionError):
        return MountError("the control socket belongs to another user", path=os.fspath(path))
    return MountError("no mount listens there", path=os.fspath(path), hint="see `mountsync status`")


async def ask(socket: Path, cmd: str, /, *, within: float | None = None, **args: Any) -> Any:
    """One command over a connection of its own; Unreachable when `within` seconds pass."""
    with trio.move_on_after(within if within is not None else float("inf")):
        async with open_client(socket) as client:
            return await client.request(cmd, **args)
    raise Unreachable("the mount does not answer", path=os.fspath(socket), hint="is its process stopped?")


def ask_sync(socket: Path, cmd: str, /, *, within: float | None = None, **args: Any) -> Any:
    """`ask` for programs without a loop."""

    async def run() -> Any:
        return await ask(socket, cmd, within=within, **args)

    return trio.run(run)
