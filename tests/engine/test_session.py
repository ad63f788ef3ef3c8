"""Offline, halted, paused, watched: the conditions of a session and the ways out of them."""

from __future__ import annotations

import os

import pytest
import trio

from mountsync.engine.assembly import Tuning
from mountsync.engine.away import AwayStorage
from mountsync.errors import Busy, Halted, NoSpace, PermissionDenied, Stale, Unreachable
from mountsync.model.plan import ConflictPolicy
from mountsync.paths import RelPath
from mountsync.storage.hints import MAX_HINTS
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import body, get, put
from tests.parts.failing import failing
from tests.parts.mounted import Killed, expect_error, mounted


def quick(**more) -> Tuning:
    return Tuning(**{"host": "here", "write_delay": 1.0, "poll_interval": 30.0} | more)


@pytest.fixture
def remote():
    return failing(MemoryStorage())


# Offline


async def test_offline_writes_go_on_and_drain_when_it_is_back(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.write("here", b"1")
        await m.flush()
        remote.faults.offline = True
        await m.write("here", b"2")
        await m.write("new", b"3")
        await m.rename("new", "newer")
        await trio.sleep(100)
        status = await m.steering.status()
        assert status.state == "offline"
        assert status.pending == 2
        assert await m.read("here") == b"2"
        remote.faults.offline = False
        await m.settled(120)
        assert await m.remote_tree() == {"here": b"2", "newer": b"3"}
        assert (await m.steering.status()).state == "settled"


async def test_offline_reads_of_what_is_not_here_fail_at_once(quick_clock, home, remote):
    await put(remote, "cold", body(1000))
    async with mounted(home, remote) as m:
        await m.names()
        remote.faults.offline = True
        began = trio.current_time()
        await expect_error(Unreachable, m.read("cold"))
        assert trio.current_time() - began < 15
        began = trio.current_time()
        await expect_error(Unreachable, m.read("cold"))
        assert trio.current_time() == began
        remote.faults.offline = False
        await trio.sleep(60)
        assert await m.read("cold") == body(1000)


async def test_a_remote_that_never_answers_counts_as_offline(quick_clock, home, remote):
    await put(remote, "cold", body(1000))
    async with mounted(home, remote) as m:
        await m.names()
        gate = remote.faults.hold("read")
        began = trio.current_time()
        await expect_error(Unreachable, m.read("cold"))
        assert trio.current_time() - began < 15
        gate.release()


async def test_a_mount_starts_while_the_remote_cannot_be_opened(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.write("known", b"1")
        await m.flush()
    away = AwayStorage(remote.info, "no network")
    opened = trio.Event()

    async def opener():
        if not opened.is_set():
            raise Unreachable("no network")
        return remote

    async with mounted(home, away, opener=opener) as m:
        await trio.sleep(5)
        assert (await m.steering.status()).state == "offline"
        assert await m.read("known") == b"1"
        await m.write("meanwhile", b"2")
        opened.set()
        await m.settled(120)
        assert await get(remote, "meanwhile") == b"2"
        await put(remote, "later", b"3")
        await trio.sleep(1)
        assert await m.read("later") == b"3"  # it is watched too


# Safety stops


async def test_an_emptied_remote_halts_until_a_person_confirms(quick_clock, home, remote):
    for name in ("a", "b", "c"):
        await put(remote, name, b"x")
    async with mounted(home, remote) as m:
        await m.local_tree()
        for name in ("a", "b", "c"):
            remote._below._tree.delete(RelPath(name), None)
        m.session.scan_soon()
        await trio.sleep(40)
        status = await m.steering.status()
        assert status.state == "halted-emptied"
        assert sorted(await m.names()) == ["a", "b", "c"]
        await expect_error(Halted, m.flush())
        await expect_error(Halted, m.steering.resume(confirm=False))
        await m.steering.resume(confirm=True)
        await m.flush()
        assert await m.names() == []


async def test_removing_all_here_is_no_emptied_remote(quick_clock, home, remote):
    for name in ("a", "b", "c"):
        await put(remote, name, b"x")
    async with mounted(home, remote) as m:
        await m.local_tree()
        for name in ("a", "b", "c"):
            await m.unlink(name)
        await m.settled()
        await m.flush()
        assert (await m.steering.status()).state == "settled"
        assert await m.remote_tree() == {}


async def test_many_deletes_on_the_remote_halt(quick_clock, home, remote):
    for number in range(50):
        await put(remote, f"d/{number}", b"x")
    async with mounted(home, remote) as m:
        await m.local_tree()
        for number in range(30):
            remote._below._tree.delete(RelPath(f"d/{number}"), None)
        await expect_error(Halted, m.flush())
        assert (await m.steering.status()).state == "halted-deletes"
        assert len(await m.names("d")) == 50
        await m.steering.resume(confirm=True)
        await m.flush()
        assert len(await m.names("d")) == 20


async def test_renames_on_the_remote_are_no_deletes(quick_clock, home, remote):
    for number in range(50):
        await put(remote, f"d/{number}", b"%d" % number)
    async with mounted(home, remote) as m:
        await m.local_tree()
        reads = remote.faults.calls["read"]
        remote._below._tree.move(RelPath("d"), RelPath("e"), expect=None, replace=None)
        await m.flush()
        assert len(await m.names("e")) == 50
        assert await m.read("e/7") == b"7"
        assert remote.faults.calls["read"] == reads  # no byte travelled again


async def test_max_delete_holds_for_deletes_here_too(quick_clock, home, remote):
    for number in range(10):
        await put(remote, f"f{number}", b"x")
    async with mounted(home, remote, tuning=quick(max_delete=3)) as m:
        await m.local_tree()
        for number in range(5):
            await m.unlink(f"f{number}")
        await trio.sleep(10)
        assert (await m.steering.status()).state == "halted-deletes"
        assert len(await m.remote_tree()) == 10
        await m.steering.resume(confirm=True)
        await m.settled()
        assert len(await m.remote_tree()) == 5
        for number in range(5, 8):
            await m.unlink(f"f{number}")
        await m.settled()
        assert len(await m.remote_tree()) == 2


async def test_without_a_limit_deletes_here_go_on(quick_clock, home, remote):
    for number in range(60):
        await put(remote, f"f{number}", b"x")
    async with mounted(home, remote) as m:
        await m.local_tree()
        for number in range(50):
            await m.unlink(f"f{number}")
        await m.settled()
        assert len(await m.remote_tree()) == 10


# Steering


async def test_paused_nothing_travels(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.flush()
        await m.steering.pause()
        await m.write("f", b"1")
        await put(remote, "there", b"2")
        await trio.sleep(200)
        assert await m.names() == ["f"]
        assert remote.faults.effects == 1
        assert (await m.steering.status()).state == "paused"
        await expect_error(Busy, m.flush())
        await m.steering.resume(confirm=False)
        await m.settled()
        await m.flush()
        assert await m.remote_tree() == await m.local_tree() == {"f": b"1", "there": b"2"}


async def test_flush_does_not_wait_for_the_write_delay(quick_clock, home, remote):
    async with mounted(home, remote, tuning=quick(write_delay=1000.0)) as m:
        await m.write("f", b"1")
        began = trio.current_time()
        await m.flush()
        assert trio.current_time() - began < 10
        assert await get(remote, "f") == b"1"


async def test_flush_ends_while_somebody_writes_all_the_time(quick_clock, home, remote):
    async with mounted(home, remote, tuning=quick(write_delay=1000.0)) as m:
        async with trio.open_nursery() as nursery:

            async def write_on() -> None:
                for number in range(10_000):
                    await m.write("busy", b"%d" % number)
                    await trio.sleep(0.05)

            nursery.start_soon(write_on)
            await m.write("other", b"1")
            with trio.fail_after(100):
                await m.flush()
            assert await get(remote, "other") == b"1"
            nursery.cancel_scope.cancel()


async def test_shutdown_drains_and_tells_what_it_could_not_send(quick_clock, home, remote):
    async with mounted(home, remote, tuning=quick(write_delay=1000.0)) as m:
        await m.write("f", b"1")
        remote.faults.fail_path(RelPath("f"), PermissionDenied("not this one"))
        await expect_error(Busy, m.steering.shutdown(drain=True))
        assert not m.ended.is_set()
        remote.faults.fail_path(RelPath("f"), None)
        await m.steering.shutdown(drain=True)
        assert m.ended.is_set()
        assert await get(remote, "f") == b"1"


@pytest.mark.parametrize(
    ("policy", "there"),
    [
        (ConflictPolicy.A, {"f": b"here"}),
        (ConflictPolicy.B, {"f": b"there!"}),
    ],
)
async def test_a_manual_conflict_waits_and_is_settled_by_hand(quick_clock, home, remote, policy, there):
    async with mounted(home, remote, tuning=quick(conflict=ConflictPolicy.MANUAL)) as m:
        await m.write("f", b"base")
        await m.flush()
        await m.write("f", b"here")
        await put(remote, "f", b"there!")
        await m.flush()
        assert [c.path for c in await m.steering.conflicts()] == ["f"]
        assert await m.read("f") == b"here"
        assert await get(remote, "f") == b"there!"
        plans = len(m.heard.conflicts)
        await trio.sleep(600)
        assert len(m.heard.conflicts) < plans + 60  # it is not planned over and over
        await m.steering.settle_conflict("f", policy)
        await m.flush()
        assert await m.remote_tree() == await m.local_tree() == there
        assert await m.steering.conflicts() == []


async def test_a_manual_conflict_can_keep_both(quick_clock, home, remote):
    async with mounted(home, remote, tuning=quick(conflict=ConflictPolicy.MANUAL)) as m:
        await m.write("f", b"base")
        await m.flush()
        await m.write("f", b"here")
        await put(remote, "f", b"there!")
        await m.flush()
        await m.steering.settle_conflict("f", ConflictPolicy.KEEP_BOTH)
        await m.flush()
        tree = await m.remote_tree()
        assert tree == await m.local_tree()
        assert sorted(tree.values()) == [b"here", b"there!"]


# Watching


async def test_a_watched_change_shows_without_waiting_for_the_poll(quick_clock, home, remote):
    async with mounted(home, remote, tuning=quick(poll_interval=0)) as m:
        await m.flush()
        await put(remote, "d/f", b"1")
        await trio.sleep(1)
        assert await m.local_tree() == {"d": None, "d/f": b"1"}
        remote._below._tree.move(RelPath("d"), RelPath("e"), expect=None, replace=None)
        await trio.sleep(5)
        assert await m.local_tree() == {"e": None, "e/f": b"1"}
        assert remote.faults.calls["read"] == 1


async def test_a_watcher_that_dies_is_shown_and_makes_up_for_what_it_missed(quick_clock, home, remote):
    remote.faults.fail_next("watch", NoSpace("no more watches"), times=2)
    async with mounted(home, remote, tuning=quick(poll_interval=0)) as m:
        await trio.sleep(0.5)
        assert "no more watches" in str((await m.steering.status()).reason)
        await put(remote, "f", b"1")
        await trio.sleep(20)
        assert (await m.steering.status()).reason is None
        assert await m.read("f") == b"1"


# Failures of single paths


async def test_a_watcher_that_lost_events_is_shown_until_everything_was_looked_at(quick_clock, home, remote):
    async with mounted(home, remote, tuning=quick(poll_interval=1e6)) as m:
        await m.names()
        await trio.sleep(10)
        gate = remote.faults.hold("list")
        for number in range(MAX_HINTS + 1):
            for told in remote._below._tree.listeners:
                told(RelPath(f"nothing {number}"))
        await put(remote._below, "new", b"1")
        await gate.reached.wait()
        assert "events were lost" in ((await m.steering.status()).reason or "")
        gate.release()
        await trio.sleep(60)
        status = await m.steering.status()
        assert status.reason is None
        assert status.totals is not None
        assert status.totals.events_lost == 1
        assert await m.names() == ["new"]


async def test_one_bad_path_stops_nothing_else_and_is_tried_again(quick_clock, home, remote):
    remote.faults.fail_path(RelPath("bad"), NoSpace("full"))
    async with mounted(home, remote) as m:
        await m.write("bad", b"1")
        for number in range(20):
            await m.write(f"good{number}", b"2")
        await trio.sleep(20)
        assert len(await m.remote_tree()) == 20
        problems = (await m.steering.status()).problems
        assert [p.path for p in problems] == ["bad"]
        assert problems[0].error == "NoSpace"
        writes = remote.faults.calls["write"]
        await trio.sleep(3600)
        assert remote.faults.calls["write"] - writes < 30  # further and further apart
        remote.faults.fail_path(RelPath("bad"), None)
        await m.settled(700)
        assert await get(remote, "bad") == b"1"
        assert (await m.steering.status()).problems == []


async def test_what_depends_on_a_failed_directory_is_tried_again_as_soon_as_it(quick_clock, home, remote):
    remote.faults.fail_next("make_directory", NoSpace("full"))
    async with mounted(home, remote) as m:
        await m.mkdir("d")
        await m.write("d/f", b"1")
        await m.settled(30)
        assert await m.remote_tree() == {"d": None, "d/f": b"1"}


async def test_a_bug_in_a_storage_ends_no_mount(quick_clock, home, remote, no_internal_errors):
    remote.faults.fail_path(RelPath("odd"), ZeroDivisionError("a bug"))
    async with mounted(home, remote) as m:
        await m.write("odd", b"1")
        await m.write("fine", b"2")
        await trio.sleep(30)
        assert await get(remote, "fine") == b"2"
        assert "ZeroDivisionError" in (await m.steering.status()).problems[0].reason
        remote.faults.fail_path(RelPath("odd"), None)
        await m.flush()
        assert await get(remote, "odd") == b"1"
    assert no_internal_errors
    no_internal_errors.clear()


async def test_a_bug_in_listing_ends_no_mount(quick_clock, home, remote, no_internal_errors):
    async with mounted(home, remote) as m:
        await m.flush()
        remote.faults.fail_next("list", ZeroDivisionError("a bug"))
        m.session.scan_soon()
        await trio.sleep(1)
        await put(remote, "f", b"1")
        await trio.sleep(100)
        assert await m.read("f") == b"1"
        assert (await m.steering.status()).problems == []
    assert no_internal_errors
    no_internal_errors.clear()


# Restless files


async def test_a_file_that_never_rests_is_uploaded_after_a_minute_and_not_all_the_time(
    quick_clock, home, remote
):
    async with mounted(home, remote, tuning=quick(write_delay=5.0)) as m:
        handle = await m.open("log", os.O_RDWR | os.O_CREAT)
        for number in range(200):
            await m.write_to(handle, number, b"x")
            m.volume.flush(handle)
            await trio.sleep(1)
        uploads = remote.faults.calls["write"]
        assert 2 <= uploads <= 5
        m.close(handle)
        await m.settled()
        assert await get(remote, "log") == b"x" * 200


async def test_an_open_dirty_file_meets_a_change_of_the_remote(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.write("f", b"base")
        await m.flush()
        handle = await m.open("f")
        await m.write_to(handle, 0, b"HALF")
        await put(remote, "f", b"theirs")
        await trio.sleep(5)
        assert b"HALF" not in (await m.remote_tree()).values()  # it is still being written
        await m.write_to(handle, 4, b" and whole")
        m.close(handle)
        await m.flush()
        tree = await m.remote_tree()
        assert tree == await m.local_tree()
        assert sorted(tree.values()) == [b"HALF and whole", b"theirs"]


async def test_a_crash_while_offline_loses_nothing(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.write("f", b"1")
        await m.flush()
        remote.faults.offline = True
        await m.write("f", b"2")
        await m.write("g", b"3")
        raise Killed
    remote.faults.offline = False
    async with mounted(home, remote) as m:
        await m.settled()
        assert await m.remote_tree() == {"f": b"2", "g": b"3"}


async def test_a_handle_keeps_what_it_opened_when_the_remote_changes(quick_clock, home, remote):
    await put(remote, "f", b"old")
    async with mounted(home, remote) as m:
        handle = await m.open("f", os.O_RDONLY)
        assert await m.read_from(handle, 0, 10) == b"old"
        cold = None
        await put(remote, "f", b"newer")
        await m.flush()
        assert await m.read_from(handle, 0, 10) == b"old"
        assert await m.read("f") == b"newer"
        m.close(handle)
        await put(remote, "f", b"third one")
        await m.flush()
        cold = await m.open("f", os.O_RDONLY)
        await put(remote, "f", b"the fourth")
        await m.flush()
        await expect_error(Stale, m.read_from(cold, 0, 10))
        m.close(cold)
        assert await m.read("f") == b"the fourth"
