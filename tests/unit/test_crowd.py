"""Work that shares hops to threads: every piece is done once, told to its own caller, and none is lost."""

from __future__ import annotations

import threading

import pytest
import trio

from mountsync.storage.crowd import Crowd


@pytest.fixture
def crowd() -> Crowd:
    return Crowd(trio.CapacityLimiter(4), 2)


async def test_results_and_errors_go_to_those_who_asked(crowd):
    done: list[int] = []
    found: dict[int, object] = {}

    def work(number: int) -> int:
        done.append(number)
        if number % 7 == 0:
            raise ValueError(number)
        return -number

    async def ask(number: int) -> None:
        try:
            found[number] = await crowd.run(lambda: work(number))
        except ValueError as error:
            found[number] = error.args

    async with trio.open_nursery() as nursery:
        for number in range(500):
            nursery.start_soon(ask, number)
    assert sorted(done) == list(range(500))
    assert found == {n: (n,) if n % 7 == 0 else -n for n in range(500)}
    assert crowd._free == 2


async def test_many_share_a_hop_and_no_more_hops_than_allowed_go_on(crowd):
    running, most = 0, 0
    lock = threading.Lock()
    threads: list[int] = []

    def work() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            threads.append(threading.get_ident())
        with lock:
            running -= 1

    async with trio.open_nursery() as nursery:
        for _ in range(200):
            nursery.start_soon(crowd.run, work)
    assert len(threads) == 200
    assert most <= 2
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("victims", [range(10), range(3, 7), range(1), range(9, 10)])
async def test_cancelled_pieces_are_done_whole_or_not_at_all_and_hold_up_nobody(crowd, victims):
    gate = threading.Event()
    begun: list[int] = []
    ended: list[int] = []
    got: list[int] = []
    scopes = [trio.CancelScope() for _ in range(10)]

    def work(number: int) -> int:
        begun.append(number)
        gate.wait()
        ended.append(number)
        return number

    async def ask(number: int) -> None:
        with scopes[number]:
            got.append(await crowd.run(lambda: work(number)))

    async with trio.open_nursery() as nursery:
        for number in range(10):
            nursery.start_soon(ask, number)
        with trio.fail_after(60):
            while len(begun) < 2:
                await trio.sleep(0.01)
        for number in victims:
            scopes[number].cancel()
        await trio.sleep(0)
        gate.set()
    assert begun == ended or sorted(begun) == sorted(ended)
    assert set(range(10)) - set(victims) <= set(got)
    assert set(got) <= set(ended)
    with trio.fail_after(60):
        assert await crowd.run(lambda: "goes on") == "goes on"
    assert crowd._free == 2


async def test_when_no_thread_can_be_had_everybody_is_told(crowd, monkeypatch):
    async def no_thread(*_args, **_options):
        await trio.lowlevel.checkpoint()
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(trio.to_thread, "run_sync", no_thread)
    told = []

    async def ask() -> None:
        try:
            await crowd.run(lambda: None)
        except RuntimeError as error:
            told.append(str(error))

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(ask)
    assert len(told) == 10
    assert crowd._free == 2


async def test_a_cancelled_caller_begins_nothing(crowd):
    done: list[int] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        await crowd.run(lambda: done.append(1))
    assert done == []
