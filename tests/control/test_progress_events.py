"""How far the work is, as events: from the first byte on, a few times a second, and only to listeners."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from mountsync.control.client import open_client
from mountsync.control.events import Broadcaster
from mountsync.control.progress import tell_progress
from mountsync.control.protocol import ProgressEvent
from mountsync.engine.transfers import Transfers
from mountsync.model.status import Status
from tests.parts import statuses
from tests.parts.bodies import body
from tests.parts.real_mount import Mounted


def status_of(transfers: Transfers) -> Status:
    more = {"pending": 3, "pending_bytes": 7, "transfers": transfers.snapshot()}
    return statuses.status_of(name="job", remote="", mountpoint=None, pid=0, **more)


class Bench:
    """A session with nothing but its transfers."""

    def __init__(self) -> None:
        self.transfers = Transfers()
        self.broadcaster = Broadcaster("job")
        self.asked = 0

    async def status(self) -> Status:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        return status_of(self.transfers)

    async def tell(self) -> None:
        await tell_progress(self.broadcaster, "job", self.transfers.tally, self.status)


@pytest.fixture
async def bench(nursery):
    made = Bench()
    nursery.start_soon(made.tell)
    return made


async def test_every_body_is_named_however_short(bench: Bench, autojump_clock) -> None:
    async with bench.broadcaster.listen() as events:
        for number in range(5):
            with bench.transfers.begin(f"f{number}", "up", 10):
                pass
        event = await anext(events)
        assert event == ProgressEvent(
            job="job", pending=3, pending_bytes=7, began=[f"f{number}" for number in range(5)]
        )
        with trio.move_on_after(60):
            await anext(events)
            raise AssertionError("nothing travels, and something is told")


async def test_a_long_body_is_told_until_its_end(bench: Bench, autojump_clock) -> None:
    async with bench.broadcaster.listen() as events:
        with bench.transfers.begin("long", "up", 1 << 20) as running:
            seen = []
            for _ in range(8):
                event = await anext(events)
                seen.append(event.transfers[0].done)
                running.meter.done += 100_000
        assert seen == [100_000 * number for number in range(8)]
        assert trio.current_time() < 10
        last = await anext(events)
        assert last.transfers == []


async def test_without_listeners_nobody_is_asked(bench: Bench, autojump_clock) -> None:
    with bench.transfers.begin("long", "up", 1 << 20):
        await trio.sleep(60)
    assert bench.asked == 0
    assert list(bench.transfers.tally.began) == []


async def test_a_real_mount_tells_what_travels(tmp_path: Path) -> None:
    mount = Mounted(tmp_path, "--bwlimit", "4M")
    await trio.to_thread.run_sync(mount.start)
    try:
        async with open_client(mount.cache / "control.sock") as client:
            await client.request("subscribe")
            await trio.to_thread.run_sync((mount.path / "big").write_bytes, body(6 << 20))
            seen: list[ProgressEvent] = []
            with trio.fail_after(60):
                while not any(event.transfers for event in seen):
                    event = await client.events.receive()
                    seen += [event] if isinstance(event, ProgressEvent) else []
            assert [path for event in seen for path in event.began] == ["big"]
            assert (seen[-1].transfers[0].path, seen[-1].transfers[0].size) == ("big", 6 << 20)
    finally:
        await trio.to_thread.run_sync(mount.end)
