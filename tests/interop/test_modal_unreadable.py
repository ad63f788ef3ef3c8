"""Notes of times that cannot be read, or were changed by others in the same second, lose nothing."""

from __future__ import annotations

import pytest
import trio
from aiohttp import web

from mountsync.errors import MountsyncError, PermissionDenied, Unreachable
from mountsync.formats import modal_sidecar
from mountsync.formats.modal_sidecar import FOLDER, RCLONE_NAME, shard_of, shard_path
from mountsync.paths import RelPath
from mountsync.storage.modal import sidecar as sidecar_room
from tests.modal_server import RpcFault
from tests.modal_server.store import StoreError
from tests.parts.bodies import get, items, put
from tests.parts.modal import all_stored, plant, stored
from tests.parts.shell import Shell

T = 1_600_000_000_123_456_789
F = RelPath("d/f")
PLACE = shard_path(shard_of("d/f"))


def entries(server, place=PLACE):
    return modal_sidecar.decode(stored(server, place))


@pytest.fixture
def lose(server):
    """Has the blocks of a file answered with 500 from now on; returns what makes them come again."""
    lost, whole = set(), server.store.block

    def block(digest, start, length):
        if digest in lost:
            raise web.HTTPInternalServerError
        return whole(digest, start, length)

    server.store.block = block

    def act(path):
        blocks = server.volume("data").nodes[path].blocks
        lost.update(blocks)
        return lambda: lost.difference_update(blocks)

    return act


async def fill(opened):
    async with opened("filler") as storage:
        for path in ("d/f", "e/f"):
            await put(storage, path, path.encode(), mtime_ns=T)


# ---- bytes that do not come ---------------------------------------------------------------------------


async def test_a_shard_whose_bytes_do_not_come_costs_only_times(server, opened, lose, caplog):
    await fill(opened)
    before = stored(server, PLACE)
    lose(PLACE)
    async with opened("b") as storage:
        found = await items(storage)
        assert set(found) == {"d", "d/f", "e", "e/f"}
        assert found["d/f"].mtime_ns % 10**9 == 0
        assert found["e/f"].mtime_ns == T
        assert await storage.stat(F) == found["d/f"]
        assert await get(storage, "d/f") == b"d/f"
        asked = server.counts.gets
        for _ in range(5):
            await storage.stat(F)
        assert server.counts.gets == asked, "it is tried again later"
        await put(storage, "d/g", b"x", mtime_ns=T)
        await storage.set_mtime(F, T + 1)
        await storage.barrier()
        assert (await storage.stat(F)).mtime_ns == T + 1
    server.store.block = type(server.store).block.__get__(server.store)
    assert stored(server, PLACE) == before, "what is in it is not known, and must not be lost"
    assert len([r for r in caplog.records if "times and modes" in r.message]) == 1


async def test_a_shard_that_can_be_read_again_is_read_and_written(server, opened, lose, monkeypatch):
    await fill(opened)
    come_again = lose(PLACE)
    async with opened("b") as storage:
        await storage.stat(F)
        await put(storage, "d/g", b"x", mtime_ns=T)
        await storage.barrier()
        come_again()
        assert (await storage.stat(F)).mtime_ns % 10**9 == 0
        monkeypatch.setattr(storage._volumes.opened[0].sidecar, "_clock", lambda: trio.current_time() + 100)
        assert (await storage.stat(F)).mtime_ns == T
        await storage.barrier()
    assert set(entries(server)) == {"d/f", "d/g"}


async def test_a_block_server_that_is_down_is_not_asked_for_every_shard(server, opened):
    async with opened("a") as storage:
        for n in range(60):
            await put(storage, f"{n}/f", b"x", mtime_ns=T)
    shards = [path for path in all_stored(server) if path.startswith(FOLDER)]
    assert len(shards) > 40
    async with opened("b") as storage:
        gets = server.counts.gets
        server.faults.get_status = [500] * 10_000
        with trio.fail_after(60):
            found = await items(storage)
        assert len(found) == 120
        assert server.counts.gets - gets <= 32 * 5
        server.faults.get_status.clear()


async def test_what_rclone_noted_may_not_come_either(server, opened, lose):
    plant(server, RCLONE_NAME, b'{"f": {"size": 1, "modal_mtime": 1700000000, "mtime": 1600000000}}')
    plant(server, "f", b"x", mtime=1_700_000_000)
    come_again = lose(RCLONE_NAME)
    async with opened() as storage:
        assert (await storage.stat(RelPath("f"))).mtime_ns == 1_700_000_000 * 10**9
        come_again()
        sidecar = storage._volumes.opened[0].sidecar
        sidecar._clock = lambda: trio.current_time() + 100
        assert (await storage.stat(RelPath("f"))).mtime_ns == 1_600_000_000 * 10**9


async def test_where_modal_does_not_answer_that_is_told(server, opened):
    await fill(opened)
    async with opened("b") as storage:
        server.faults.rpc.append(RpcFault("VolumeGetFile2", "UNAVAILABLE", times=10_000))
        server.faults.rpc.append(RpcFault("VolumeListFiles2", "UNAVAILABLE", times=10_000, skip=2))
        with pytest.raises(Unreachable):
            await storage.stat(F)
        server.faults.rpc.clear()
        assert (await storage.stat(F)).mtime_ns == T


async def test_commands_go_on_without_a_shard(server, opened, lose, tmp_path):
    await fill(opened)
    lose(PLACE)
    (tmp_path / "home").mkdir()
    shell = Shell(tmp_path / "home")
    shell.environment.update(server.environment())
    for command in (("ls", ":modal:data"), ("cat", ":modal:data/d/f"), ("copy", ":modal:data", "./there")):
        done = await trio.to_thread.run_sync(shell.here, *command)
        assert done.code == 0, done
    assert (shell.home / "there/d/f").read_bytes() == b"d/f"


@pytest.mark.parametrize("asked", ["d/f", ""])
async def test_errors_name_what_was_asked_for(server, opened, asked):
    async with opened() as storage:
        server.faults.rpc.append(RpcFault("VolumeListFiles2", "RESOURCE_EXHAUSTED", times=99))
        with pytest.raises(MountsyncError) as caught:
            await (storage.stat(RelPath(asked)) if asked else items(storage))
        assert caught.value.path == (asked or "data")
        server.faults.rpc.clear()


async def test_a_flush_that_is_refused_names_the_volume(server, opened):
    async with opened() as storage:
        await put(storage, "d/f", b"x", mtime_ns=T)
        await storage.barrier()
        server.do(lambda: server.store.unset(server.store.named("main", "data"), "d/f"))
        refuse = server.service._refuse_put

        def put_refused(volume, file, *, create_only):
            if ".mountsync" in file.path:
                raise StoreError("PERMISSION_DENIED", "read-only folder")
            refuse(volume, file, create_only=create_only)

        server.service._refuse_put = put_refused
        with pytest.raises(PermissionDenied) as caught:
            await storage.prune_metadata()
        assert caught.value.path == "data"


# ---- a second that is not over --------------------------------------------------------------------------


async def test_a_change_within_the_second_of_ours_is_not_lost(server, opened, monkeypatch):
    """Of a shard that keeps its size and mtime: nothing tells that it is another one."""
    monkeypatch.setattr(sidecar_room, "_FRESH", 0.0)
    server.clock = lambda: 1_700_000_000.5
    async with opened("a") as a, opened("b") as b:
        await put(a, "d/f", b"x", mtime_ns=T)
        await a.barrier()
        before = server.volume("data").nodes[PLACE]
        await b.set_mtime(F, T + 1)
        await b.barrier()
        after = server.volume("data").nodes[PLACE]
        assert (before.size, before.mtime) == (after.size, after.mtime)
        await trio.sleep(1.2)
        assert (await a.stat(F)).mtime_ns == T + 1
        await put(a, "d/g", b"x", mtime_ns=T)
        await a.barrier()
    assert entries(server)["d/f"].mtime_ns == T + 1


async def test_a_flush_takes_in_a_change_within_the_second_of_ours(server, opened):
    server.clock = lambda: 1_700_000_000.5
    async with opened("a") as a, opened("b") as b:
        await put(a, "d/f", b"x", mtime_ns=T)
        await a.barrier()
        await b.set_mtime(F, T + 1)
        await b.barrier()
        await put(a, "d/g", b"x", mtime_ns=T)
        await a.barrier()
    assert entries(server)["d/f"].mtime_ns == T + 1
    assert entries(server)["d/g"].mtime_ns == T


async def test_a_shard_that_nobody_changes_is_read_once_more(server, opened, monkeypatch):
    monkeypatch.setattr(sidecar_room, "_FRESH", 0.0)
    async with opened("a") as storage:
        await put(storage, "d/f", b"x", mtime_ns=T)
        await storage.barrier()
        await trio.sleep(2.1)
        gets = server.counts.gets
        for _ in range(5):
            await storage.stat(F)
        assert server.counts.gets == gets + 1
