"""Modal's whole seconds, and its clock that is not ours: what others write is not taken for ours."""

from __future__ import annotations

import time

import pytest
import trio

from mountsync.errors import Stale
from mountsync.paths import RelPath
from tests.modal_server import RpcFault
from tests.parts.bodies import body, get, put
from tests.parts.modal import modal_storage, plant, plant_now, stored

F = RelPath("f")
BLOCK = 8 << 20
SIZES = [10, BLOCK + 5]
LATE = 1.3
"""Seconds that the look at what was put has to wait."""


def write_theirs_at_the_look(server, data, *, looks=0, path="f"):
    """Somebody writes two seconds after us and before we look, which has to wait."""

    def write():
        plant_now(server, path, data, mtime=int(server.clock()) + 2)

    waits = RpcFault("VolumeListFiles2", "RESOURCE_EXHAUSTED", retry_after=LATE, skip=looks, action=write)
    server.faults.rpc.append(waits)


# ---- what is seen after a put -----------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("knows_clock", [False, True])
async def test_who_writes_just_after_us_is_not_overwritten(server, storage, size, knows_clock):
    theirs = body(size, 2)
    if knows_clock:
        await put(storage, "other", b"x")
    write_theirs_at_the_look(server, theirs)
    with pytest.raises(Stale):
        entry = await put(storage, "f", body(size))
        await put(storage, "f", body(size, 1), expect=entry.token)
    assert stored(server) == theirs
    entry = await storage.stat(F)
    assert await get(storage, "f", expect=entry.token) == theirs


@pytest.mark.parametrize("size", SIZES)
async def test_a_put_that_is_seen_late_is_known_for_ours(server, storage, size):
    waits = RpcFault("VolumeListFiles2", "RESOURCE_EXHAUSTED", retry_after=LATE)
    server.faults.rpc.append(waits)
    entry = await put(storage, "f", body(size), mtime_ns=10**18)
    assert await storage.stat(F) == entry
    entry = await put(storage, "f", body(size, 1), expect=entry.token)
    assert stored(server) == body(size, 1)


async def test_where_all_looks_are_slow_few_files_are_read(server, storage):
    """The first of them tells how Modal's clock goes; the others need not be read then."""
    server.faults.delay_of = {"VolumeListFiles2": LATE}
    async with trio.open_nursery() as nursery:
        for n in range(40):
            nursery.start_soon(put, storage, f"f{n}", b"%d" % n)
    assert server.counts.gets <= 2
    assert server.counts.rpc["VolumeGetFile2"] <= 2


async def test_a_clock_that_is_set_forward_costs_one_look_more(server, storage):
    await put(storage, "f", b"one")
    server.clock = lambda: time.time() + 1000
    for data in (b"two", b"six"):
        entry = await put(storage, "f", data)
        assert await get(storage, "f", expect=entry.token) == data


async def test_a_put_asks_no_more_than_it_must(server, tmp_path):
    puts = [("f", b"two", 3), ("f", b"three", 3), ("g", body(BLOCK + 5), 1)]
    async with modal_storage(server, tmp_path / "s", sidecar_metadata=False) as storage:
        tokens = {"f": (await put(storage, "f", b"one")).token}
        for path, data, looks in puts:
            server.counts.rpc.clear()
            tokens[path] = (await put(storage, path, data, expect=tokens.get(path))).token
            assert server.counts.rpc == {"VolumeListFiles2": looks, "VolumePutFiles2": 2}
    assert server.counts.gets == 0


@pytest.mark.parametrize("call", ["copy", "move"])
async def test_who_writes_just_after_a_copy_is_not_taken_for_it(server, tmp_path, call):
    async with modal_storage(server, tmp_path / "s", sidecar_metadata=False) as storage:
        await put(storage, "f", b"mine")
        write_theirs_at_the_look(server, b"them", path="g", looks=2)
        with pytest.raises(Stale):
            entry = await getattr(storage, call)(F, RelPath("g"))
            await put(storage, "g", b"next", expect=entry.token)
    assert stored(server, "g") == b"them"
    assert stored(server) == b"mine"


# ---- clocks that are apart --------------------------------------------------------------------------


@pytest.mark.parametrize("apart", [-5.0, 0.0, 5.0])
@pytest.mark.parametrize("sidecar", [True, False])
async def test_a_foreign_rewrite_within_its_second_is_seen(server, tmp_path, apart, sidecar):
    """However Modal's clock goes: the token changes when that second is over, so that it is compared."""
    server.clock = lambda: 1_700_000_000.2 + apart
    now = [1_700_000_000.2]
    async with modal_storage(server, tmp_path / "s", now=lambda: now[0], sidecar_metadata=sidecar) as storage:
        plant(server, "f", b"one")
        first = (await storage.stat(F)).token
        plant(server, "f", b"two")
        now[0] += 3
        assert (await storage.stat(F)).token != first
        now[0] += 20
        last = (await storage.stat(F)).token
        assert (await storage.stat(F)).token == last
        assert await get(storage, "f", expect=first) == b"two"


@pytest.mark.parametrize("apart", [-1000.0, 1000.0])
async def test_a_write_of_ours_tells_how_the_clock_goes(server, tmp_path, apart):
    """From then on clocks may be any time apart, and what is old is not looked at again."""
    server.clock = lambda: time.time() + apart
    plant(server, "old", b"one", mtime=int(server.clock()) - 3)
    async with modal_storage(server, tmp_path / "s") as storage:
        await put(storage, "ours", b"x")
        old = (await storage.stat(RelPath("old"))).token
        plant(server, "f", b"one")
        first = (await storage.stat(F)).token
        await trio.sleep(2.1)
        assert (await storage.stat(F)).token != first
        assert (await storage.stat(RelPath("old"))).token == old


@pytest.mark.parametrize("apart", [-5.0, 0.0, 5.0])
async def test_who_starts_anew_within_a_second_gives_another_token(server, tmp_path, apart):
    server.clock = lambda: 1_700_000_000.5 + apart
    tokens = []
    for data in (b"one", b"two"):
        async with modal_storage(server, tmp_path / "s", now=lambda: 1_700_000_000.5) as storage:
            tokens.append((await put(storage, "f", data)).token)
    assert tokens[0] != tokens[1]
