"""Events of the daemon, as another program pins them, under the names of its tests.

The real daemon serves its real socket here, in this process, so that its storages can fail where a
test wants it. Where that program says ONE_SHOT the state is `scanning` here, its SYNCED is `settled`,
RUNNING is `scanning` or `applying`; what it calls CREATE, MODIFY and DELETE are `change` events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
import trio.testing

from mountsync import daemon
from mountsync.control.client import Client, open_client
from mountsync.control.jobs import JOB_COMMANDS, daemon_socket
from mountsync.control.protocol import (
    ChangeEvent,
    ConflictEvent,
    CycleEvent,
    Event,
    ProblemEvent,
    ProgressEvent,
    StateEvent,
)
from mountsync.engine.pair.job import JobSettings
from mountsync.engine.pair.options import PairOptions
from mountsync.errors import NotFound, PermissionDenied, UsageError
from mountsync.paths import RelPath
from tests.parts.sides import PATIENCE_S, FolderSide


class Served:
    """A daemon with the jobs `one` and `two`, each between two folders."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sides = {
            f"{name}/{side}": FolderSide(root / name / side) for name in ("one", "two") for side in "ab"
        }

    def load(self, name: str) -> JobSettings:
        options = PairOptions(name=name, host="here")
        return JobSettings(
            name=name, a=f"{name}/a", b=f"{name}/b", options=options, pair_id=f"pair-{name}",
            state_dir=self.root / "state" / name, write_delay=0.02,
        )  # fmt: skip

    async def open(self, spec: str) -> Any:
        await trio.lowlevel.checkpoint()
        return self.sides[spec].storage

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Talk]:
        """The daemon runs, and a client is connected."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(daemon.run, self.load, self.open)
            with trio.fail_after(PATIENCE_S):
                while not daemon_socket().exists():
                    await trio.sleep(0.01)
            async with open_client(daemon_socket(), JOB_COMMANDS) as client:
                yield Talk(client)
            nursery.cancel_scope.cancel()


class Talk:
    """What a client says and hears."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.ask = client.request

    async def until(self, last: Callable[[Event], bool]) -> list[Event]:
        """Events up to the first for which it holds."""
        heard: list[Event] = []
        with trio.fail_after(PATIENCE_S):
            while not heard or not last(heard[-1]):
                heard.append(await self.client.events.receive())
        return heard

    async def until_settled(self, job: str = "one") -> list[Event]:
        return await self.until(lambda event: event == StateEvent(job=job, state="settled"))


def states(heard: list[Event]) -> list[str]:
    """States in order, each once."""
    found = [event.state for event in heard if isinstance(event, StateEvent)]
    return [state for number, state in enumerate(found) if found[:number][-1:] != [state]]


def changes(heard: list[Event]) -> list[tuple[str, str, str]]:
    return [(event.side, event.what, event.path) for event in heard if isinstance(event, ChangeEvent)]


def is_conflict(event: Event) -> bool:
    return isinstance(event, ConflictEvent)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Served:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "home"))
    structlog.configure(processors=[_drop])
    return Served(tmp_path)


@pytest.fixture(autouse=True)
def usual_log() -> Any:
    yield
    structlog.reset_defaults()


def _drop(_logger: object, _method: str, _event: object) -> str:
    raise structlog.DropEvent


async def test_sync_events_oneshot(served):
    async with served.running() as talk:
        await talk.ask("subscribe", types=["state"])
        await talk.ask("start", job="one")
        assert states(await talk.until_settled()) == ["scanning", "settled"]


async def test_sync_events_continuous_pre(served):
    await served.sides["one/a"].put("testfile", b"1")
    async with served.running() as talk:
        await talk.ask("subscribe")
        await talk.ask("start", job="one")
        heard = await talk.until_settled()
        assert states(heard) == ["scanning", "settled"]
        assert changes(heard) == [("remote", "new", "testfile")]


async def test_sync_events_continuous_post(served):
    async with served.running() as talk:
        await talk.ask("subscribe")
        await talk.ask("start", job="one")
        assert states(await talk.until_settled()) == ["scanning", "settled"]
        await served.sides["one/a"].put("testfile", b"1")
        heard = await talk.until(lambda event: isinstance(event, CycleEvent))
        heard += await talk.until_settled()
        assert states(heard)[0] in ("scanning", "applying")
        assert states(heard)[-1] == "settled"
        assert changes(heard) == [("remote", "new", "testfile")]


async def test_sync_events_oneshot_error(served):
    await served.sides["one/a"].put("testfile", b"1")
    await served.sides["one/a"].put("another", b"2")
    refused = PermissionDenied("Permission denied", path="testfile")
    served.sides["one/a"].storage.faults.fail_path(RelPath("testfile"), refused)
    async with served.running() as talk:
        await talk.ask("subscribe")
        await talk.ask("start", job="one")
        heard = await talk.until(lambda event: isinstance(event, ProblemEvent))
        (event,) = [event for event in heard if isinstance(event, ProblemEvent)]
        assert (event.job, event.problem.path) == ("one", "testfile")
        assert "Permission denied" in event.problem.reason
        assert changes(heard) == [("remote", "new", "another")]


async def test_sync_events_continuous_error(served):
    async with served.running() as talk:
        await talk.ask("subscribe")
        await talk.ask("start", job="one")
        await talk.until_settled()
        served.sides["one/b"].storage.faults.fail_next("stat", RuntimeError('a "test" exception'), times=9)
        await served.sides["one/a"].put("testfile", b"1")
        heard = await talk.until(lambda event: isinstance(event, StateEvent) and event.state == "failed")
        assert heard[-1].job == "one"
        assert 'a "test" exception' in heard[-1].reason
        assert (await talk.ask("job-state", job="one")).state == "failed"
        await talk.ask("start", job="two")
        await talk.until_settled("two")


async def _conflict_at_start(served: Served, talk: Talk) -> None:
    await talk.ask("subscribe")
    await talk.ask("start", job="one")
    heard = await talk.until(is_conflict)
    assert (heard[-1].job, heard[-1].conflict.path) == ("one", "testfile")
    assert (heard[-1].conflict.local_size, heard[-1].conflict.remote_size) == (6, 7)


async def test_sync_events_oneshot_conflict(served):
    await served.sides["one/a"].put("testfile", b"from a")
    await served.sides["one/b"].put("testfile", b"from b!")
    async with served.running() as talk:
        await _conflict_at_start(served, talk)
        assert (await talk.ask("flush", job="one")).conflicts[0].path == "testfile"


async def test_sync_events_continuous_pre_conflict(served):
    await served.sides["one/a"].put("testfile", b"from a")
    await served.sides["one/b"].put("testfile", b"from b!")
    async with served.running() as talk:
        await _conflict_at_start(served, talk)
        await talk.until_settled()
        await served.sides["one/a"].put("other", b"goes on")
        heard = await talk.until(lambda event: isinstance(event, CycleEvent) and event.cycle.to_remote == 1)
        assert changes(heard) == [("remote", "new", "other")]


async def test_sync_events_continuous_post_conflict(served):
    await served.sides["one/a"].put("testfile", b"agreed")
    async with served.running() as talk:
        await talk.ask("subscribe")
        await talk.ask("start", job="one")
        await talk.until_settled()
        await talk.ask("pause", job="one")
        await served.sides["one/a"].put("testfile", b"edited on a")
        await served.sides["one/b"].put("testfile", b"edited on b, too")
        await talk.ask("resume", job="one")
        heard = await talk.until(is_conflict)
        assert (heard[-1].job, heard[-1].conflict.path) == ("one", "testfile")


async def test_sync_events_multiple(served):
    for name in ("one", "two"):
        await served.sides[f"{name}/a"].put(f"of {name}", b"1")
    async with served.running() as talk:
        await talk.ask("subscribe")
        await talk.ask("start", job="one")
        await talk.ask("start", job="two")
        heard: list[Event] = []
        while {event.job for event in heard if isinstance(event, CycleEvent)} != {"one", "two"}:
            heard += await talk.until(lambda event: isinstance(event, CycleEvent))
        named = {(event.job, event.path) for event in heard if isinstance(event, ChangeEvent)}
        assert named == {("one", "of one"), ("two", "of two")}


async def test_sync_events_oneshot_progress(served):
    await served.sides["one/a"].put("testfile", b"1")
    async with served.running() as talk:
        await talk.ask("subscribe", types=["progress"])
        await talk.ask("start", job="one")
        heard = await talk.until(lambda event: isinstance(event, ProgressEvent) and bool(event.began))
        assert (heard[-1].job, heard[-1].began) == ("one", ["testfile"])


async def test_sync_events_continuous_progress(served):
    side = served.sides["one/a"]
    async with served.running() as talk:
        await talk.ask("subscribe", types=["state", "change"])
        await talk.ask("start", job="one")
        await talk.until_settled()
        for act, change in (
            (side.put("x", b"1"), ("remote", "new", "x")),
            (side.append("x", b"2"), ("remote", "updated", "x")),
            (side.remove("x"), ("remote", "deleted", "x")),
            (side.make_directory("d"), ("remote", "new folders", "d")),
            (side.remove_directory("d"), ("remote", "removed folders", "d")),
        ):
            await act
            heard = await talk.until(lambda event: isinstance(event, ChangeEvent))
            assert changes(heard) == [change]
            await talk.until_settled()


async def test_sync_events_filter(served):
    side = served.sides["one/a"]
    async with served.running() as talk:
        await talk.ask("subscribe", jobs=["one"], types=["state"])
        await talk.ask("start", job="two")
        await talk.ask("start", job="one")
        heard = await talk.until_settled()
        await side.put("unheard", b"1")
        heard += await talk.until(lambda event: event.state in ("applying", "scanning"))
        heard += await talk.until_settled()
        assert {(type(event), event.job) for event in heard} == {(StateEvent, "one")}
        await talk.ask("subscribe")
        await side.put("heard", b"2")
        heard = await talk.until(lambda event: isinstance(event, CycleEvent) and event.cycle.to_remote == 1)
        assert changes(heard) == [("remote", "new", "heard")]
        await talk.ask("subscribe", types=["cycle"])
        await side.put("unheard too", b"3")
        heard = await talk.until(lambda event: isinstance(event, CycleEvent) and event.cycle.to_remote == 1)
        assert changes(heard) == []
        with pytest.raises(UsageError, match="noise"):
            await talk.ask("subscribe", types=["noise"])


async def test_a_choice_that_is_made_anew_loses_nothing_and_doubles_nothing(served):
    async with served.running() as talk:
        await talk.ask("subscribe")
        await talk.ask("start", job="one")
        await talk.until_settled()
        for number in range(20):
            await served.sides["one/a"].put(f"{number:02}", b"%d" % number)
            await talk.ask("subscribe", types=["change"])
        heard = []
        while len(heard) < 20:
            heard += changes(await talk.until(lambda event: isinstance(event, ChangeEvent)))
        assert sorted(path for _, _, path in heard) == [f"{number:02}" for number in range(20)]


async def test_w18_status_answers_while_another_client_waits_for_stop(served):
    await served.sides["one/a"].put("x", b"1")
    gate = served.sides["one/b"].storage.faults.hold("barrier")
    async with served.running() as talk, open_client(daemon_socket(), JOB_COMMANDS) as other:
        await talk.ask("start", job="one")
        await talk.ask("start", job="two")
        with trio.fail_after(PATIENCE_S):
            await gate.reached.wait()
        stopped = trio.Event()

        async def stop() -> None:
            await other.request("stop", job="one")
            stopped.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            for _ in range(3):
                assert [job.name for job in (await talk.ask("status")).jobs][-1] == "two"
            gate.release()
        assert stopped.is_set()
        assert [job.name for job in (await talk.ask("status")).jobs] == ["two"]


async def test_a_start_waits_for_a_stop_that_is_under_way(served):
    await served.sides["one/a"].put("x", b"1")
    gate = served.sides["one/b"].storage.faults.hold("barrier")
    async with (
        served.running() as talk,
        open_client(daemon_socket(), JOB_COMMANDS) as second,
        open_client(daemon_socket(), JOB_COMMANDS) as third,
    ):
        await talk.ask("subscribe", types=["state"])
        await talk.ask("start", job="one")
        with trio.fail_after(PATIENCE_S):
            await gate.reached.wait()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(talk.ask, "stop", job="one"))
            with trio.fail_after(PATIENCE_S):
                while (await talk.ask("status")).jobs:
                    await trio.sleep(0.01)
            for client in (second, third):
                nursery.start_soon(partial(client.request, "start", job="one"))
            await trio.testing.wait_all_tasks_blocked(0.02)
            gate.release()
        heard = await talk.until_settled()
        assert "failed" not in states(heard)
        assert len((await talk.ask("status")).jobs) == 1


async def test_w20_a_second_client_follows_a_job_that_the_first_started(served):
    async with served.running() as talk, open_client(daemon_socket(), JOB_COMMANDS) as other:
        await talk.ask("start", job="one")
        follower = Talk(other)
        await follower.ask("subscribe", jobs=["one"], types=["change"])
        await served.sides["one/a"].put("x", b"1")
        heard = await follower.until(lambda event: isinstance(event, ChangeEvent))
        assert changes(heard) == [("remote", "new", "x")]
        assert (await follower.ask("flush", job="one")).state == "settled"


@pytest.mark.parametrize("name", ["", "|", "a|b", "none", "../one", "one\n", '"', "é" * 300])
async def test_w21_a_job_that_does_not_exist_is_named_in_the_refusal(served, name):
    async with served.running() as talk:
        for command in ("stop", "job-state", "pause", "resume", "flush", "conflicts"):
            with pytest.raises(NotFound) as refused:
                await talk.ask(command, job=name)
            assert "does not run" in str(refused.value)
        assert (await talk.ask("status")).jobs == []


async def test_w23_stop_all_and_stop_again_and_again(served):
    await served.sides["one/a"].put("x", b"1")
    async with served.running() as talk, open_client(daemon_socket(), JOB_COMMANDS) as other:
        for number in range(10):
            await talk.ask("start", job="one")
            await talk.ask("start", job="two")
            if number % 2:
                await talk.ask("flush", job="one")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(talk.ask, "stop-all")
                nursery.start_soon(other.request, "stop-all")
            for name in ("one", "two"):
                with pytest.raises(NotFound):
                    await talk.ask("stop", job=name)
            assert (await talk.ask("status")).jobs == []
        await talk.ask("start", job="one")
        assert (await talk.ask("flush", job="one")).state == "settled"
        assert (served.root / "one/b/x").read_bytes() == b"1"


async def test_a_job_on_the_folder_of_an_earlier_one_says_so(served):
    served.sides["two/a"] = served.sides["one/b"]
    async with served.running() as talk:
        for name in ("one", "two"):
            await talk.ask("start", job=name)
            await talk.ask("flush", job=name)
        one, two = (await talk.ask("status")).jobs
        assert one.reason is None
        assert two.reason == "two/a is kept in sync by job 'one' too"
        await talk.ask("stop", job="one")
        assert (await talk.ask("job-state", job="two")).reason is None
