"""Times and modes on volumes that keep neither: kept, shared, merged, distrusted, pruned."""

from __future__ import annotations

import json

import pytest
import trio

from mountsync.errors import NameRefused, NotFound, Unsupported
from mountsync.formats import modal_sidecar
from mountsync.formats.modal_sidecar import FOLDER, RCLONE_NAME, shard_of, shard_path
from mountsync.paths import ROOT, RelPath
from mountsync.storage import api
from mountsync.storage.modal import sidecar as sidecar_room
from tests.modal_server import RpcFault
from tests.modal_server.store import StoreError
from tests.parts.bodies import get, items, put
from tests.parts.modal import all_stored, plant

T = 1_600_000_000_123_456_789
F = RelPath("d/f")


def shards(server):
    found = {path: data for path, data in all_stored(server).items() if path.startswith(FOLDER)}
    return {path: modal_sidecar.decode(data) for path, data in found.items()}


async def test_times_and_modes_survive_a_restart(server, opened):
    async with opened() as storage:
        assert isinstance(storage, api.SupportsSetMtime | api.SupportsAttributes)
        await put(storage, "d/f", b"x", mtime_ns=T)
        await put(storage, "d/g", b"x", mtime_ns=T)
        await storage.set_mode(F, 0o640)
        await storage.set_mode(RelPath("d"), 0o700)
        await storage.set_mtime(RelPath("d/g"), T + 1)
        before = await items(storage)
    async with opened("b") as storage:
        assert await items(storage) == before
        assert (before["d/f"].mtime_ns, before["d/f"].mode) == (T, 0o640)
        assert (before["d/g"].mtime_ns, before["d"].mode) == (T + 1, 0o700)
        assert set(before) == {"d", "d/f", "d/g"}


async def test_it_is_hidden_unless_it_is_off(server, opened):
    plant(server, RCLONE_NAME, b"{}")
    async with opened() as storage:
        await put(storage, "f", b"x", mtime_ns=T)
        await storage.barrier()
        assert set(await items(storage)) == {"f"}
        assert await storage.stat(RelPath(RCLONE_NAME)) is None
        assert await storage.stat(RelPath(shard_path(shard_of("f")))) is None
        await put(storage, ".mountsync/backups/f", b"old")
        assert set(await items(storage)) == {"f", ".mountsync", ".mountsync/backups", ".mountsync/backups/f"}
        async with storage.list(ROOT, recursive=False) as batches:
            assert {path for batch in [b async for b in batches] for path, _ in batch} == {"f", ".mountsync"}
    async with opened(sidecar_metadata=False) as storage:
        assert {RCLONE_NAME, shard_path(shard_of("f"))} < set(await items(storage))
        assert not isinstance(storage, api.SupportsSetMtime)
        assert storage.info.mtime_precision_ns is None
        assert (await storage.stat(RelPath("f"))).mtime_ns != T
        before = shards(server)
        await put(storage, "d/g", b"x", mtime_ns=T)
    assert shards(server) == before


HIDDEN = [RCLONE_NAME, FOLDER, shard_path("aa"), f"{FOLDER}/d/f", ".mountsync-keep", "d/.mountsync-keep"]


@pytest.mark.parametrize("hidden", [*map(RelPath, HIDDEN), RelPath("d/\udcff"), RelPath("\udcff/f")])
async def test_what_can_never_be_seen_is_not_there_and_cannot_be_made(server, opened, hidden):
    async with opened() as storage:
        await put(storage, "f", b"x", mtime_ns=T)
        before = all_stored(server)
        with trio.fail_after(60):
            assert await storage.stat(hidden) is None
            with pytest.raises(NotFound):
                await get(storage, hidden)
            with pytest.raises(NotFound):
                async with storage.list(hidden, recursive=True) as batches:
                    assert [batch async for batch in batches] == []
            for change in (
                lambda: put(storage, hidden, b"x"),
                lambda: storage.delete(hidden),
                lambda: storage.move(RelPath("f"), hidden),
                lambda: storage.move(hidden, RelPath("g")),
                lambda: storage.copy(RelPath("f"), hidden),
                lambda: storage.make_directory(hidden),
                lambda: storage.remove_directory(hidden),
                lambda: storage.set_mtime(hidden, T),
                lambda: storage.set_mode(hidden, 0o600),
            ):
                with pytest.raises(NameRefused):
                    await change()
        assert storage.info.names.refusal(hidden) is not None
        assert all_stored(server) == before


async def test_what_is_hidden_depends_on_the_folder(server, opened):
    theirs = RelPath(RCLONE_NAME)
    async with opened(path="data/sub") as storage:
        assert await put(storage, RCLONE_NAME, b"x") == await storage.stat(theirs)
    async with opened("b", path="") as storage:
        assert storage.info.names.refusal(theirs) is None
        assert storage.info.names.refusal(RelPath(f"data/{RCLONE_NAME}")) is not None
        assert storage.info.names.depends_on_place(RCLONE_NAME)
    async with opened("c", sidecar_metadata=False) as storage:
        assert storage.info.names.refusal(theirs) is None
        await put(storage, RCLONE_NAME, b"xx")
        assert await get(storage, RCLONE_NAME) == b"xx"
        await storage.delete(theirs)


async def test_a_file_that_others_changed_shows_modals_time(server, opened):
    async with opened() as storage:
        for name in ("size", "time", "same"):
            await put(storage, name, b"x", mtime_ns=T)
        await storage.barrier()
        plant(server, "size", b"xx", mtime=(await storage.stat(RelPath("same"))).mtime_ns // 10**9)
        plant(server, "time", b"y", mtime=1_650_000_000)
        assert (await storage.stat(RelPath("time"))).mtime_ns == 1_650_000_000 * 10**9
        assert (await storage.stat(RelPath("size"))).mtime_ns % 10**9 == 0
        assert (await storage.stat(RelPath("same"))).mtime_ns == T


@pytest.mark.parametrize("damage", [b"", b"{", b'{"version":0,"entries":{}}', b"\xff" * 100])
async def test_a_damaged_shard_is_ignored_and_mended(server, opened, damage):
    async with opened() as storage:
        await put(storage, "d/f", b"x", mtime_ns=T)
    path = shard_path(shard_of("d/f"))
    plant(server, path, damage)
    async with opened("b") as storage:
        assert (await storage.stat(F)).mtime_ns != T
        assert set(await items(storage)) == {"d", "d/f"}
        await storage.set_mtime(F, T + 5)
    assert shards(server)[path]["d/f"].mtime_ns == T + 5


DEEP = b"[" * 100_000


async def test_a_hostile_shard_ends_nothing(server, opened, monkeypatch):
    """Neither a look at it, nor the flush that comes by itself, nor a prune."""
    monkeypatch.setattr(sidecar_room, "DEBOUNCE", 0.0)
    path = shard_path(shard_of("d/f"))
    plant(server, path, DEEP)
    plant(server, RCLONE_NAME, DEEP)
    async with opened() as storage:
        await put(storage, "d/f", b"x", mtime_ns=T)
        with trio.fail_after(60):
            while not (shards(server)[path] or {}).get("d/f"):
                await trio.sleep(0.02)
        plant(server, path, DEEP)
        assert await storage.prune_metadata() == 0


async def test_a_bug_in_the_flush_that_comes_by_itself_ends_nothing(opened, monkeypatch, caplog):
    monkeypatch.setattr(sidecar_room, "DEBOUNCE", 0.0)

    def broken(_entries):
        raise RuntimeError("a bug")

    async with opened() as storage:
        monkeypatch.setattr(sidecar_room, "encode", broken)
        await put(storage, "d/f", b"x", mtime_ns=T)
        with trio.fail_after(60):
            while "a bug" not in caplog.text:
                await trio.sleep(0.02)
        monkeypatch.undo()
        await storage.barrier()
        assert (await storage.stat(F)).mtime_ns == T


def refuse_ours(server):
    """The server lets nobody put or list anything in our folder."""
    refuse_put, entries = server.service._refuse_put, server.service._entries

    def put(volume, file, *, create_only):
        if ".mountsync" in file.path:
            raise StoreError("PERMISSION_DENIED", "read-only folder")
        refuse_put(volume, file, create_only=create_only)

    def listed(volume, path, *, recursive):
        if path.startswith(".mountsync"):
            raise StoreError("PERMISSION_DENIED", "private folder")
        return entries(volume, path, recursive=recursive)

    server.service._refuse_put, server.service._entries = put, listed


def block_ours(server):
    """A file has the name of our folder."""
    plant(server, ".mountsync", b"a file")


@pytest.mark.parametrize("prevent", [refuse_ours, block_ours])
async def test_a_sidecar_that_cannot_be_written_costs_only_times(server, opened, caplog, prevent):
    prevent(server)
    async with opened() as storage:
        for n in range(5):
            await put(storage, f"d{n}/f", b"x", mtime_ns=T)
            await storage.barrier()
        asked = sum(server.counts.rpc.values())
        for _ in range(20):
            await storage.barrier()
        assert sum(server.counts.rpc.values()) == asked
        assert (await storage.stat(RelPath("d1/f"))).mtime_ns == T, "while this process lives"
        if prevent is block_ours:
            assert await storage.prune_metadata() == 0
    assert len([r for r in caplog.records if "times and modes" in r.message]) == 1
    async with opened("b") as storage:
        found = await items(storage)
    assert {path for path in found if path.endswith("/f")} == {f"d{n}/f" for n in range(5)}
    assert found["d1/f"].mtime_ns % 10**9 == 0


async def test_a_shard_of_a_newer_version_is_left_as_it_is(server, opened, caplog):
    path = shard_path(shard_of("d/f"))
    newer = b'{"version":9,"entries":{"d/f":["another","form"]}}'
    plant(server, path, newer)
    async with opened() as storage:
        await put(storage, "d/f", b"x", mtime_ns=T)
        await put(storage, "e/f", b"x", mtime_ns=T)
        await storage.barrier()
        await storage.set_mtime(F, T + 5)
    assert all_stored(server)[path] == newer
    assert len([r for r in caplog.records if "newer version" in r.message]) == 1
    async with opened("b") as storage:
        assert (await storage.stat(F)).mtime_ns % 10**9 == 0
        assert (await storage.stat(RelPath("e/f"))).mtime_ns == T


@pytest.mark.parametrize("later", ["d/b1", "d/another"])
async def test_who_writes_a_shard_just_after_us_keeps_its_entries(opened, server, monkeypatch, later):
    """Between our put of it and our look at it, also where what comes is of the same size."""
    async with opened("a") as a, opened("b") as b:
        for storage, name in ((a, "d/a0"), (b, "d/b0")):
            await put(storage, name, b"x", mtime_ns=T)
            await storage.barrier()
        await put(a, "d/a1", b"x", mtime_ns=T)
        uploader = a._volumes.opened[0].sidecar._uploader
        whole_put = uploader.put

        async def put_and_lose(volume, path, *rest):
            result = await whole_put(volume, path, *rest)
            if path == shard_path(shard_of("d/f")):
                monkeypatch.undo()
                await put(b, later, b"x", mtime_ns=T)
                await b.barrier()
            return result

        monkeypatch.setattr(uploader, "put", put_and_lose)
        await a.barrier()
        await put(a, "d/a2", b"x", mtime_ns=T)
        await a.barrier()
    assert set(shards(server)[shard_path(shard_of("d/f"))]) == {"d/a0", "d/a1", "d/a2", "d/b0", later}


async def test_a_shard_that_cannot_be_read_is_not_written_over(server, opened):
    """Damage on the way is not damage of the shard: its entries must not be lost."""
    async with opened() as storage:
        await put(storage, "d/f", b"x", mtime_ns=T)
    async with opened("b") as storage:
        server.faults.get_truncate = 99
        assert (await storage.stat(F)).mtime_ns != T
        await put(storage, "d/g", b"x", mtime_ns=T)
        server.faults.get_truncate = 0
    assert set(shards(server)[shard_path(shard_of("d/f"))]) == {"d/f", "d/g"}


async def test_a_flush_rewrites_only_its_shards(server, opened):
    paths = [f"{n}/f" for n in range(20)]
    async with opened() as storage:
        for path in paths:
            await put(storage, path, b"x", mtime_ns=T)
        await storage.barrier()
        puts = server.counts.puts
        await storage.set_mtime(RelPath("3/f"), T + 1)
        await storage.barrier()
        assert server.counts.puts == puts + 1
        await storage.barrier()
        assert server.counts.puts == puts + 1
    assert len(shards(server)) > 10


async def test_two_writers_keep_each_others_entries(server, opened):
    async with opened("a") as a, opened("b") as b:
        for n in range(3):
            await put(a, f"d/a{n}", b"x", mtime_ns=T + n)
            await put(b, f"d/b{n}", b"x", mtime_ns=T + n)
            await a.barrier()
            await b.barrier()
        await a.delete(RelPath("d/a0"))
    async with opened("c") as c:
        found = {path: entry.mtime_ns for path, entry in (await items(c)).items() if path != "d"}
    wanted = {f"d/{side}{n}": T + n for n in range(3) for side in "ab"}
    del wanted["d/a0"]
    assert found == wanted


@pytest.mark.parametrize("skip", [0, 1])
async def test_a_shard_that_must_wait_takes_in_what_came_meanwhile(server, opened, skip):
    async with opened("a") as a:
        await put(a, "d/a", b"x", mtime_ns=T)
        await a.barrier()
        place = shard_path(shard_of("d/a"))
        volume, old = server.volume("data"), shards(server)[place]
        theirs = modal_sidecar.encode({"d/theirs": old["d/a"]} | old)

        def write_theirs():
            server.store.plant(volume, place, theirs)

        await put(a, "d/b", b"x", mtime_ns=T)
        waits = RpcFault(
            "VolumePutFiles2", "RESOURCE_EXHAUSTED", retry_after=0.2, action=write_theirs, skip=skip
        )
        server.faults.rpc.append(waits)
        await a.barrier()
    assert set(shards(server)[place]) == {"d/a", "d/b", "d/theirs"}


async def test_two_first_writers_of_one_shard(server, opened):
    async with opened("a") as a, opened("b") as b:
        await put(a, "d/a", b"x", mtime_ns=T)
        await put(b, "d/b", b"x", mtime_ns=T)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.barrier)
            nursery.start_soon(b.barrier)
    assert set(shards(server)[shard_path(shard_of("d/a"))]) == {"d/a", "d/b"}


async def test_changes_of_others_are_seen(server, opened, monkeypatch):
    monkeypatch.setattr(sidecar_room, "_FRESH", 0.0)
    async with opened("a") as a, opened("b") as b:
        await put(a, "d/f", b"x", mtime_ns=T)
        await a.barrier()
        assert (await b.stat(F)).mtime_ns == T
        await a.set_mtime(F, T + 10**12)
        await put(a, "d/other", b"x", mtime_ns=T)
        await a.barrier()
        assert (await b.stat(F)).mtime_ns == T + 10**12


async def test_it_is_flushed_by_itself(server, opened, monkeypatch):
    monkeypatch.setattr(sidecar_room, "DEBOUNCE", 0.05)
    monkeypatch.setattr(sidecar_room, "_RETRY", 0.05)
    monkeypatch.setattr(sidecar_room, "_REST", 0.05)
    async with opened() as storage:
        server.faults.rpc.append(RpcFault("VolumePutFiles2", "PERMISSION_DENIED", skip=2, times=2))
        await put(storage, "d/f", b"x", mtime_ns=T)
        with trio.fail_after(60):
            while not shards(server):
                await trio.sleep(0.02)
        await put(storage, "d/g", b"x", mtime_ns=T)
        with trio.fail_after(60):
            while len(shards(server)[shard_path(shard_of("d/f"))]) < 2:
                await trio.sleep(0.02)


async def test_many_writes_are_one_flush(server, opened, monkeypatch):
    monkeypatch.setattr(sidecar_room, "DEBOUNCE", 3600)  # so long these writes never take
    async with opened() as storage:
        for n in range(30):
            await put(storage, f"d/f{n}", b"%d" % n, mtime_ns=T)
        assert server.counts.puts == 30
    assert server.counts.puts == 31


async def test_rclones_sidecar_is_honoured_and_never_written(server, opened):
    plant(server, "d/f", b"12345", mtime=1_700_000_000)
    plant(server, "d/g", b"12345", mtime=1_700_000_777)
    entry = {"size": 5, "modal_mtime": 1_700_000_000, "mtime": T}
    raw = json.dumps({"files": {"d/f": entry, "d/g": entry}}).encode()
    plant(server, RCLONE_NAME, raw)
    async with opened() as storage:
        assert (await storage.stat(F)).mtime_ns == T
        assert (await storage.stat(RelPath("d/g"))).mtime_ns == 1_700_000_777 * 10**9
        await put(storage, "d/f", b"new", mtime_ns=T + 1)
        assert (await storage.stat(F)).mtime_ns == T + 1
    assert all_stored(server)[RCLONE_NAME] == raw


async def test_prune(server, opened):
    async with opened() as storage:
        for path in ("d/f", "d/g", "d/h", "e/f", "top"):
            await put(storage, path, b"x", mtime_ns=T)
        await storage.barrier()
        volume = server.volume("data")
        for path in ("d/f", "e/f", "top"):
            server.do(lambda path=path: server.store.unset(volume, path))
        plant(server, "d/g", b"changed")
        assert await storage.prune_metadata(RelPath("d")) == 2
        left = {path for entries in shards(server).values() for path in entries}
        assert left == {"d/h", "e/f", "top"}
        assert await storage.prune_metadata() == 2
        assert await storage.prune_metadata() == 0
        left = {path for entries in shards(server).values() for path in entries}
        assert left == {"d/h"}


async def test_prune_where_there_are_too_many_files(server, opened):
    """Directory by directory; of one that is not listed at all nothing is known, and nothing dropped."""
    async with opened() as storage:
        for path in ("d/f", "d/g", "large/f", "top"):
            await put(storage, path, b"x", mtime_ns=T)
        await storage.barrier()
        volume = server.volume("data")
        for path in ("d/f", "large/f"):
            server.do(lambda path=path: server.store.unset(volume, path))
        server.faults.unreadable.add("large")
        assert await storage.prune_metadata() == 1
        server.faults.unreadable.clear()
        assert await storage.prune_metadata(RelPath("d/g")) == 0
        assert await storage.prune_metadata() == 1


async def test_a_folder_of_a_volume_uses_the_volumes_sidecar(server, opened):
    async with opened(path="data/d/e") as storage:
        await put(storage, "f", b"x", mtime_ns=T)
    async with opened("b") as storage:
        assert (await storage.stat(RelPath("d/e/f"))).mtime_ns == T
    assert all(path.startswith(FOLDER) for path in all_stored(server) if path != "d/e/f")


# ---- volumes as directories -------------------------------------------------------------------------


async def test_all_volumes(server, opened):
    server.volume("other")
    server.volume("old", version=1)
    async with opened(path="") as storage:
        async with storage.list(ROOT, recursive=False) as batches:
            assert {path for batch in [b async for b in batches] for path, _ in batch} == {
                "data",
                "other",
                "old",
            }
        await put(storage, "other/d/f", b"x", mtime_ns=T)
        assert await get(storage, "other/d/f") == b"x"
        assert (await storage.stat(RelPath("other/d/f"))).mtime_ns == T
        async with storage.list(ROOT, recursive=True) as batches:
            listed = dict([item async for batch in batches for item in batch])
        assert {"data", "other", "other/d", "other/d/f", "old"} == set(listed)
        assert "version 2" in listed["old"].reason
        for path in ("typo", "typo/f", "old/f"):
            with pytest.raises(Unsupported):
                await put(storage, path, b"x")
        with pytest.raises(Unsupported):
            await storage.make_directory(RelPath("typo"))
        with pytest.raises(Unsupported):
            await storage.remove_directory(RelPath("other"))
        with pytest.raises(Unsupported):
            await storage.move(RelPath("other/d/f"), RelPath("data/f"))
    assert {volume.name for volume in server.store.volumes.values()} == {"data", "other", "old"}


async def test_volumes_are_made_where_that_is_allowed(server, opened):
    async with opened(path="", create_volumes=True) as storage:
        await storage.make_directory(RelPath("made"))
        await put(storage, "written/d/f", b"x")
        assert await storage.stat(RelPath("looked-at")) is None
        with pytest.raises(NotFound):
            await get(storage, "looked-at/f")
        with pytest.raises(NotFound):
            await storage.delete(RelPath("looked-at/f"))
    async with opened("b", path="fresh/folder", create_volumes=True) as storage:
        identity = storage.info.identity
        assert await items(storage) == {}
        assert server.do(lambda: server.store.named("main", "fresh")) is None
        await put(storage, "f", b"x")
    async with opened("b", path="fresh/folder", create_volumes=True) as storage:
        assert storage.info.identity == identity
        assert set(await items(storage)) == {"f"}
    names = {volume.name: volume.version for volume in server.store.volumes.values()}
    assert names == {"data": 2, "made": 2, "written": 2, "fresh": 2}


async def test_environments_are_apart(server, opened):
    server.volume("data", env="dev")
    async with opened(environment="dev") as storage:
        await put(storage, "f", b"dev")
    async with opened("b") as storage:
        assert await storage.stat(RelPath("f")) is None


async def test_more_volumes_than_a_page(server, opened):
    def make():
        for n in range(250):
            server.store.create("main", f"v{n}").created = 1000.0 + n

    server.do(make)
    async with opened(path="") as storage:
        async with storage.list(ROOT, recursive=False) as batches:
            assert len([path for batch in [b async for b in batches] for path, _ in batch]) == 251
