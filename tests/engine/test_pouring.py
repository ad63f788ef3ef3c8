"""Bytes of large cold files that a storage writes into the content file itself."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest
import trio

from mountsync.engine.away import AwayStorage
from mountsync.engine.transfers import Pace
from mountsync.errors import Corrupt, NoSpace, Stale
from mountsync.paths import RelPath
from mountsync.state.tree import Place
from tests.parts.bodies import body
from tests.parts.failing import failing
from tests.parts.mounted import Killed, expect_error, mounted
from tests.parts.pouring import PouringMemory

MIB = 1 << 20


def remote_with(**files: bytes):
    storage = failing(PouringMemory())
    for name, data in files.items():
        storage._below._tree.put(RelPath(name), data, mtime_ns=1, expect=None)
    return storage


async def test_large_files_are_poured_and_small_ones_read(quick_clock, home):
    remote = remote_with(large=body(9 * MIB + 5), small=body(2 * MIB))
    async with mounted(home, remote) as m:
        assert await m.read("large") == body(9 * MIB + 5)
        assert remote.faults.calls["read"] == 0
        assert remote.faults.calls["pour"] == 3
        assert await m.read("small") == body(2 * MIB)
        assert remote.faults.calls["read"] == 1


async def test_what_is_claimed_is_there_after_a_kill(quick_clock, home):
    data = body(16 * MIB)
    remote = remote_with(f=data)

    async def hold_up(at: int) -> None:
        if at >= 10 * MIB:
            await trio.sleep_forever()

    async with mounted(home, remote) as m:
        handle = await m.open("f", os.O_RDONLY)
        await m.read_from(handle, 5 * MIB, 100)
        remote._below.between = hold_up
        with trio.move_on_after(1):
            await m.read_from(handle, 9 * MIB, 2 * MIB)
        here = m.volume.cache_bytes()
        assert here >= 2 * MIB
        raise Killed
    remote._below.between = None
    async with mounted(home, remote) as m:
        assert m.volume.cache_bytes() == here
        assert await m.read("f") == data


@pytest.mark.parametrize("then", [b"", b"all new", body(3 * MIB, 9)])
async def test_a_file_that_is_emptied_meanwhile_gets_no_old_bytes(quick_clock, home, then):
    remote = remote_with(f=body(8 * MIB))
    gate = trio.Event()
    reached = trio.Event()

    async def wait(_at: int) -> None:
        reached.set()
        await gate.wait()

    async with mounted(home, remote) as m:
        handle = await m.open("f", os.O_RDONLY)
        remote._below.between = wait
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_read_if_it_can, m, handle)
            await reached.wait()
            await m.write("f", then)
            gate.set()
        m.close(handle)
        assert await m.read("f") == then
        await m.flush()
        assert (await m.remote_tree())["f"] == then
        m.check()


async def _read_if_it_can(m, handle) -> None:
    with suppress(Stale):
        await m.read_from(handle, 0, 8 * MIB)


async def test_what_is_being_poured_is_not_evicted(quick_clock, home):
    remote = remote_with(f=body(8 * MIB))
    gate = trio.Event()

    async def wait(at: int) -> None:
        if at == MIB:
            await gate.wait()

    async with mounted(home, remote) as m:
        await m.names()
        remote._below.between = wait
        async with trio.open_nursery() as nursery:
            nursery.start_soon(m.read, "f")
            await trio.sleep(1)
            assert not m.volume.forget_content((await m.lookup("f")).id)
            gate.set()
        assert await m.read("f") == body(8 * MIB)


async def test_a_short_answer_is_no_content(quick_clock, home):
    remote = remote_with(f=body(8 * MIB))
    async with mounted(home, remote) as m:
        await m.names()
        remote._below.cut = 3 * MIB
        handle = await m.open("f", os.O_RDONLY)
        await expect_error(Corrupt, m.read_from(handle, 0, 8 * MIB))
        m.close(handle)
        assert (3 * MIB, 4 * MIB) in m.volume.missing((await m.lookup("f")).id, 0, 4 * MIB)
        await trio.sleep(5)  # the other half failed too
        remote._below.cut = None
        assert await m.read("f") == body(8 * MIB)


class FullFor:
    """A disk that is full for the next writes from an offset on."""

    def __init__(self, store, times: int) -> None:
        self._write, self._left = store.disk.write, times
        store.disk.write = self.write

    def write(self, fd: int, data, offset: int) -> None:
        if offset >= 2 * MIB and self._left:
            self._left -= 1
            raise NoSpace("the disk is full")
        self._write(fd, data, offset)


@pytest.mark.parametrize("makes_room", [True, False])
async def test_a_full_disk(quick_clock, home, makes_room):
    remote = remote_with(f=body(8 * MIB))
    asked = []

    def relieve(size: int) -> bool:
        asked.append(size)
        return makes_room

    async with mounted(home, remote) as m:
        FullFor(m.store, 1 if makes_room else 99)
        m.volume.relieve = relieve
        handle = await m.open("f", os.O_RDONLY)
        if makes_room:
            assert await m.read_from(handle, 0, 4 * MIB) == body(8 * MIB)[: 4 * MIB]
            assert asked == [2 * MIB]
        else:
            await expect_error(NoSpace, m.read_from(handle, 0, 4 * MIB))
            assert (0, 2 * MIB) not in m.volume.missing((await m.lookup("f")).id, 0, 4 * MIB)
        m.close(handle)


async def test_a_remote_that_comes_later_pours_too(quick_clock, home):
    remote = remote_with(f=body(8 * MIB))
    async with mounted(home, remote) as m:
        await m.names()

    async def opener():
        return remote

    async with mounted(home, AwayStorage(remote.info, "out of reach"), opener=opener) as m:
        await m.flush()
        assert await m.read("f") == body(8 * MIB)
        assert remote.faults.calls["pour"] == 2


async def test_what_is_held_to_a_rate_is_read_instead(quick_clock, home):
    remote = remote_with(f=body(8 * MIB))
    async with mounted(home, remote) as m:
        m.steering.transfers.down = Pace(MIB)
        began = trio.current_time()
        assert await m.read("f") == body(8 * MIB)
        assert trio.current_time() - began > 5
        assert remote.faults.calls["pour"] == 0


async def test_a_file_that_came_by_pouring_is_a_whole_file(quick_clock, home):
    remote = remote_with(f=body(8 * MIB))
    async with mounted(home, remote) as m:
        assert await m.read("f") == body(8 * MIB)
        assert (await m.lookup("f")).place == Place.FILE
        handle = await m.open("f")
        await m.write_to(handle, 5 * MIB, b"patch")
        m.close(handle)
        await m.flush()
        data = body(8 * MIB)
        assert (await m.remote_tree())["f"] == data[: 5 * MIB] + b"patch" + data[5 * MIB + 5 :]
