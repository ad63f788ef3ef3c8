"""The control socket: its server, its client, and what a bad client can do (nothing)."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from mountsync.control import sockets
from mountsync.control.client import ask, open_client
from mountsync.control.events import BACKLOG, Broadcaster
from mountsync.control.protocol import MAX_LINE, Event, Keep, LostEvent, StateEvent
from mountsync.control.server import serve
from mountsync.errors import Halted, MountError, MountsyncError, NotFound, Unreachable, UsageError
from mountsync.model.status import ConflictStatus, Status
from tests.parts.statuses import status_of


class Session:
    """A small session that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []
        self.hub = Broadcaster("notes")
        self.flushing = trio.Event()
        self.flushed = trio.Event()

    async def status(self) -> Status:
        return status_of(name="notes", pid=os.getpid(), entries=3)

    async def flush(self, *, timeout: float | None) -> Status:
        self.told.append(("flush", timeout))
        self.flushing.set()
        await self.flushed.wait()
        return await self.status()

    async def pause(self) -> None:
        raise RuntimeError("a bug")

    async def resume(self, *, confirm: bool) -> Status:
        if not confirm:
            raise Halted("41 of 42 entries would be deleted", hint="look, then resume --confirm")
        return await self.status()

    async def conflicts(self) -> list[ConflictStatus]:
        return []

    async def resolve(self, path: str, *, keep: Keep) -> None:
        raise NotFound("no conflict is there", path=path)

    async def pin(self, path: str) -> None:
        self.told.append(("pin", path))

    async def unpin(self, path: str) -> None:
        self.told.append(("unpin", path))

    async def evict(self, path: str) -> int:
        return len(path)

    async def shutdown(self, *, drain: bool) -> None:
        self.told.append(("shutdown", drain))

    @asynccontextmanager
    async def subscribe(self) -> AsyncIterator[AsyncIterator[Event]]:
        async with self.hub.listen() as events:
            yield events


@pytest.fixture
async def session(tmp_path: Path) -> AsyncIterator[tuple[Session, Path]]:
    """A session that listens at a path, and that path."""
    control = Session()
    path = tmp_path / "control.sock"
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, control, path)
        yield control, path
        nursery.cancel_scope.cancel()


async def raw(path: Path, *lines: bytes) -> list[dict[str, object]]:
    """Replies to lines sent as they are, the write side closed after them."""
    async with trio.SocketStream(trio.socket.from_stdlib_socket(sockets.connect(path))) as stream:
        await stream.send_all(b"".join(lines))
        await stream.send_eof()
        data = b"".join([piece async for piece in stream])
    return [json.loads(line) for line in data.splitlines()]


async def test_status_comes_back_typed(session: tuple[Session, Path]) -> None:
    status = await ask(session[1], "status")
    assert isinstance(status, Status)
    assert (status.name, status.entries) == ("notes", 3)


async def test_socket_is_private_from_the_moment_of_bind(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        with sockets.bind(tmp_path / "s"):
            assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o600
    finally:
        os.umask(before)


async def test_socket_goes_away_with_the_server(tmp_path: Path) -> None:
    path = tmp_path / "s"
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, Session(), path)
        assert path.exists()
        nursery.cancel_scope.cancel()
    assert not path.exists()


async def test_left_over_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    sockets.bind(path).close()
    assert path.exists()
    with pytest.raises(MountError, match="no mount listens there"):
        await ask(path, "status")
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, Session(), path)
        assert (await ask(path, "status")).name == "notes"
        nursery.cancel_scope.cancel()


async def test_path_longer_than_a_socket_address(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120) / ("y" * 120)
    folder.mkdir(parents=True)
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, Session(), folder / "control.sock")
        assert (await ask(folder / "control.sock", "status")).name == "notes"
        nursery.cancel_scope.cancel()


async def test_peer_uid_is_what_the_kernel_says() -> None:
    here, there = socket.socketpair(socket.AF_UNIX)
    with here, there:
        assert sockets.peer_uid(here) == os.getuid()


async def test_errors_keep_class_and_sentence(session: tuple[Session, Path]) -> None:
    with pytest.raises(NotFound) as caught:
        await ask(session[1], "resolve", path="a/b", keep="local")
    assert str(caught.value) == "a/b: no conflict is there"
    with pytest.raises(Halted, match="resume --confirm"):
        await ask(session[1], "resume", confirm=False)


async def test_unknown_command_names_the_known_ones(session: tuple[Session, Path]) -> None:
    with pytest.raises(UsageError, match=r"known: .*flush"):
        await raw_error(session[1], {"id": 1, "cmd": "stats"})


async def raw_error(path: Path, request: dict[str, object]) -> None:
    [reply] = await raw(path, json.dumps(request).encode() + b"\n")
    error = reply["error"]
    assert isinstance(error, dict)
    assert error["class"] == "UsageError"
    raise UsageError(error["message"])


@pytest.mark.parametrize(
    "request_",
    [
        {"id": 1, "cmd": "status", "args": {"jobs": 1}},
        {"id": 1, "cmd": "status", "extra": 1},
        {"id": 1, "cmd": "flush", "args": {"timeout": "soon"}},
        {"id": 1, "cmd": "resolve", "args": {"path": "a", "keep": "mine"}},
        {"id": 1, "cmd": "resolve", "args": {"path": "a"}},
        {"id": "one", "cmd": "status"},
        {"cmd": "status"},
    ],
)
async def test_what_is_not_declared_is_refused(
    session: tuple[Session, Path], request_: dict[str, object]
) -> None:
    with pytest.raises(UsageError):
        await raw_error(session[1], request_)


async def test_garbage_is_answered_and_the_next_line_still_served(session: tuple[Session, Path]) -> None:
    replies = await raw(session[1], b"{{{\n", b"\xff\xfe\n", b'{"id": 7, "cmd": "status"}\n')
    by_id = {reply["id"]: reply for reply in replies}
    assert set(by_id) == {None, 7}
    assert "result" in by_id[7]


async def test_endless_line_cuts_only_that_client_off(session: tuple[Session, Path]) -> None:
    async with trio.SocketStream(trio.socket.from_stdlib_socket(sockets.connect(session[1]))) as stream:
        with pytest.raises(trio.BrokenResourceError):
            while True:
                await stream.send_all(b"x" * MAX_LINE)
    assert (await ask(session[1], "status")).name == "notes"


async def test_deep_nesting_is_refused(session: tuple[Session, Path]) -> None:
    with pytest.raises(UsageError, match="not a request"):
        [reply] = await raw(session[1], b'{"id":1,"cmd":"status","args":' + b"[" * 50_000 + b"\n")
        raise UsageError(reply["error"]["message"])  # type: ignore[index]


async def test_bug_in_a_command_leaves_other_clients_alone(session: tuple[Session, Path]) -> None:
    async with open_client(session[1]) as other:
        with pytest.raises(MountsyncError, match="internal error: RuntimeError"):
            await ask(session[1], "pause")
        assert (await other.request("status")).name == "notes"


async def test_slow_command_holds_up_nobody_not_even_its_own_client(session: tuple[Session, Path]) -> None:
    control, path = session
    async with open_client(path) as client, trio.open_nursery() as nursery:
        nursery.start_soon(client.request, "flush")
        await control.flushing.wait()
        assert (await client.request("status")).name == "notes"
        assert (await ask(path, "status")).name == "notes"
        control.flushed.set()


async def test_no_answer_in_time_is_said(session: tuple[Session, Path]) -> None:
    with pytest.raises(Unreachable, match="does not answer"):
        await ask(session[1], "flush", within=0.05)


async def test_events_reach_every_subscriber(session: tuple[Session, Path]) -> None:
    control, path = session
    async with open_client(path) as one, open_client(path) as two:
        for client in (one, two):
            await client.request("subscribe")
        control.hub.publish(StateEvent(job="notes", state="offline", reason="no route"))
        for client in (one, two):
            assert await client.events.receive() == StateEvent(
                job="notes", state="offline", reason="no route"
            )


async def test_subscription_ends_with_the_session(session: tuple[Session, Path]) -> None:
    control, path = session
    async with open_client(path) as client:
        await client.request("subscribe")
        control.hub.publish(StateEvent(job="notes", state="settled"))
        control.hub.end()
        assert [event.state async for event in _until_quiet(client.events)] == ["settled"]


class _until_quiet:
    """The first event, however long it takes, and more until none comes for a moment."""

    def __init__(self, events: trio.MemoryReceiveChannel[Event]) -> None:
        self._events = events
        self._patience = 60.0

    def __aiter__(self) -> _until_quiet:
        return self

    async def __anext__(self) -> Event:
        with trio.move_on_after(self._patience):
            self._patience = 0.05
            return await self._events.receive()
        raise StopAsyncIteration


async def test_listener_that_sleeps_loses_events_and_hears_how_many() -> None:
    hub = Broadcaster("notes")
    async with hub.listen() as events:
        for number in range(BACKLOG + 10):
            hub.publish(StateEvent(job="notes", state=str(number)))
        first = await events.__anext__()
        assert first == StateEvent(job="notes", state="0")
        await events.__anext__()
        hub.publish(StateEvent(job="notes", state="last"))
        rest = [await events.__anext__() for _ in range(BACKLOG)]
    assert rest[-2:] == [LostEvent(job="notes", count=10), StateEvent(job="notes", state="last")]


async def test_client_that_never_reads_is_cut_off(tmp_path: Path, autojump_clock: MockClock) -> None:
    control = Session()
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, control, tmp_path / "s")
        with sockets.connect(tmp_path / "s") as deaf:
            deaf.send(b'{"id":1,"cmd":"subscribe"}\n')
            await _heard(deaf)
            for _ in range(20_000):
                control.hub.publish(StateEvent(job="notes", state="x" * 500))
                await trio.lowlevel.checkpoint()
            await trio.sleep(60)
            assert _is_cut_off(deaf)
        nursery.cancel_scope.cancel()


async def _heard(connected: socket.socket) -> None:
    await trio.lowlevel.wait_readable(connected)


def _is_cut_off(connected: socket.socket) -> bool:
    try:
        while connected.recv(1 << 20):
            pass
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    return True


async def test_names_that_are_not_unicode_cross_the_socket(session: tuple[Session, Path]) -> None:
    control, path = session
    await ask(path, "pin", path="caf\udce9")
    assert control.told == [("pin", "caf\udce9")]


async def test_request_after_half_close_is_still_answered(session: tuple[Session, Path]) -> None:
    [reply] = await raw(session[1], b'{"id": 3, "cmd": "evict", "args": {"path": "abc"}}')
    assert reply == {"id": 3, "result": {"freed": 3}}


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(MountError, match="no mount listens there"):
        await ask(tmp_path / "none", "status")
