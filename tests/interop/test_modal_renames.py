"""Renames on volumes, which know none: no byte travels, and one that is broken off ends in one file."""

from __future__ import annotations

import pytest
import trio

from mountsync.formats.modal_sidecar import FOLDER
from mountsync.paths import RelPath
from tests.modal_server import RpcFault
from tests.parts.bodies import items, put
from tests.parts.modal import all_stored, plant

T = 1_600_000_000_123_456_789


async def test_a_rename_moves_no_bytes(server, opened):
    async with opened() as storage:
        entry = await put(storage, "a", bytes([7]) * (20 << 20), mtime_ns=T)
        await storage.set_mode(RelPath("a"), 0o600)
        sent = server.counts.put_bytes
        moved = await storage.move(RelPath("a"), RelPath("new/place"), expect=entry.token)
        assert (moved.size, moved.mtime_ns, moved.mode) == (20 << 20, T, 0o600)
        assert (server.counts.put_bytes - sent, server.counts.get_bytes) == (0, 0)
        assert set(await items(storage)) == {"new", "new/place"}


@pytest.mark.parametrize("method", ["VolumeCopyFiles2", "VolumeRemoveFile2"])
@pytest.mark.parametrize("replaced", [None, b"12345", b"other"])
@pytest.mark.parametrize("after", [False, True])
async def test_a_rename_that_is_broken_off(server, opened, method, replaced, after):
    """The process dies between copy and removal, or before: in the end there is one file."""
    async with opened() as storage:
        await put(storage, "d/a", b"12345", mtime_ns=T)
        if replaced is not None:
            await put(storage, "b", replaced)
        server.faults.rpc.append(
            RpcFault(method, "PERMISSION_DENIED" if not after else "UNAVAILABLE", 99, after=after)
        )
        try:
            await storage.move(RelPath("d/a"), RelPath("b"), replace=None)
        except Exception as error:
            assert not isinstance(error, ExceptionGroup)
        server.faults.rpc.clear()
    async with opened() as storage:
        await storage.recover_attempts()
        files = {path: data for path, data in all_stored(server).items() if not path.startswith(FOLDER)}
        if method == "VolumeCopyFiles2" and not after:
            untouched = {"d/a": b"12345"} | ({"b": replaced} if replaced is not None else {})
            assert files in (untouched, {"b": b"12345"})
        else:
            assert files == {"b": b"12345"}
            assert (await storage.stat(RelPath("b"))).mtime_ns == T
        await storage.recover_attempts()


async def test_a_broken_off_rename_spares_what_others_wrote(server, opened):
    for changed in ("source", "target"):
        async with opened(changed) as storage:
            await put(storage, "source", b"12345")
            server.faults.rpc.append(RpcFault("VolumeRemoveFile2", "PERMISSION_DENIED", 99))
            with pytest.raises(Exception, match="forbids"):
                await storage.move(RelPath("source"), RelPath("target"))
            server.faults.rpc.clear()
        plant(server, changed, b"other", mtime=5)
        async with opened(changed) as storage:
            await storage.recover_attempts()
            files = {path: data for path, data in all_stored(server).items() if not path.startswith(FOLDER)}
            assert files == {"source": b"12345", "target": b"12345"} | {changed: b"other"}
            await storage.delete(RelPath("source"))
            await storage.delete(RelPath("target"))


async def break_off_a_rename(server, storage, data=b"12345"):
    await put(storage, "a", data)
    server.faults.rpc.append(RpcFault("VolumeRemoveFile2", "PERMISSION_DENIED", 99))
    with pytest.raises(Exception, match="forbids"):
        await storage.move(RelPath("a"), RelPath("b"))


async def test_a_rename_that_cannot_be_settled_waits_for_the_next_start(server, opened, caplog):
    async with opened() as storage:
        await break_off_a_rename(server, storage)
    async with opened() as storage:
        await storage.recover_attempts()
        assert "cannot be settled" in caplog.text
        assert set(await items(storage)) == {"a", "b"}
    server.faults.rpc.clear()
    async with opened() as storage:
        await storage.recover_attempts()
        assert set(await items(storage)) == {"b"}


async def test_a_large_rename_is_settled_without_reading(server, opened):
    async with opened() as storage:
        await break_off_a_rename(server, storage, bytes([7]) * (20 << 20))
        server.faults.rpc.clear()
    got = server.counts.get_bytes
    async with opened() as storage:
        await storage.recover_attempts()
        assert set(await items(storage)) == {"b"}
    assert server.counts.get_bytes - got < 100_000


async def test_a_large_copy_that_others_wrote_over_is_read(server, opened):
    async with opened() as storage:
        await break_off_a_rename(server, storage, bytes([7]) * (2 << 20))
        server.faults.rpc.clear()
    plant(server, "b", bytes([8]) * (2 << 20), mtime=5)
    async with opened() as storage:
        await storage.recover_attempts()
        assert set(await items(storage)) == {"a", "b"}


async def test_a_rename_goes_on_where_it_was_broken_off(server, opened):
    async with opened() as storage:
        await put(storage, "a", b"12345", mtime_ns=T)
        server.faults.rpc.append(RpcFault("VolumeRemoveFile2", "PERMISSION_DENIED", 1))
        with pytest.raises(Exception, match="forbids"):
            await storage.move(RelPath("a"), RelPath("b"))
        moved = await storage.move(RelPath("a"), RelPath("b"))
        assert moved.mtime_ns == T
        assert set(await items(storage)) == {"b"}


async def test_a_source_that_changes_during_its_rename_stays(server, opened):
    async with opened() as storage:
        await put(storage, "a", b"12345")

        def change():
            server.store.plant(server.store.named("main", "data"), "a", b"foreign")

        server.faults.rpc.append(RpcFault("VolumeListFiles2", "UNAVAILABLE", skip=5, action=change))
        with pytest.raises(Exception, match="changed while it was renamed"):
            await storage.move(RelPath("a"), RelPath("b"))
        files = {path: data for path, data in all_stored(server).items() if not path.startswith(FOLDER)}
        assert files == {"a": b"foreign"}


async def test_many_renames_at_once(server, opened):
    async with opened() as storage:
        for n in range(24):
            await put(storage, f"a{n}", b"%d" % n, mtime_ns=T + n)
        async with trio.open_nursery() as nursery:
            for n in range(24):
                nursery.start_soon(storage.move, RelPath(f"a{n}"), RelPath(f"d/b{n}"))
        found = await items(storage)
        assert {path: found[path].mtime_ns for path in found if path != "d"} == {
            f"d/b{n}": T + n for n in range(24)
        }
        assert await storage._journal.notes() == []
    async with opened() as storage:
        assert await storage._journal.notes() == []


async def test_directories_where_they_vanish(server, opened):
    server.faults.directories_vanish = True
    async with opened() as storage:
        await storage.make_directory(RelPath("a/b"))
        assert set(await items(storage)) == {"a", "a/b"}
        await put(storage, "a/b/f", b"x")
        await storage.move(RelPath("a/b/f"), RelPath("a/g"))
        await storage.delete(RelPath("a/g"))
        assert set(await items(storage)) == {"a", "a/b"}
        await storage.remove_directory(RelPath("a/b"))
        assert set(await items(storage)) == {"a"}
        await storage.remove_directory(RelPath("a"))
        assert await items(storage) == {}
