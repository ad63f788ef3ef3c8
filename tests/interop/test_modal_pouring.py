"""Large files of volumes that go where they belong as they come: right, each byte, and never too late."""

from __future__ import annotations

import threading
from itertools import pairwise

import pytest
import trio

from mountsync.errors import Corrupt, NoSpace, Stale, Unreachable
from mountsync.paths import RelPath
from tests.parts.bodies import body, put
from tests.parts.modal import modal_storage, plant
from tests.parts.pouring import Puddle

BLOCK = 8 << 20
F = RelPath("f")


async def poured(storage, *span: int, **more) -> tuple[Puddle, list[int]]:
    puddle = Puddle()
    async with storage.pour(F, puddle.put_at, *span, **more) as counts:
        found = [count async for count in counts]
    puddle.closed = True
    return puddle, found


@pytest.mark.parametrize("size", [BLOCK - 1, BLOCK, BLOCK + 1, 5 * BLOCK + 77])
async def test_all_of_it(storage, size):
    data = body(size)
    await put(storage, "f", data)
    puddle, counts = await poured(storage)
    assert puddle.bytes == data
    assert sum(counts) == size


async def test_zeros_at_the_ends_of_blocks(storage):
    data = b"x" + bytes(BLOCK) + b"y" + bytes(2 * BLOCK)
    await put(storage, "f", data)
    assert (await poured(storage))[0].bytes == data


async def test_ranges_go_where_they_are_in_the_file(storage):
    data = body(3 * BLOCK)
    await put(storage, "f", data)
    edges = [0, 5, 70_000, BLOCK - 1, BLOCK, 2 * BLOCK + 9, 3 * BLOCK]
    for start, stop in pairwise(edges):
        puddle, counts = await poured(storage, start, stop - start)
        assert puddle.bytes == bytes(start) + data[start:stop]
        assert sum(counts) == stop - start


@pytest.mark.parametrize("digest", [False, True])
async def test_a_connection_that_ends_within_a_body(server, storage, digest):
    data = body(3 * BLOCK + 5)
    await put(storage, "f", data)
    server.faults.send_digest = digest
    server.faults.get_dies_after = [5_000_000, 1_000, 7_000_000]
    puddle, counts = await poured(storage)
    assert puddle.bytes == data
    assert sum(counts) == len(data)


@pytest.mark.parametrize("fault", [{"get_truncate": 2}, {"get_overlong": 2}])
async def test_what_has_the_wrong_length_is_asked_for_again(server, storage, fault):
    data = body(2 * BLOCK)
    await put(storage, "f", data)
    for name, value in fault.items():
        setattr(server.faults, name, value)
    assert (await poured(storage))[0].bytes == data


async def test_nothing_is_counted_of_a_body_with_a_wrong_digest(server, storage):
    await put(storage, "f", body(BLOCK))
    server.faults.send_digest = True
    server.faults.get_corrupt = 99
    puddle = Puddle()
    with pytest.raises(Corrupt):
        async with storage.pour(F, puddle.put_at) as counts:
            async for _ in counts:
                pytest.fail("wrong bytes were counted")
    assert not puddle.calls


async def test_urls_that_are_too_old_are_asked_for_again(server, storage):
    data = body(6 * BLOCK)
    await put(storage, "f", data)
    server.faults.get_urls_last = 2
    puddle, counts = await poured(storage)
    assert puddle.bytes == data
    assert sum(counts) == len(data)


async def test_an_error_of_whoever_takes_it_is_the_error_and_nothing_is_tried_again(server, storage):
    await put(storage, "f", body(BLOCK))
    puddle = Puddle(NoSpace("the disk is full"), at=BLOCK // 2)
    with pytest.raises(NoSpace):
        async with storage.pour(F, puddle.put_at) as counts:
            [count async for count in counts]
    assert server.counts.gets == 1


async def test_nothing_comes_any_more_when_the_context_is_left(storage):
    await put(storage, "f", body(6 * BLOCK))
    for left_after in range(3):
        puddle, seen = Puddle(), 0
        async with storage.pour(F, puddle.put_at) as counts:
            while seen < left_after:
                seen += bool(await anext(counts))
        puddle.closed = True
        await trio.sleep(0.1)
        assert not puddle.late


async def test_nothing_comes_any_more_when_it_is_cancelled(server, storage):
    await put(storage, "f", body(4 * BLOCK))
    server.faults.get_drip = 0.02
    puddle = Puddle()
    with trio.move_on_after(0.3):
        async with storage.pour(F, puddle.put_at) as counts:
            [count async for count in counts]
    puddle.closed = True
    await trio.sleep(0.2)
    assert 0 < len(puddle.bytes) < 4 * BLOCK
    assert not puddle.late


async def test_a_version_that_changes_meanwhile_is_noticed(server, storage):
    data = body(20 * BLOCK)
    entry = await put(storage, "f", data)
    puddle, done = Puddle(), 0
    with pytest.raises(Stale):
        async with storage.pour(F, puddle.put_at, expect=entry.token) as counts:
            async for count in counts:
                if not done:
                    plant(server, "f", body(20 * BLOCK, 1) + b"longer")
                done += count
    assert puddle.bytes[:done] == data[:done]


async def test_whoever_waits_for_a_disk_keeps_nobody_else_waiting(storage):
    data = body(2 * BLOCK)
    await put(storage, "f", data)
    waits, goes_on, puddle = threading.Event(), threading.Event(), Puddle()

    def put_at(piece: memoryview, offset: int) -> None:
        waits.set()
        assert goes_on.wait(60)
        puddle.put_at(piece, offset)

    async with storage.pour(F, put_at) as counts:
        await trio.to_thread.run_sync(waits.wait)
        with trio.fail_after(30):
            assert (await storage.stat(F)).size == len(data)
            await put(storage, "g", b"something else")
        goes_on.set()
        assert sum([count async for count in counts]) == len(data)
    assert puddle.bytes == data


async def test_slow_counting_holds_the_server_up(server, storage):
    await put(storage, "f", body(12 * BLOCK))
    puddle = Puddle()
    async with storage.pour(F, puddle.put_at) as counts:
        await anext(counts)
        await trio.sleep(1)
        assert len(puddle.bytes) <= 5 * BLOCK
        [count async for count in counts]
    assert len(puddle.bytes) == 12 * BLOCK


async def test_after_the_end_nothing_begins(server, tmp_path):
    async with modal_storage(server, tmp_path / "state") as storage:
        await put(storage, "f", body(BLOCK))
    with pytest.raises(Unreachable):
        async with storage.pour(F, Puddle().put_at) as counts:
            [count async for count in counts]
