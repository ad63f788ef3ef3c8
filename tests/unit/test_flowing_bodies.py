"""A body that goes from a remote to this disk comes in one stream, counted and hashed as it passes."""

from __future__ import annotations

import gc
import hashlib
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from mountsync.engine.pair.bodies import HashingSource
from mountsync.engine.transfers import MeteredSource, Transfers
from mountsync.errors import Stale
from mountsync.formats.sizes import Bandwidth
from mountsync.paths import RelPath
from mountsync.storage import syscalls
from mountsync.storage.local import LocalStorage
from mountsync.storage.memory import MemoryStorage
from mountsync.storage.sources import BytesSource, StorageSource
from tests.parts.bodies import body, put
from tests.parts.failing import failing
from tests.parts.pouring import PouringMemory

F = RelPath("f")
SIZE = (20 << 20) + 7
KINDS = [(MemoryStorage, "read"), (PouringMemory, "pour")]


@pytest.fixture
def local(tmp_path):
    (tmp_path / "root").mkdir()
    return LocalStorage(str(tmp_path / "root"), state_dir=tmp_path / "state")


@pytest.mark.parametrize(("kind", "call"), KINDS)
async def test_a_large_body_is_one_request(local, tmp_path, kind, call):
    origin = failing(kind())
    data = body(SIZE)
    source = StorageSource(origin, F, await put(origin, F, data))
    with Transfers().begin("f", "down", SIZE) as running:
        hashing = HashingSource(MeteredSource(source, running))
        made = await local.write(F, hashing)
        assert running.meter.done == SIZE
    assert made.size == SIZE
    assert origin.faults.calls == {"write": 1, call: 1}
    assert hashing.digest == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "root" / "f").read_bytes() == data


@pytest.mark.parametrize("kind", [MemoryStorage, PouringMemory])
async def test_a_limited_body_is_not_held_open(local, kind):
    """A server may cut a connection from which nothing is taken for a while."""
    origin = failing(kind())
    source = StorageSource(origin, F, await put(origin, F, body(SIZE)))
    transfers = Transfers.limited(Bandwidth(up=None, down=1 << 30))
    with transfers.begin("f", "down", SIZE) as running:
        await local.write(F, MeteredSource(source, running))
    assert origin.faults.calls["read"] == 3


class CutOffPour(PouringMemory):
    cut = 3 << 20


async def test_what_was_poured_in_part_is_not_a_file(local, tmp_path):
    origin = CutOffPour()
    source = StorageSource(origin, F, await put(origin, F, body(SIZE)))
    with pytest.raises(Stale):
        await local.write(F, source)
    assert [p.name for p in (tmp_path / "root").iterdir() if not p.name.startswith(".")] == []


async def test_the_digest_is_that_of_the_file_whatever_order_its_bytes_came_in(local, tmp_path):
    data = body(SIZE)
    hashing = HashingSource(Backwards(data))
    await local.write(F, hashing)
    assert hashing.digest == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "root" / "f").read_bytes() == data


class Backwards(BytesSource):
    """Pours the end first, twice, and counts from the front."""

    @asynccontextmanager
    async def pour(self, basin) -> AsyncIterator[AsyncIterator[int]]:
        send, receive = trio.open_memory_channel[int](9)
        half = self.size // 2
        for start, stop in [(half, self.size), (half, self.size), (0, half)]:
            data = memoryview(await self.read(start, stop - start))
            await trio.to_thread.run_sync(basin.put_at, data, start)
        for count in (5, half, self.size - half - 5):
            await send.send(count)
        send.close()
        yield receive


async def test_the_disk_begins_before_all_is_there(local, monkeypatch):
    told = []
    monkeypatch.setattr(syscalls, "start_writeback", lambda _fd, *span: told.append(span))
    origin = PouringMemory()
    await local.write(F, StorageSource(origin, F, await put(origin, F, body(SIZE))))
    await local.write(RelPath("g"), BytesSource(body(SIZE)))
    assert told == 2 * [(0, 8 << 20), (8 << 20, 8 << 20)]


class CutOff:
    """A body of which only the beginning comes."""

    size = SIZE

    @asynccontextmanager
    async def flow(self) -> AsyncIterator[AsyncIterator[bytes]]:
        send, receive = trio.open_memory_channel[bytes](1)
        await send.send(bytes(1 << 20))
        send.close()
        yield receive

    async def read(self, offset: int, length: int) -> bytes:
        raise AssertionError("it comes as a stream")

    def still(self) -> bool:
        return True


async def test_what_was_cut_off_is_not_a_file(local, tmp_path):
    with pytest.raises(Stale):
        await local.write(F, CutOff())
    assert [p.name for p in (tmp_path / "root").iterdir() if not p.name.startswith(".")] == []


async def test_another_version_is_not_taken(local, tmp_path):
    origin = MemoryStorage()
    source = StorageSource(origin, F, await put(origin, F, body(SIZE)))
    await put(origin, F, body(SIZE, 2))
    with pytest.raises(Stale):
        await local.write(F, source)
    assert not (tmp_path / "root" / "f").exists()


@pytest.mark.parametrize("kind", [MemoryStorage, PouringMemory])
async def test_a_source_is_gone_when_nobody_holds_it(kind):
    """Thousands of small ones pass in a second, and the collector of garbage is called seldom."""
    origin = kind()
    inner = StorageSource(origin, F, await put(origin, F, b"abc"))
    inner.load = lambda: b"abc"  # as bodies on the disk have it
    with Transfers().begin("f", "down", 3) as running:
        sources = [inner, metered := MeteredSource(inner, running), HashingSource(metered)]
        left = [weakref.ref(source) for source in sources]
        gc.disable()
        try:
            del inner, metered, sources
            assert [source() for source in left] == [None, None, None]
        finally:
            gc.enable()
