"""Bodies that are read from somewhere else."""

from __future__ import annotations

import os

import pytest

from mountsync.errors import Stale
from mountsync.paths import RelPath
from mountsync.storage.memory import MemoryStorage
from mountsync.storage.sources import BytesSource, FileSource, StorageSource, fill
from tests.parts.bodies import body, put
from tests.parts.failing import failing

F = RelPath("f")
MIB = 1 << 20


async def test_reading_on_takes_few_requests():
    origin = failing(MemoryStorage())
    data = body(20 * MIB + 7)
    source = StorageSource(origin, F, await put(origin, F, data))
    offset, pieces = 0, []
    while offset < source.size:
        pieces.append(await source.read(offset, MIB))
        offset += len(pieces[-1])
    assert b"".join(pieces) == data
    assert origin.faults.calls["read"] == 3


async def test_reading_in_any_order_gives_the_same_bytes():
    origin = failing(MemoryStorage())
    data = body(9 * MIB)
    source = StorageSource(origin, F, await put(origin, F, data))
    for offset, length in ((5 * MIB, 10), (0, 3), (3, 8 * MIB), (8 * MIB + 3, 2 * MIB), (5 * MIB + 10, MIB),
                           (3, 3), (6, 100), (9 * MIB, 10), (9 * MIB - 1, 10)):  # fmt: skip
        assert await source.read(offset, length) == data[offset : offset + length], (offset, length)


async def test_another_version_is_never_mixed_in():
    origin = MemoryStorage()
    source = StorageSource(origin, F, await put(origin, F, body(20 * MIB)))
    await source.read(0, MIB)
    await put(origin, F, body(20 * MIB, 2))
    with pytest.raises(Stale):
        await source.read(8 * MIB, MIB)


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 3 * MIB])
async def test_files_are_read_whole_and_into_memory_that_is_there(tmp_path, size):
    data = body(size)
    path = tmp_path / "f"
    path.write_bytes(data)
    with FileSource(str(path)) as source:
        assert await source.read(0, size) == data
        buffer = bytearray(size)
        await fill(source, 0, memoryview(buffer))
        assert buffer == data
        os.truncate(path, size // 2)
        if size:
            with pytest.raises(Stale):
                await fill(source, 0, memoryview(buffer))
            with pytest.raises(Stale):
                await source.read(0, size)


async def test_filling_from_a_source_that_only_reads():
    data = body(3 * MIB + 1)
    buffer = bytearray(2 * MIB)
    await fill(BytesSource(data), MIB, memoryview(buffer))
    assert buffer == data[MIB : 3 * MIB]
    with pytest.raises(Stale):
        await fill(BytesSource(data), 2 * MIB, memoryview(buffer))
