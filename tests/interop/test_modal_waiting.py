"""Calls that wait for their turn, and listings that die late: time counts where something is tried."""

from __future__ import annotations

import pytest
import trio

from mountsync.errors import Unreachable
from mountsync.paths import RelPath
from mountsync.storage.modal.patience import Limits
from tests.parts.bodies import items, put
from tests.parts.modal import modal_storage, plant


async def test_calls_that_wait_for_their_turn_are_not_given_up(server, tmp_path):
    """Though all that are before them take longer than one call may."""
    limits = Limits(connect=2.0, call=2.0, idle=1.0, first_delay=0.01, calls_at_once=2)
    async with modal_storage(server, tmp_path / "s", limits=limits, sidecar_metadata=False) as storage:
        for n in range(10):
            plant(server, f"d{n}/f", b"data")
        transport = storage._transport
        volume = (await storage._volumes.get("data")).volume.id
        line = transport._channels._link
        server.faults.delay_of = {"VolumeGetFile2": 0.6}
        async with trio.open_nursery() as nursery:
            for n in range(10):
                nursery.start_soon(transport.locate, volume, f"d{n}/f", 0, 4)
        assert transport._channels._link is line


async def test_a_call_without_time_says_nothing_of_its_line(server, tmp_path):
    limits = Limits(connect=1.0, call=1.0, idle=1.0, first_delay=0.01)
    async with modal_storage(server, tmp_path / "s", limits=limits, sidecar_metadata=False) as storage:
        await put(storage, "f", b"data")
        transport = storage._transport
        line = transport._channels._link
        server.faults.delay = 0.3
        volume = storage._volumes.opened[0].volume
        for _ in range(3):
            with pytest.raises(Unreachable):
                await transport.remove(volume.id, "absent", within=0.05)
        assert transport._channels._link is line
        server.faults.delay = 0
        assert await storage.stat(RelPath("f")) is not None


async def test_looks_that_wait_for_their_turn_are_not_given_up(server, tmp_path):
    limits = Limits(connect=2.0, call=2.0, idle=1.0, first_delay=0.01, calls_at_once=2)
    async with modal_storage(server, tmp_path / "s", limits=limits, sidecar_metadata=False) as storage:
        for n in range(10):
            plant(server, f"d{n}/f", b"data")
        server.faults.delay_of = {"VolumeListFiles2": 0.6}
        found = []

        async def look(path):
            found.append(await storage.stat(path))

        async with trio.open_nursery() as nursery:
            for n in range(10):
                nursery.start_soon(look, RelPath(f"d{n}/f"))
        assert len(found) == 10 and None not in found


@pytest.mark.parametrize("deaths", [1, 3])
async def test_a_listing_that_dies_late_is_begun_again(server, tmp_path, deaths):
    """After longer than a call may take, all attempts of it together."""
    limits = Limits(connect=1.0, call=1.0, idle=5.0, first_delay=0.01)
    async with modal_storage(server, tmp_path / "s", limits=limits, sidecar_metadata=False) as storage:
        for n in range(9):
            plant(server, f"d/f{n}", b"x")
        server.faults.list_batch, server.faults.list_pause = 1, 0.2
        server.faults.list_dies_after, server.faults.list_deaths = 7, deaths
        assert len(await items(storage)) == 10


async def test_a_listing_that_keeps_dying_ends(server, tmp_path):
    limits = Limits(connect=1.0, call=1.0, idle=1.0, stream=3.0, first_delay=0.01)
    async with modal_storage(server, tmp_path / "s", limits=limits, sidecar_metadata=False) as storage:
        for n in range(9):
            plant(server, f"d/f{n}", b"x")
        server.faults.list_batch, server.faults.list_pause = 1, 0.1
        server.faults.list_dies_after, server.faults.list_deaths = 7, 10_000
        with trio.fail_after(20), pytest.raises(Unreachable):
            await items(storage)
