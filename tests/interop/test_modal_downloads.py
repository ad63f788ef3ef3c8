"""Large blocks on their way to a reader: given while they come, each byte once, in little memory."""

from __future__ import annotations

import pytest
import trio

from mountsync.errors import Corrupt
from mountsync.paths import RelPath
from mountsync.storage.modal.patience import Limits
from tests.parts.bodies import body, get, put
from tests.parts.modal import modal_storage

BLOCK = 8 << 20
F = RelPath("f")


@pytest.mark.parametrize("digest", [False, True])
async def test_a_connection_that_ends_within_a_body(server, storage, digest):
    data = body(3 * BLOCK + 5)
    await put(storage, "f", data)
    server.faults.send_digest = digest
    server.faults.get_dies_after = [5_000_000, 1_000, 7_000_000]
    assert await get(storage, "f") == data
    assert server.counts.gets == 7


@pytest.mark.parametrize("second", [{"send_digest": True}, {"get_truncate": 1}])
async def test_what_was_given_is_passed_over_whatever_kind_of_answer_comes_next(server, storage, second):
    data = body(BLOCK)
    await put(storage, "f", data)
    server.faults.get_dies_after = [5_000_000]
    got = bytearray()
    async with storage.read(F) as pieces:
        async for piece in pieces:
            if not got:
                for name, value in second.items():
                    setattr(server.faults, name, value)
            got += piece
    assert got == data


@pytest.mark.parametrize("digest", [False, True])
async def test_a_body_is_given_while_it_comes_unless_a_digest_is_to_be_looked_at(server, storage, digest):
    data = body(BLOCK)
    await put(storage, "f", data)
    server.faults.send_digest = digest
    server.faults.get_dies_after = [BLOCK // 2] * 99
    got = bytearray()
    with pytest.raises(Corrupt):
        async with storage.read(F) as pieces:
            async for piece in pieces:
                got += piece
    assert got == data[: len(got)]
    assert (len(got) > BLOCK // 4) is not digest


@pytest.mark.parametrize("size", [300_000, 4_500_000])
async def test_nothing_is_given_of_a_body_with_a_wrong_digest(server, storage, size):
    await put(storage, "f", body(size))
    server.faults.send_digest = True
    server.faults.get_corrupt = 99
    got = []
    with pytest.raises(Corrupt):
        async with storage.read(F) as pieces:
            async for piece in pieces:
                got.append(piece)
    assert not got


async def test_a_slow_reader_holds_little_and_loses_nothing(server, tmp_path):
    data = body(2 * BLOCK)
    async with modal_storage(server, tmp_path / "state", limits=Limits(idle=0.3)) as storage:
        await put(storage, "f", data)
        got = bytearray()
        async with storage.read(F) as pieces:
            async for piece in pieces:
                if len(got) in (0, BLOCK):
                    await trio.sleep(1)  # longer than anything may stand still that is to be waited for
                got += piece
    assert got == data


async def test_a_reader_who_paused_for_long_goes_on(server, tmp_path):
    """The server did not wait for him; what he has not had is asked for again, whenever that is."""
    data = body(BLOCK)
    async with modal_storage(server, tmp_path / "state", limits=Limits(call=2)) as storage:
        await put(storage, "f", data)
        server.faults.get_dies_after = [3 << 20, 7_500_000]
        got = bytearray()
        async with storage.read(F) as pieces:
            async for piece in pieces:
                if not got:
                    await trio.sleep(2.5)
                got += piece
    assert got == data


async def test_paused_readers_keep_nobody_waiting(server, tmp_path):
    limits = Limits(large_blocks_at_once=1, blocks_at_once=1)
    data = body(BLOCK)
    async with modal_storage(server, tmp_path / "state", limits=limits) as storage:
        await put(storage, "f", data)
        async with storage.read(F) as pieces:
            first = await anext(pieces)
            with trio.fail_after(60):
                await put(storage, "g", data[::-1])
                assert await get(storage, "g") == data[::-1]
            rest = [piece async for piece in pieces]
    assert b"".join([first, *rest]) == data


async def test_a_read_leaves_its_connection_for_the_next(server, storage):
    data = body(4 * BLOCK)
    await put(storage, "f", data)
    server.counts.connections.clear()
    for start in range(0, len(data), BLOCK // 2):
        assert await get(storage, "f", start, BLOCK // 2) == data[start : start + BLOCK // 2]
    assert len(server.counts.connections) == 1
