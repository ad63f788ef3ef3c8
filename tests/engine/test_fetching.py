"""Bytes on demand: only what is needed, once, whole and right; and the cache that holds them."""

from __future__ import annotations

import os

import pytest
import trio

from mountsync.engine.assembly import Tuning
from mountsync.errors import Busy, Corrupt, NotFound, Stale
from mountsync.paths import RelPath
from mountsync.state.tree import Place
from mountsync.storage.memory import MemoryStorage
from mountsync.storage.memory_tree import File
from tests.parts.bodies import body, put
from tests.parts.failing import failing
from tests.parts.mounted import Killed, expect_error, mounted
from tests.parts.pouring import PouringMemory

MIB = 1 << 20


class Reads:
    """The ranges that were read of a storage."""

    def __init__(self, storage) -> None:
        self.ranges: list[tuple[int, int]] = []
        self._read = storage.read
        storage.read = self._note

    def _note(self, path, offset=0, length=None, *, expect=None):
        self.ranges.append((offset, offset + (length or 0)))
        return self._read(path, offset, length, expect=expect)

    @property
    def total(self) -> int:
        return sum(stop - start for start, stop in self.ranges)


KINDS = pytest.mark.parametrize("kind", [MemoryStorage, PouringMemory])
"""What is read comes by other ways from storages that pour."""


def remote_with(kind=MemoryStorage, **files: bytes):
    storage = failing(kind())
    for name, data in files.items():
        storage._below._tree.put(RelPath(name), data, mtime_ns=1, expect=None)
    return storage


async def test_nothing_is_fetched_before_it_is_read(quick_clock, home):
    remote = remote_with(a=body(1000), b=body(5 * MIB))
    async with mounted(home, remote) as m:
        await m.flush()
        await m.lookup("b")
        await trio.sleep(300)
        assert remote.faults.calls["read"] == 0
        assert m.volume.cache_bytes() == 0


async def test_of_a_large_file_only_what_is_needed(quick_clock, home):
    data = body(64 * MIB)
    remote = remote_with(big=data)
    reads = Reads(remote)
    async with mounted(home, remote) as m:
        handle = await m.open("big", os.O_RDONLY)
        assert await m.read_from(handle, 40 * MIB + 17, 100) == data[40 * MIB + 17 : 40 * MIB + 117]
        assert reads.total <= 2 * MIB
        assert await m.read_from(handle, 3, 10) == data[3:13]
        assert reads.total <= 4 * MIB
        m.close(handle)


async def test_reading_on_looks_further_and_further_ahead(quick_clock, home):
    data = body(48 * MIB)
    remote = remote_with(big=data)
    reads = Reads(remote)
    async with mounted(home, remote) as m:
        handle = await m.open("big", os.O_RDONLY)
        for offset in range(0, 8 * MIB, MIB // 4):
            assert await m.read_from(handle, offset, MIB // 4) == data[offset : offset + MIB // 4]
            await trio.sleep(0.01)
        assert reads.total > 8 * MIB  # it ran ahead
        assert len(reads.ranges) < 24  # in large steps
        taken = [set(range(start // 4096, stop // 4096)) for start, stop in reads.ranges]
        assert len(set().union(*taken)) == sum(map(len, taken))  # nothing twice
        m.close(handle)


async def test_one_flight_for_many_readers(quick_clock, home):
    remote = remote_with(f=body(MIB))
    async with mounted(home, remote) as m:
        await m.names()
        gate = remote.faults.hold("read")
        found = []

        async def read() -> None:
            found.append(await m.read("f"))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(read)
            await gate.reached.wait()
            gate.release()
        assert found == [body(MIB)] * 10
        assert remote.faults.calls["read"] == 1


async def test_partial_content_survives_a_restart(quick_clock, home):
    data = body(16 * MIB)
    remote = remote_with(big=data)
    async with mounted(home, remote) as m:
        handle = await m.open("big", os.O_RDONLY)
        await m.read_from(handle, 8 * MIB, 100)
        here = m.volume.cache_bytes()
        raise Killed
    async with mounted(home, remote) as m:
        assert m.volume.cache_bytes() == here > 0
        remote.faults.offline = True
        handle = await m.open("big", os.O_RDONLY)
        assert m.volume.read(handle, 8 * MIB, 100) == data[8 * MIB : 8 * MIB + 100]
        m.close(handle)
        remote.faults.offline = False
        assert await m.read("big") == data


@KINDS
async def test_another_version_gives_no_mixed_bytes(quick_clock, home, kind):
    old, new = body(8 * MIB, 1), body(8 * MIB, 2)
    remote = remote_with(kind, f=old)
    async with mounted(home, remote) as m:
        handle = await m.open("f", os.O_RDONLY)
        assert await m.read_from(handle, 0, 100) == old[:100]
        remote._below._tree.put(RelPath("f"), new, mtime_ns=2, expect=None)
        await expect_error(Stale, m.read_from(handle, 6 * MIB, 100))
        m.close(handle)
        await trio.sleep(5)  # the path is looked at again by itself
        assert await m.read("f") == new


async def test_what_vanished_is_stale_for_handles_and_gone_for_others(quick_clock, home):
    remote = remote_with(f=body(1000), g=b"")
    async with mounted(home, remote) as m:
        handle = await m.open("f", os.O_RDONLY)
        remote._below._tree.delete(RelPath("f"), None)
        await expect_error(Stale, m.read_from(handle, 0, 100))
        m.close(handle)
        await trio.sleep(5)
        await expect_error(NotFound, m.lookup("f"))


class Short:
    """Gives fewer bytes than it was asked for, as a broken server would."""

    def __init__(self, pieces, cut: int) -> None:
        self._pieces, self._cut = pieces, cut

    def __aiter__(self):
        return self

    async def __anext__(self):
        piece = await self._pieces.__anext__()
        piece, self._cut = piece[: self._cut], self._cut - len(piece)
        if not piece:
            raise StopAsyncIteration
        return piece


class ShortReads:
    def __init__(self, inner, cut: int) -> None:
        self._inner, self._cut = inner, cut

    async def __aenter__(self):
        return Short(await self._inner.__aenter__(), self._cut)

    async def __aexit__(self, *what):
        return await self._inner.__aexit__(*what)


async def test_a_short_answer_is_no_content(quick_clock, home):
    data = body(100_000)
    remote = remote_with(f=data)
    whole = remote.read
    async with mounted(home, remote) as m:
        await m.names()
        remote.read = lambda *a, **k: ShortReads(whole(*a, **k), 5000)
        await expect_error(Corrupt, m.read("f"))
        assert m.volume.missing((await m.lookup("f")).id, 0, 100_000) == [(0, 100_000)]
        remote.read = whole
        assert await m.read("f") == data


@KINDS
async def test_content_with_another_digest_is_never_shown(quick_clock, home, kind):
    remote = failing(kind())
    async with mounted(home, remote) as m:
        await m.write("small", b"right")
        await m.write("large", body(3 * MIB))
        await m.flush()
        for name in ("small", "large"):
            assert m.volume.forget_content((await m.lookup(name)).id)
        found = remote._below._tree.find(RelPath("small"))
        assert isinstance(found, File)
        found.data = b"wrong"  # the token stays: silent damage
        await expect_error(Corrupt, m.read("small"))
        found.data = b"right"
        assert await m.read("small") == b"right"
        found = remote._below._tree.find(RelPath("large"))
        found.data = body(3 * MIB, 7)
        handle = await m.open("large", os.O_RDONLY)
        await expect_error(Corrupt, m.read_from(handle, 0, 3 * MIB))
        m.close(handle)
        found.data = body(3 * MIB)
        assert await m.read("large") == body(3 * MIB)


async def test_a_cold_file_is_fetched_before_it_is_changed(quick_clock, home):
    remote = remote_with(f=body(200_000))
    async with mounted(home, remote) as m:
        handle = await m.open("f")
        await m.write_to(handle, 100_000, b"patch")
        m.close(handle)
        await m.flush()
        data = body(200_000)
        assert (await m.remote_tree())["f"] == data[:100_000] + b"patch" + data[100_005:]


async def test_a_cold_file_is_emptied_without_being_fetched(quick_clock, home):
    remote = remote_with(f=body(200_000))
    async with mounted(home, remote) as m:
        await m.write("f", b"all new")
        await m.flush()
        assert remote.faults.calls["read"] == 0
        assert await m.remote_tree() == {"f": b"all new"}


async def test_a_directory_is_listed_once_for_all_who_wait(quick_clock, home):
    remote = failing(MemoryStorage())
    await put(remote, "d/f", b"1")
    async with mounted(home, remote, running=False) as m:
        await m.names()
        gate = remote.faults.hold("list")
        before = remote.faults.calls["list"]
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(m.names, "d")
            await gate.reached.wait()
            gate.release()
        assert remote.faults.calls["list"] == before + 1


# The cache


async def test_the_cache_is_kept_small_but_never_at_the_cost_of_changes(quick_clock, home):
    remote = remote_with(**{f"f{n}": body(MIB, n) for n in range(10)})
    tuning = Tuning(host="here", write_delay=1.0, cache_size=4 * MIB)
    async with mounted(home, remote, tuning=tuning) as m:
        m.condition.paused = False
        for number in range(10):
            await m.read(f"f{number}")
        remote.faults.offline = True
        await m.write("dirty", body(6 * MIB))
        await trio.sleep(30)
        node = await m.lookup("dirty")
        assert node.place == Place.FILE
        assert await m.read("dirty") == body(6 * MIB)
        assert m.volume.cache_bytes() <= 10 * MIB
        remote.faults.offline = False
        await m.settled(200)
        await trio.sleep(10)
        assert m.volume.cache_bytes() <= 4 * MIB
        assert await m.read("dirty") == body(6 * MIB)


async def test_pinned_files_come_and_stay(quick_clock, home):
    remote = failing(MemoryStorage())
    await put(remote, "d/a", body(MIB))
    await put(remote, "d/s/b", body(MIB, 2))
    tuning = Tuning(host="here", write_delay=1.0, cache_size=MIB)
    async with mounted(home, remote, tuning=tuning) as m:
        await m.flush()
        await m.steering.pin("d")
        await trio.sleep(20)
        assert m.volume.cache_bytes() == 2 * MIB
        await expect_error(Busy, m.steering.evict("d/a"))
        await put(remote, "d/new", body(1000))
        await m.flush()
        await trio.sleep(20)
        remote.faults.offline = True
        assert await m.read("d/new") == body(1000)
        remote.faults.offline = False
        await m.steering.unpin("d")
        await trio.sleep(20)
        assert m.volume.cache_bytes() <= MIB


async def test_evict_forgets_what_is_clean(quick_clock, home):
    remote = failing(MemoryStorage())
    async with mounted(home, remote, tuning=Tuning(host="here", write_delay=1000.0)) as m:
        await m.mkdir("d")
        await m.write("d/clean", body(1000))
        await m.flush()
        await m.write("d/dirty", body(2000))
        assert await m.steering.evict("d") == 1000
        assert await m.read("d/dirty") == body(2000)
        assert await m.read("d/clean") == body(1000)
