"""The background gives way to programs that work in the folder, and never for ever."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from mountsync.engine.courtesy import Courtesy
from mountsync.vfs.traffic import Traffic


@pytest.fixture
def autojump_clock():
    return MockClock(autojump_threshold=0)


async def _work(traffic: Traffic, per_s: int, seconds: float) -> None:
    """A program that asks so many times a second."""
    for _ in range(int(seconds * 100)):
        traffic.requests += per_s // 100
        await trio.sleep(0.01)


async def _waited(courtesy: Courtesy) -> tuple[bool, float]:
    began = trio.current_time()
    return await courtesy.wait(), trio.current_time() - began


async def test_a_folder_at_rest_is_not_waited_for(autojump_clock):
    courtesy = Courtesy(Traffic())
    assert await _waited(courtesy) == (True, 0.0)


async def test_what_a_player_asks_is_not_waited_for(autojump_clock):
    traffic = Traffic()
    courtesy = Courtesy(traffic)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_work, traffic, 200, 2.0)
        await trio.sleep(1)
        assert await _waited(courtesy) == (True, 0.0)


async def test_a_burst_is_waited_for(autojump_clock):
    traffic = Traffic()
    courtesy = Courtesy(traffic)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_work, traffic, 10_000, 0.3)
        await trio.sleep(0.1)
        at_rest, took = await _waited(courtesy)
    assert at_rest
    assert 0.15 < took < 0.35


async def test_a_load_that_never_pauses_is_not_waited_for_long(autojump_clock):
    traffic = Traffic()
    courtesy = Courtesy(traffic)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_work, traffic, 10_000, 10.0)
        await trio.sleep(1)
        for _ in range(3):
            at_rest, took = await _waited(courtesy)
            assert not at_rest
            assert 0.45 < took < 0.6
