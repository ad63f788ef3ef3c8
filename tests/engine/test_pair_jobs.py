"""Jobs: pairs that are kept in sync, several side by side."""

from __future__ import annotations

from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
import trio

from mountsync.engine.pair.job import Job, JobSettings
from mountsync.engine.pair.options import PairOptions
from mountsync.errors import Halted, NotFound, PermissionDenied, Unreachable
from mountsync.paths import RelPath
from mountsync.reconcile import Direction
from mountsync.storage import api
from mountsync.storage.local import LocalStorage
from mountsync.storage.memory import MemoryStorage
from tests.parts.failing import failing
from tests.parts.pairs import kept, old, tree_of


@dataclass
class Heard:
    """Everything that a job said."""

    states: list[str] = field(default_factory=list)
    changes: list[object] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    cycles: int = 0

    def state(self, state, reason):
        self.states.append(state)

    def change(self, done):
        self.changes.append(done)

    def conflict(self, conflict):
        self.conflicts.append(conflict.path)

    def problem(self, problem):
        self.problems.append(problem.path)

    def cycle(self, done):
        self.cycles += 1


class Bench:
    """One job over two storages."""

    def __init__(self, home, a, b, **options):
        self.a, self.b = a, b
        self.heard = Heard()
        settings = JobSettings(
            name="notes", a="a", b="b", options=PairOptions(name="notes", host="here", **options),
            pair_id="pair", state_dir=home / "pair",
        )  # fmt: skip
        self.job = Job(settings, self.open, self.heard)
        self.refuse = None

    async def open(self, spec):
        if self.refuse is not None:
            raise self.refuse
        return self.a if spec == "a" else self.b

    @asynccontextmanager
    async def running(self):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.job.run)
            yield self
            nursery.cancel_scope.cancel()

    async def until(self, holds, seconds=20):
        with trio.fail_after(seconds):
            while not await holds():
                await trio.sleep(0.05)

    async def trees(self):
        return await tree_of(self.a), await tree_of(self.b)


def memory(name, **more):
    return failing(MemoryStorage(name), **more)


async def settled(bench):
    return (await bench.job.status()).state == "settled"


async def test_changes_of_both_sides_arrive(home, quick_clock):
    bench = Bench(home, memory("a"), memory("b"))
    await old(bench.a, "x", b"1")
    async with bench.running():
        await bench.until(lambda: settled(bench))
        assert await tree_of(bench.b) == {"x": b"1"}
        await old(bench.b, "d/y", b"2")
        await bench.a._below.delete(RelPath("x"))

        async def equal():
            return await bench.trees() == ({"d": None, "d/y": b"2"},) * 2

        await bench.until(equal)
    assert await kept(bench.b) == {"x": b"1"}


async def test_hints_cost_no_listing(home, quick_clock):
    bench = Bench(home, memory("a"), memory("b"))
    await old(bench.a, "first", b"0")
    async with bench.running():
        await bench.until(lambda: settled(bench))
        await trio.sleep(10)
        listings = bench.a.faults.calls["list"]
        await old(bench.a, "x", b"1")
        await trio.sleep(10)
        assert await tree_of(bench.b) == {"first": b"0", "x": b"1"}
        assert bench.a.faults.calls["list"] == listings


async def test_w10_a_side_without_a_watcher_is_polled(home, quick_clock):
    bench = Bench(home, memory("a"), memory("b", without=(api.SupportsWatch,)))
    async with bench.running():
        await bench.until(lambda: settled(bench))
        await old(bench.b, "x", b"1")
        await trio.sleep(65)
        assert await tree_of(bench.a) == {"x": b"1"}


async def test_a_dead_watcher_is_told_and_everything_looked_at(home, quick_clock):
    bench = Bench(home, memory("a"), memory("b"))
    bench.b.faults.fail_next("watch", Unreachable("no more watches"), times=2)
    async with bench.running():
        await bench.until(lambda: settled(bench))
        status = await bench.job.status()
        assert "watcher of side B died" in (status.reason or "")
        await old(bench.b, "x", b"1")
        await trio.sleep(100)
        assert await tree_of(bench.a) == {"x": b"1"}
        assert (await bench.job.status()).reason is None


async def test_offline_is_a_state_and_passes(home, quick_clock):
    bench = Bench(home, memory("a"), memory("b"))
    await old(bench.a, "x", b"1")
    bench.b.faults.offline = True
    async with bench.running():
        await trio.sleep(30)
        assert (await bench.job.status()).state == "offline"
        bench.b.faults.offline = False
        await trio.sleep(700)
        assert await tree_of(bench.b) == {"x": b"1"}
        assert (await bench.job.status()).state == "settled"


async def test_a_side_that_goes_away_while_a_hint_is_followed_comes_back(home, quick_clock):
    bench = Bench(home, memory("a"), memory("b"))
    await old(bench.a, "first", b"0")
    async with bench.running():
        await bench.until(lambda: settled(bench))
        bench.b.faults.fail_next("stat", Unreachable("away"), times=3)
        await old(bench.a, "d/x", b"1")
        await trio.sleep(700)
        assert "offline" in bench.heard.states
        assert await tree_of(bench.b) == {"first": b"0", "d": None, "d/x": b"1"}
        assert (await bench.job.status()).state == "settled"


async def test_a_remote_that_cannot_be_opened_is_tried_again(home, quick_clock):
    bench = Bench(home, memory("a"), memory("b"))
    bench.refuse = NotFound("no such folder")
    async with bench.running():
        await trio.sleep(5)
        status = await bench.job.status()
        assert status.state == "failed"
        assert "no such folder" in (status.reason or "")
        bench.refuse = None
        await trio.sleep(65)
        assert (await bench.job.status()).state == "settled"


async def test_a_resolved_conflict_disappears(home, quick_clock):
    bench = Bench(home, memory("a"), memory("b"))
    for name in ("x", "y", "z"):
        await old(bench.a, name, b"from a")
        await old(bench.b, name, b"from b!")
    async with bench.running():
        await bench.until(lambda: settled(bench))
        assert [c.path for c in await bench.job.conflicts()] == ["x", "y", "z"]
        assert bench.heard.conflicts == ["x", "y", "z"]
        await bench.job.resolve("x", keep="remote")
        await old(bench.a, "y", b"from b!")
        await trio.sleep(10)
        assert [c.path for c in await bench.job.conflicts()] == ["z"]
        await bench.job.resolve("z", keep="both")
        assert await bench.job.conflicts() == []
        with pytest.raises(NotFound):
            await bench.job.resolve("z", keep="both")
    a, b = await bench.trees()
    assert a == b
    assert (a["x"], a["y"], len(a)) == (b"from b!", b"from b!", 4)


async def test_pause_and_flush(home, quick_clock):
    bench = Bench(home, memory("a"), memory("b"))
    async with bench.running():
        await bench.until(lambda: settled(bench))
        await bench.job.pause()
        await old(bench.a, "x", b"1")
        await trio.sleep(100)
        assert await tree_of(bench.b) == {}
        assert (await bench.job.status()).state == "paused"
        await bench.job.resume(confirm=False)
        await bench.job.flush(timeout=None)
        assert await tree_of(bench.b) == {"x": b"1"}


async def test_w11_one_way_keeps_one_way(home, quick_clock):
    bench = Bench(home, memory("a"), memory("b"), direction=Direction.MIRROR)
    await old(bench.a, "x", b"1")
    async with bench.running():
        await bench.until(lambda: settled(bench))
        await old(bench.b, "mine", b"2")
        await old(bench.a, "y", b"3")
        await trio.sleep(20)
        assert await tree_of(bench.a) == {"x": b"1", "y": b"3"}
        assert await tree_of(bench.b) == {"x": b"1", "y": b"3"}


async def test_an_emptied_side_halts_until_a_person_confirms(home, quick_clock):
    bench = Bench(home, memory("a"), memory("b"))
    for number in range(5):
        await old(bench.a, f"f{number}", b"%d" % number)
    async with bench.running():
        await bench.until(lambda: settled(bench))
        await bench.job.pause()
        for number in range(5):
            await bench.a._below.delete(RelPath(f"f{number}"))
        await bench.job.resume(confirm=False)
        await trio.sleep(10)
        assert (await bench.job.status()).state == "halted-emptied"
        assert len(await tree_of(bench.b)) == 5
        with pytest.raises(Halted):
            await bench.job.flush(timeout=None)
        with pytest.raises(Halted):
            await bench.job.resume(confirm=False)
        await bench.job.resume(confirm=True)
        await trio.sleep(10)
        assert await tree_of(bench.b) == {}


@pytest.mark.parametrize("call", ["list", "write"])
async def test_a_side_that_is_not_the_one_that_it_was_halts(home, quick_clock, call):
    bench = Bench(home, memory("a"), memory("b"))
    for number in range(5):
        await old(bench.a, f"f{number}", b"%d" % number)
    async with bench.running():
        await bench.until(lambda: settled(bench))
        there = bench.b
        there.faults.fail_next(call, Halted("the volume was deleted"), times=1000)
        await old(bench.a, "new", b"1")
        status = await bench.job.flush(timeout=None)
        assert (status.state, status.reason) == ("halted-remote", "the volume was deleted")
        bench.b = memory("b")  # made anew
        await trio.sleep(10_000)
        assert (await bench.job.status()).state == "halted-remote"
        assert await tree_of(bench.b) == {}
        with pytest.raises(Halted, match="was deleted"):
            await bench.job.resume(confirm=False)
        await bench.job.resume(confirm=True)
        await trio.sleep(10)
        assert (await bench.job.status()).state != "halted-remote"
        assert len(await tree_of(bench.a)) == 6  # what is gone there is not removed here


async def test_a_bad_path_is_tried_again_and_the_rest_goes_on(home, quick_clock):
    bench = Bench(home, memory("a"), memory("b"))
    await old(bench.a, "bad", b"1")
    await old(bench.a, "good", b"2")
    bench.a.faults.fail_path(RelPath("bad"), PermissionDenied("permission denied", path="bad"))
    async with bench.running():
        await bench.until(lambda: settled(bench))
        status = await bench.job.status()
        assert [problem.path for problem in status.problems] == ["bad"]
        assert await tree_of(bench.b) == {"good": b"2"}
        bench.a.faults.fail_path(RelPath("bad"), None)
        await bench.job.flush(timeout=None)
        assert (await bench.job.status()).problems == []
        assert await tree_of(bench.b) == {"good": b"2", "bad": b"1"}


async def test_a_slow_job_blocks_neither_status_nor_another(home, quick_clock):
    slow = Bench(home / "1", memory("a"), memory("b"))
    quick = Bench(home / "2", memory("c"), memory("d"))
    await old(slow.a, "x", b"1")
    await old(quick.a, "x", b"1")
    gate = slow.b.faults.hold("write")
    async with slow.running(), quick.running():
        await gate.reached.wait()
        with trio.fail_after(1):
            assert (await slow.job.status()).state == "scanning"
        await quick.until(lambda: settled(quick))
        assert await tree_of(quick.b) == {"x": b"1"}
        gate.release()


async def test_editors_that_save_by_rename_leave_no_temporary_file(home, quick_clock):
    for name in "ab":
        (home / name).mkdir()
    bench = Bench(home, LocalStorage(str(home / "a")), LocalStorage(str(home / "b")))
    (home / "a/doc").write_text("old")
    async with bench.running():
        await bench.until(lambda: settled(bench))
        for number in range(5):
            (home / "a/.doc.swp").write_text(f"new {number}")
            (home / "a/.doc.swp").rename(home / "a/doc")

        async def arrived():
            return await bench.trees() == ({"doc": b"new 4"},) * 2

        await bench.until(arrived, seconds=200)
