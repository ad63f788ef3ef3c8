"""A body that goes from a remote to this disk comes in one stream, counted and hashed as it passes."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from mountsync.engine.pair.bodies import HashingSource
from mountsync.engine.transfers import MeteredSource, Transfers
from mountsync.errors import Stale
from mountsync.formats.sizes import Bandwidth
from mountsync.paths import RelPath
from mountsync.storage.local import LocalStorage
from mountsync.storage.memory import MemoryStorage
from mountsync.storage.sources import StorageSource
from tests.parts.bodies import body, put
from tests.parts.failing import failing

F = RelPath("f")
SIZE = (20 << 20) + 7


@pytest.fixture
def local(tmp_path):
    (tmp_path / "root").mkdir()
    return LocalStorage(str(tmp_path / "root"), state_dir=tmp_path / "state")


async def test_a_large_body_is_one_request(local, tmp_path):
    origin = failing(MemoryStorage())
    data = body(SIZE)
    source = StorageSource(origin, F, await put(origin, F, data))
    with Transfers().begin("f", "down", SIZE) as running:
        hashing = HashingSource(MeteredSource(source, running))
        made = await local.write(F, hashing)
        assert running.meter.done == SIZE
    assert made.size == SIZE
    assert hashing.digest == hashlib.sha256(data).hexdigest()
    assert (tmp_path / "root" / "f").read_bytes() == data
    assert origin.faults.calls["read"] == 1


async def test_a_limited_body_is_not_held_open(local):
    """A server may cut a connection from which nothing is taken for a while."""
    origin = failing(MemoryStorage())
    source = StorageSource(origin, F, await put(origin, F, body(SIZE)))
    transfers = Transfers.limited(Bandwidth(up=None, down=1 << 30))
    with transfers.begin("f", "down", SIZE) as running:
        await local.write(F, MeteredSource(source, running))
    assert origin.faults.calls["read"] == 3


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
