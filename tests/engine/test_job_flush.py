"""`flush` of a job: what the watchers tell of our own writes is worked off before the answer."""

from __future__ import annotations

import itertools
from contextlib import asynccontextmanager

import pytest
import trio

from mountsync.cli.output import exit_code_of_status
from mountsync.errors import Busy, Halted
from mountsync.paths import RelPath
from mountsync.storage.local import LocalStorage
from tests.engine.test_pair_jobs import Bench, memory, settled
from tests.parts.pairs import old, tree_of


@pytest.fixture
def bench(home):
    return Bench(home, memory("a"), memory("b"))


def whole_looks(bench):
    return bench.heard.states.count("scanning")


def at_rest(status):
    return (status.pending, exit_code_of_status(status, finished=True)) == (0, 0)


async def test_nothing_is_pending_after_a_flush(bench, quick_clock):
    await old(bench.a, "first", b"0")
    async with bench.running():
        assert at_rest(await bench.job.flush(timeout=None))
        looks = whole_looks(bench)
        for number in range(10):
            await old(bench.a, f"d/{number}", b"1")
            await old(bench.b, f"e/{number}", b"2")
            assert at_rest(await bench.job.flush(timeout=None))
        assert whole_looks(bench) == looks + 10  # what followed was narrow
        a, b = await bench.trees()
        assert a == b
        assert len(a) == 23


@asynccontextmanager
async def flushing(bench):
    """A flush that is held in the run that follows the whole one; gives the gate, and the answer to come."""
    cycles = bench.heard.cycles
    gate = bench.b.faults.hold("stat")
    answers = []

    async def flush():
        answers.append(await bench.job.flush(timeout=None))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(flush)
        await gate.reached.wait()
        assert (bench.heard.cycles, answers) == (cycles + 1, [])
        yield gate, answers


async def test_hints_that_come_late_are_waited_for(bench, quick_clock):
    """The watcher of a side speaks while the run that follows is at work, also of what changed meanwhile."""
    await old(bench.a, "first", b"0")
    async with bench.running():
        await bench.job.flush(timeout=None)
        await old(bench.a, "x", b"1")
        async with flushing(bench) as (gate, answers):
            await old(bench.a, "y", b"2")
            gate.release()
        assert at_rest(answers[0])
        assert await tree_of(bench.b) == {"first": b"0", "x": b"1", "y": b"2"}


async def test_real_watchers_tell_of_our_writes(home):
    """No quick clock: the kernel takes its own time to tell."""
    for name in "ab":
        (home / name).mkdir()
    bench = Bench(home, LocalStorage(str(home / "a")), LocalStorage(str(home / "b")))
    async with bench.running():
        for turn in range(10):
            for number in range(20):
                (home / f"a/{turn}-{number}").write_text("1")
                (home / f"b/{turn}-{number}x").write_text("2")
            status = await bench.job.flush(timeout=60)
            assert at_rest(status), status
            a, b = await bench.trees()
            assert a == b
            assert len(a) == 40 * (turn + 1)


async def test_who_writes_all_the_time_is_not_waited_for(bench, quick_clock):
    """Each effect on B is followed by another file on A: something is always left, and that is told."""
    count = itertools.count()

    async def another():
        bench.b.faults.meanwhile(1, another)
        await old(bench.a, f"busy {next(count)}", b"1")

    await another()
    async with bench.running():
        for _ in range(3):
            cycles = bench.heard.cycles
            status = await bench.job.flush(timeout=None)
            assert status.pending
            assert exit_code_of_status(status, finished=True) == 1
            assert bench.heard.cycles < cycles + 10
        bench.b.faults._meanwhile.clear()
        assert at_rest(await bench.job.flush(timeout=None))
        a, b = await bench.trees()
        assert a == b
        assert len(a) == next(count)


async def test_a_pause_ends_it(bench, quick_clock):
    await old(bench.a, "first", b"0")
    async with bench.running():
        await bench.job.flush(timeout=None)
        await old(bench.a, "x", b"1")
        async with flushing(bench) as (gate, answers):
            await bench.job.pause()
        assert answers[0].state == "paused"
        assert exit_code_of_status(answers[0], finished=True) == 1
        await bench.job.flush(timeout=None)  # returns at once
        gate.release()
        await bench.job.resume(confirm=False)
        assert at_rest(await bench.job.flush(timeout=None))


async def test_a_side_that_goes_away_ends_it(bench, quick_clock):
    await old(bench.a, "first", b"0")
    async with bench.running():
        await bench.job.flush(timeout=None)
        await old(bench.a, "x", b"1")
        async with flushing(bench) as (gate, answers):
            bench.b.faults.offline = True
            gate.release()
        assert answers[0].state == "offline"
        assert exit_code_of_status(answers[0], finished=True) == 4
        bench.b.faults.offline = False
        assert at_rest(await bench.job.flush(timeout=None))


async def test_a_safety_stop_ends_it(bench, quick_clock):
    for number in range(30):
        await old(bench.a, f"f{number}", b"1")
    async with bench.running():
        await bench.job.flush(timeout=None)
        for number in range(30):
            await bench.a._below.delete(RelPath(f"f{number}"))
        status = await bench.job.flush(timeout=None)
        assert exit_code_of_status(status, finished=True) == 5
        with pytest.raises(Halted):
            await bench.job.flush(timeout=None)
    assert len(await tree_of(bench.b)) == 30


async def test_one_that_gives_up_leaves_nothing_behind(bench, quick_clock):
    """By its timeout, or since the client is gone: changes come to rest again before they are taken."""
    await old(bench.a, "first", b"0")
    async with bench.running():
        await bench.job.flush(timeout=None)
        gate = bench.b.faults.hold("stat")
        await old(bench.a, "x", b"1")
        assert (await bench.job.flush(timeout=5)).state == "applying"
        with trio.move_on_after(5) as gone:
            await bench.job.flush(timeout=None)
        assert gone.cancelled_caught
        gate.release()
        await bench.until(lambda: settled(bench))
        looked = bench.a.faults.calls["stat"]
        await old(bench.a, "y", b"2")
        await trio.sleep(0.5)
        assert bench.a.faults.calls["stat"] == looked
        await trio.sleep(10)
        assert bench.a.faults.calls["stat"] > looked


async def test_a_job_that_is_stopped_says_so(bench, quick_clock):
    gate = bench.a.faults.hold("list")
    async with trio.open_nursery() as nursery:

        async def flush():
            with pytest.raises(Busy, match="stopped"):
                await bench.job.flush(timeout=None)

        async with bench.running():
            nursery.start_soon(flush)
            await gate.reached.wait()
