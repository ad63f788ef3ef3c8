"""Calls that are shared: whatever ends one reaches everybody who waits for it."""

from __future__ import annotations

import asyncio

import pytest

from mountsync.storage.modal.batches import Gathering, Looks, Puts
from mountsync.storage.modal.transport import FilePut


class Defect(Exception):
    """What nobody expects."""


async def fail(*_: object, **__: object):
    await asyncio.sleep(0)
    raise Defect


async def never(*_: object, **__: object):
    await asyncio.Event().wait()


def a_put(puts: Puts, name: str, *, create_only: bool = False):
    return puts.put("vo", FilePut(name, 1, (b"x" * 32,)), create_only=create_only, within=5.0)


@pytest.mark.parametrize("count", [1, 9])
def test_a_defect_in_a_look_reaches_all_who_asked(count):
    async def run():
        looks = Looks(fail, fail, lambda: 0)
        asked = (looks.ask("vo", f"d/f{n}") for n in range(count))
        async with asyncio.timeout(5):
            return await asyncio.gather(*asked, return_exceptions=True)

    assert {type(outcome) for outcome in asyncio.run(run())} == {Defect}


@pytest.mark.parametrize("count", [1, 9])
@pytest.mark.parametrize("create_only", [False, True])
def test_a_defect_in_a_put_reaches_all_who_asked(count, create_only):
    async def run():
        puts = Puts(fail, lambda: 0)
        asked = (a_put(puts, f"d/f{n}", create_only=create_only) for n in range(count))
        async with asyncio.timeout(5):
            return await asyncio.gather(*asked, return_exceptions=True)

    assert {type(outcome) for outcome in asyncio.run(run())} == {Defect}


@pytest.mark.parametrize("count", [1, 9])
def test_a_cancelled_call_is_over_for_all_who_asked(count):
    async def run():
        looks, puts = Looks(never, never, lambda: 0), Puts(never, lambda: 0)
        waiting = [asyncio.ensure_future(looks.ask("vo", f"d/f{n}")) for n in range(count)]
        waiting += [asyncio.ensure_future(a_put(puts, f"d/f{n}")) for n in range(count)]
        async with asyncio.timeout(5):
            while not all(each.done() for each in waiting):  # who is in line gets a call of its own
                await asyncio.sleep(0.01)
                for task in asyncio.all_tasks() - {asyncio.current_task(), *waiting}:
                    task.cancel()
            return await asyncio.gather(*waiting, return_exceptions=True)

    assert {type(outcome) for outcome in asyncio.run(run())} == {asyncio.CancelledError}


def test_nobody_waits_for_calls_that_are_over():
    """The pause of a line is measured by what is under way, also when that has ended meanwhile."""

    async def run():
        under_way, line, taken = 1_000_000, ["a"], asyncio.Event()

        def take():
            line.clear()
            taken.set()

        gathering = Gathering(lambda: under_way, lambda: len(line), take, 3)
        gathering.most = 600.0
        gathering.look()
        await asyncio.sleep(0)
        assert line, "many calls are under way that may want the same"
        under_way = 1
        async with asyncio.timeout(30):
            await taken.wait()

    asyncio.run(run())
