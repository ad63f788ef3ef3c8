"""Plug-in syncers that keep a pair in sync by themselves: a job starts, steers and ends them."""

from __future__ import annotations

import pytest
import trio

from mountsync.engine.pair.run import PairRun
from mountsync.engine.pair.syncers import EngineSyncer
from mountsync.errors import Unreachable
from mountsync.model.status import SessionState
from tests.engine.test_pair_jobs import Bench, memory
from tests.parts.pairs import tree_of


class Following(EngineSyncer):
    """Looks whenever it is told to, and once at the start."""

    SYNCER_NAME = "following"
    SOURCE_TYPES = TARGET_TYPES = ("memory",)
    begun = 0
    ended = 0
    fails = 0
    failure: Exception = Unreachable("away")

    async def continuous(self, request):
        kind = type(self)
        kind.begun += 1
        try:
            if kind.fails:
                kind.fails -= 1
                raise kind.failure
            while True:
                run = PairRun(
                    request.a, request.b, request.state, request.pair_id, request.options,
                    progress=request.progress, overrides=request.overrides,
                )  # fmt: skip
                request.report(await run.run())
                await request.wanted()
        finally:
            kind.ended += 1


class Point:
    def __init__(self, kind):
        self.name, self.value, self.load = kind.SYNCER_NAME, "x:y", lambda: kind


@pytest.fixture
def syncer(monkeypatch):
    class Fresh(Following):
        pass

    monkeypatch.setattr("mountsync.engine.pair.syncers._plug_ins", lambda: [Point(Fresh)])
    return Fresh


@pytest.fixture
def bench(tmp_path, syncer):
    a, b = memory("a"), memory("b")
    return Bench(tmp_path, a, b)


async def put(storage, path, data):
    from tests.parts.bodies import put as write  # noqa: PLC0415 - one name for both

    await write(storage, path, data)


async def test_it_is_called_instead_of_single_runs(bench, syncer):
    await put(bench.a, "f", b"one")
    async with bench.running():
        status = await bench.job.flush(timeout=20)
        assert status.state == SessionState.SETTLED.value
        assert await tree_of(bench.b) == {"f": b"one"}
        await put(bench.b, "g", b"two")
        await bench.job.flush(timeout=20)
        assert await tree_of(bench.a) == {"f": b"one", "g": b"two"}
    assert (syncer.begun, syncer.ended) == (1, 1)


async def test_a_pause_ends_it_and_resume_begins_anew(bench, syncer):
    async with bench.running():
        await bench.job.flush(timeout=20)
        await bench.job.pause()
        await bench.until(lambda: told(syncer.ended == 1))
        await put(bench.a, "f", b"while paused")
        assert (await bench.job.status()).state == SessionState.PAUSED.value
        await bench.job.resume(confirm=False)
        await bench.job.flush(timeout=20)
        assert await tree_of(bench.b) == {"f": b"while paused"}
    assert (syncer.begun, syncer.ended) == (2, 2)


async def test_conflicts_reach_it_resolved(bench, syncer):
    await put(bench.a, "f", b"ours")
    await put(bench.b, "f", b"the other")
    async with bench.running():
        await bench.job.flush(timeout=20)
        assert [each.path for each in await bench.job.conflicts()] == ["f"]
        await bench.job.resolve("f", keep="remote")
        assert await bench.job.conflicts() == []
    assert await tree_of(bench.a) == {"f": b"the other"}


async def test_one_that_fails_is_tried_again(bench, syncer, autojump_clock):
    syncer.fails = 2
    await put(bench.a, "f", b"one")
    async with bench.running():
        await bench.until(lambda: told(bench.heard.cycles == 1), seconds=600)
    assert SessionState.OFFLINE.value in bench.heard.states
    assert syncer.begun == 3
    assert await tree_of(bench.b) == {"f": b"one"}


async def test_what_our_watchers_tell_meanwhile_is_its_business(bench, syncer):
    """Nobody else works it off: it is neither kept nor waited for."""
    async with bench.running():
        await bench.job.flush(timeout=20)
        for number in range(10):
            await put(bench.a, f"f{number}", b"1")
        assert (await bench.job.flush(timeout=20)).state == SessionState.SETTLED.value
        assert bench.job._hints == set()


async def test_one_that_fails_in_several_places_at_once_is_tried_again(bench, syncer, autojump_clock):
    syncer.fails, syncer.failure = 1, ExceptionGroup("tasks", [Unreachable("away"), Unreachable("gone")])
    await put(bench.a, "f", b"one")
    async with bench.running():
        await bench.until(lambda: told(bench.heard.cycles == 1), seconds=600)
    assert SessionState.OFFLINE.value in bench.heard.states
    assert await tree_of(bench.b) == {"f": b"one"}


async def test_a_bug_among_its_failures_is_not_hidden(bench, syncer, autojump_clock):
    syncer.fails, syncer.failure = 1, ExceptionGroup("tasks", [Unreachable("away"), ValueError("a bug")])
    with pytest.RaisesGroup(Unreachable, ValueError, flatten_subgroups=True):
        async with bench.running():
            await trio.sleep(60)


async def told(value):
    await trio.lowlevel.checkpoint()
    return value
