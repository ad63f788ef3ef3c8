"""The server side of the control socket: many clients, none of whom can harm another or the session."""

from __future__ import annotations

import os
import select
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
import trio

from mountsync.control import sockets, wire
from mountsync.control.lines import LineReader
from mountsync.control.protocol import (
    COMMANDS,
    MAX_LINE,
    Command,
    Conflicts,
    Controllable,
    Done,
    Events,
    Evicted,
    Failure,
    FlushArgs,
    Notice,
    PathArgs,
    Refusal,
    Request,
    ResolveArgs,
    Result,
    ResumeArgs,
    ShutdownArgs,
)
from mountsync.errors import AccessRefused, MountsyncError, UsageError, describe

_AT_ONCE: Final = 16
"""Requests of one client that run at the same time; further ones wait in its socket."""
_SEND_TIMEOUT_S: Final = 30.0
"""A client that reads nothing for so long is cut off."""

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Service:
    """What a socket offers: its commands, who carries them out, and where events come from.

    Each handler gets the object that is served and the checked arguments.
    """

    commands: Mapping[str, Command]
    handlers: Mapping[str, Callable[[Any, Any], Awaitable[msgspec.Struct]]]
    events: Callable[[Any, Any], AbstractAsyncContextManager[Events]]


async def serve(
    control: object,
    path: Path,
    service: Service | None = None,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answers clients at the socket `path` until cancelled; the socket is there when it has started.

    `control` is a `Controllable`, or whatever the handlers of `service` take.

    The caller holds the lock of the folder. Raises OSError when the socket cannot be made.
    """
    with sockets.bind(path) as bound:
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(bound))
        try:
            task_status.started()
            await trio.serve_listeners(_Greeter(control, service or MOUNT_SERVICE), [listener])
        finally:
            with suppress(FileNotFoundError):
                os.unlink(path)


class _Greeter:
    """Lets a client in, and keeps its going away from the others."""

    def __init__(self, control: object, service: Service) -> None:
        self._control = control
        self._service = service

    async def __call__(self, stream: trio.SocketStream) -> None:
        client = _Client(self._control, self._service, stream)
        try:
            await client.run()
        except* (trio.BrokenResourceError, trio.ClosedResourceError):
            _log.debug("a control client went away")


class _Client:
    """One connection."""

    def __init__(self, control: object, service: Service, stream: trio.SocketStream) -> None:
        self._control = control
        self._service = service
        self._stream = stream
        self._sending = trio.Lock()
        self._room = trio.Semaphore(_AT_ONCE)
        self._subscription: tuple[Events, trio.Event] | None = None

    async def run(self) -> None:
        """Serves the client until it leaves."""
        if not self._is_ours():
            await self._refuse(None, AccessRefused("this socket belongs to another user"))
            return
        async with trio.open_nursery() as nursery:
            try:
                async for line in LineReader(self._stream, MAX_LINE):
                    await self._room.acquire()
                    nursery.start_soon(self._answer, line, nursery)
            except UsageError as error:
                await self._refuse(None, error)
                nursery.cancel_scope.cancel()
            if self._has_left():
                nursery.cancel_scope.cancel()

    def _is_ours(self) -> bool:
        return sockets.peer_uid(self._stream.socket) in (os.getuid(), 0)

    def _has_left(self) -> bool:
        """Whether the client is gone, and did not just finish sending."""
        poll = select.poll()
        poll.register(self._stream.socket.fileno(), 0)
        return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))

    async def _answer(self, line: bytes, nursery: trio.Nursery) -> None:
        number = None
        try:
            request = _request(line)
            number = request.id
            args = _arguments(request, self._service.commands)
            if request.cmd == "subscribe":
                await nursery.start(self._forward_events, args)
            result = await self._service.handlers[request.cmd](self._control, args)
            await self._send(Result(number, result))
        except MountsyncError as error:
            await self._refuse(number, error)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise
        except Exception as error:  # noqa: BLE001 - a bug in one command must not end the mount
            _log.exception("a control command failed")
            await self._refuse(number, MountsyncError(f"internal error: {error!r}", hint="see the log"))
        finally:
            self._room.release()

    async def _forward_events(self, args: object, task_status: trio.TaskStatus[None]) -> None:
        """Sends what it subscribed to; what the subscription before this one still has goes first."""
        async with self._service.events(self._control, args) as events:
            before, over = self._subscription, trio.Event()
            self._subscription = events, over
            task_status.started()
            try:
                if before is not None:
                    before[0].end()
                    await before[1].wait()
                async for event in events:
                    await self._send(Notice(event))
            finally:
                over.set()

    async def _refuse(self, number: int | None, error: MountsyncError) -> None:
        described = describe(error)
        failure = Failure(class_=described["class"], message=described["message"], path=described.get("path"))
        await self._send(Refusal(number, failure))

    async def _send(self, message: msgspec.Struct) -> None:
        line = wire.encode(message) + b"\n"
        with trio.move_on_after(_SEND_TIMEOUT_S) as deadline:
            async with self._sending:
                await self._stream.send_all(line)
        if deadline.cancelled_caught:
            raise trio.BrokenResourceError("the client does not read")


def _request(line: bytes) -> Request:
    try:
        return wire.decode(line, Request)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise UsageError(f"not a request: {error}") from error


def _arguments(request: Request, commands: Mapping[str, Command]) -> Any:
    """The checked arguments. Raises UsageError that says what is wrong."""
    command = commands.get(request.cmd)
    if command is None:
        known = ", ".join(sorted(commands))
        raise UsageError(f"there is no command {request.cmd!r}", hint=f"known: {known}")
    try:
        return msgspec.convert(request.args, type=command.args)
    except msgspec.ValidationError as error:
        raise UsageError(f"wrong arguments of {request.cmd}: {error}") from error


async def _status(control: Controllable, _: Any) -> msgspec.Struct:
    return await control.status()


async def _flush(control: Controllable, args: FlushArgs) -> msgspec.Struct:
    return await control.flush(timeout=args.timeout)


async def _pause(control: Controllable, _: Any) -> msgspec.Struct:
    await control.pause()
    return Done()


async def _resume(control: Controllable, args: ResumeArgs) -> msgspec.Struct:
    return await control.resume(confirm=args.confirm)


async def _conflicts(control: Controllable, _: Any) -> msgspec.Struct:
    return Conflicts(conflicts=await control.conflicts())


async def _resolve(control: Controllable, args: ResolveArgs) -> msgspec.Struct:
    await control.resolve(args.path, keep=args.keep)
    return Done()


async def _pin(control: Controllable, args: PathArgs) -> msgspec.Struct:
    await control.pin(args.path)
    return Done()


async def _unpin(control: Controllable, args: PathArgs) -> msgspec.Struct:
    await control.unpin(args.path)
    return Done()


async def _evict(control: Controllable, args: PathArgs) -> msgspec.Struct:
    return Evicted(freed=await control.evict(args.path))


async def _shutdown(control: Controllable, args: ShutdownArgs) -> msgspec.Struct:
    await control.shutdown(drain=args.drain)
    return Done()


async def _subscribed(_: Controllable, __: Any) -> msgspec.Struct:
    return Done()


_HANDLERS: Final[dict[str, Callable[[Controllable, Any], Awaitable[msgspec.Struct]]]] = {
    "status": _status,
    "flush": _flush,
    "pause": _pause,
    "resume": _resume,
    "conflicts": _conflicts,
    "resolve": _resolve,
    "pin": _pin,
    "unpin": _unpin,
    "evict": _evict,
    "shutdown": _shutdown,
    "subscribe": _subscribed,
}


def _events(control: Controllable, _: object) -> AbstractAsyncContextManager[Events]:
    return control.subscribe()


MOUNT_SERVICE: Final = Service(COMMANDS, _HANDLERS, _events)
"""What the socket of a mount offers."""
