"""Cold files, bodies, eviction, barriers and what a power failure leaves."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest
import trio
import trio.testing

from mountsync.errors import NameRefused, NameTooLong, NoAttribute, PermissionDenied, ReadOnly, Stale
from mountsync.model.entry import Entry, Kind, Token
from mountsync.state.base import BaseRow
from mountsync.state.tree import ROOT_ID, Node, Place
from mountsync.storage.api import NameRules
from mountsync.vfs import fsck
from mountsync.vfs.absent import ChildrenAbsent, ContentAbsent

sys.path.insert(0, str(Path(__file__).parent.parent / "model"))
from volume_kit import Kit


@pytest.fixture
def kit(tmp_path: Path):
    made = Kit(tmp_path)
    yield made
    made.close()
    made._open("boot-1")
    assert fsck.check(made.database, made.store) == []
    made.close()


def cold(kit: Kit, size: int, name: bytes = b"cold") -> Node:
    """A file that only the remote has, as the engine makes it."""
    volume = kit.volume
    now = kit.clock()
    node = Node(volume.tree.new_id(), 0o100644, 0, 0, 0, 1, size, now, now, now, 0, Place.NOWHERE, None, 0)
    remote = Entry(Kind.FILE, size=size, token=Token("t"))
    with kit.database.transaction:
        volume.tree.insert(node)
        volume.tree.link(ROOT_ID, name, node.id)
        volume.base.put(BaseRow(ROOT_ID, name, node.id, 0, remote, now, 0o644))
    return node


def written(kit: Kit, name: bytes, data: bytes) -> Node:
    handle, node = kit.volume.create(ROOT_ID, name, 0o644, os.O_RDWR, 0, 0)
    kit.volume.write(handle, 0, data)
    kit.volume.flush(handle)
    kit.volume.release(handle)
    return node


def content(kit: Kit, node: Node) -> bytes:
    handle = kit.volume.open(node.id, os.O_RDONLY)
    try:
        return kit.volume.read(handle, 0, node.size + 10)
    finally:
        kit.volume.release(handle)


async def test_small_cold_file_becomes_a_blob(kit: Kit) -> None:
    node = cold(kit, 1000)
    with pytest.raises(ContentAbsent) as caught:
        content(kit, node)
    assert (caught.value.node, caught.value.start, caught.value.stop) == (node.id, 0, 1000)
    assert kit.volume.missing(node.id, 0, 5000) == [(0, 1000)]
    assert await kit.volume.fill(node.id, 0, b"x" * 1000)
    assert node.place == Place.BLOB
    assert content(kit, node) == b"x" * 1000
    assert not kit.volume.journal.has(node.id)


async def test_ranges_of_a_large_cold_file(kit: Kit) -> None:
    data = os.urandom(1_000_000)
    node = cold(kit, len(data))
    assert await kit.volume.fill(node.id, 200_000, data[200_000:400_000])
    handle = kit.volume.open(node.id, os.O_RDONLY)
    assert kit.volume.read(handle, 250_000, 1000) == data[250_000:251_000]
    with pytest.raises(ContentAbsent):
        kit.volume.read(handle, 199_999, 2)
    with pytest.raises(ContentAbsent) as caught:
        kit.volume.write(handle, 0, b"x")
    assert (caught.value.start, caught.value.stop) == (0, len(data))
    assert kit.volume.missing(node.id, 100_000, 500_000) == [(100_000, 200_000), (400_000, 500_000)]
    assert await kit.volume.fill(node.id, 400_000, data[400_000:])
    assert await kit.volume.fill(node.id, 0, data[:250_000])
    assert node.place == Place.FILE
    kit.volume.release(handle)
    assert content(kit, node) == data
    assert kit.database.value("SELECT count(*) FROM present") == 0


async def test_filling_a_file_that_was_emptied_meanwhile_is_dropped(kit: Kit) -> None:
    node = cold(kit, 500_000)
    generation = node.generation
    assert await kit.volume.fill(node.id, 0, b"a" * 100_000)
    handle = kit.volume.open(node.id, os.O_RDWR | os.O_TRUNC)
    kit.volume.write(handle, 0, b"mine")
    kit.volume.release(handle)
    assert not await kit.volume.fill(node.id, 100_000, b"b" * 400_000, generation=generation)
    assert content(kit, node) == b"mine"
    assert not await kit.volume.fill(9999, 0, b"x")


async def test_partial_content_survives_a_restart_and_a_power_failure(kit: Kit) -> None:
    node = cold(kit, 500_000)
    await kit.volume.fill(node.id, 0, b"a" * 100_000)
    await kit.volume.barrier()
    await kit.volume.fill(node.id, 300_000, b"b" * 100_000)
    kit.crash()
    assert kit.volume.missing(node.id, 0, 500_000) == [(100_000, 300_000), (400_000, 500_000)]
    kit.crash("boot-2")
    assert kit.volume.missing(node.id, 0, 500_000) == [(100_000, 500_000)]


async def test_completed_fetch_is_not_believed_after_a_power_failure(kit: Kit) -> None:
    node = cold(kit, 100_000)
    await kit.volume.fill(node.id, 0, b"a" * 100_000)
    kit.crash("boot-2")
    assert kit.volume.missing(node.id, 0, 100_000) == [(0, 100_000)]
    await kit.volume.fill(node.id, 0, b"a" * 100_000)
    await kit.volume.barrier()
    kit.crash("boot-3")
    assert kit.volume.missing(node.id, 0, 100_000) == []


async def test_power_failure_gives_back_the_last_safe_small_content(kit: Kit) -> None:
    """It outgrew memory after its last fsync, and the bytes of the content file did not reach the disk."""
    handle, node = kit.volume.create(ROOT_ID, b"f", 0o644, os.O_RDWR, 0, 0)
    kit.volume.write(handle, 0, b"safe")
    await kit.volume.fsync(handle)
    kit.volume.write(handle, 4, b"x" * 100_000)
    kit.volume.flush(handle)
    os.truncate(kit.store.disk._path(f"{node.id & 255:02x}/{node.id:x}"), 0)
    kit.crash("boot-2")
    again = kit.volume.lookup(ROOT_ID, b"f")
    assert content(kit, again) == b"safe"
    assert kit.recovered.suspects == [b"f"]
    assert kit.volume.journal.find(again.id).ready == 1


async def test_fsync_forgets_the_older_content(kit: Kit) -> None:
    handle, _ = kit.volume.create(ROOT_ID, b"f", 0o644, os.O_RDWR, 0, 0)
    kit.volume.write(handle, 0, b"small")
    kit.volume.flush(handle)
    kit.volume.write(handle, 0, b"y" * 100_000)
    await kit.volume.fsync(handle)
    kit.crash("boot-2")
    assert content(kit, kit.volume.lookup(ROOT_ID, b"f")) == b"y" * 100_000
    assert kit.recovered.suspects == []


async def test_lost_content_file_of_a_changed_file_is_a_problem(kit: Kit) -> None:
    node = written(kit, b"f", b"z" * 100_000)
    kit.volume.close()
    kit.store.remove(node.id)
    kit.crash()
    assert list(kit.recovered.problems) == [b"f"]
    assert kit.volume.lookup(ROOT_ID, b"f") is None
    assert kit.volume.lookup(ROOT_ID, b"lost+found") is not None


def test_touched_but_never_saved_is_settled(kit: Kit) -> None:
    node = written(kit, b"f", b"z" * 100_000)
    handle = kit.volume.open(node.id, os.O_RDWR)
    before = kit.volume.journal.find(node.id)
    kit.volume.write(handle, 99_990, b"w" * 100)
    assert kit.volume.journal.find(node.id).ready == 0
    kit.crash()
    again = kit.volume.tree.node(node.id)
    assert kit.recovered.settled == 1
    assert (again.size, again.generation) == (100_090, node.generation + 1)
    assert kit.volume.journal.find(node.id).ready == 1
    assert kit.volume.journal.find(node.id).version > before.version


async def test_body_knows_when_the_file_moved_on(kit: Kit) -> None:
    for size in (10, 200_000):
        node = written(kit, b"f%d" % size, b"1" * size)
        with kit.volume.body(node.id) as body:
            assert await body.read(0, size) == b"1" * size
            assert body.still()
            handle = kit.volume.open(node.id, os.O_RDWR)
            kit.volume.write(handle, 0, b"2")
            assert not body.still()
            kit.volume.flush(handle)
            assert not body.still()
            kit.volume.release(handle)
            if size > 100_000:
                with pytest.raises(Stale):
                    await body.read(0, 10)
            kit.volume.unlink(ROOT_ID, b"f%d" % size)
            assert kit.volume.tree.find(node.id) is not None
        assert kit.volume.tree.find(node.id) is None


async def test_snapshot_of_a_file_that_never_rests(kit: Kit) -> None:
    handle, node = kit.volume.create(ROOT_ID, b"f", 0o644, os.O_RDWR, 0, 0)
    kit.volume.write(handle, 0, b"1" * 200_000)
    copy = await kit.volume.snapshot_body(node.id)
    kit.volume.write(handle, 0, b"2" * 200_000)
    assert copy.still()
    assert await copy.read(0, 200_000) == b"1" * 200_000
    copy.close()
    kit.volume.release(handle)


async def test_eviction_spares_what_must_stay(kit: Kit) -> None:
    volume = kit.volume
    clean = cold(kit, 1000, b"clean")
    await volume.fill(clean.id, 0, b"c" * 1000)
    dirty = written(kit, b"dirty", b"d")
    assert not volume.forget_content(dirty.id)
    handle = volume.open(clean.id, os.O_RDONLY)
    assert not volume.forget_content(clean.id)
    volume.release(handle)
    with kit.database.transaction:
        kit.database.execute("INSERT INTO pin VALUES (?)", (ROOT_ID,))
    assert not volume.forget_content(clean.id)
    with kit.database.transaction:
        kit.database.execute("DELETE FROM pin")
    assert [candidate.node for candidate in volume.evictable()] == [clean.id]
    assert volume.cache_bytes() == 1001
    assert volume.forget_content(clean.id)
    assert volume.missing(clean.id, 0, 1000) == [(0, 1000)]
    assert volume.cache_bytes() == 1


def test_names_that_the_remote_refuses(tmp_path: Path) -> None:
    kit = Kit(
        tmp_path,
        names=NameRules(max_name_bytes=20, utf8_only=True, forbidden=frozenset(":"), max_path_bytes=30),
    )
    volume = kit.volume
    for name, error in ((b"a:b", NameRefused), (b"\xff", NameRefused), (b"x" * 21, NameTooLong)):
        with pytest.raises(error):
            volume.mkdir(ROOT_ID, name, 0o755, 0, 0)
        with pytest.raises(error):
            volume.create(ROOT_ID, name, 0o644, os.O_RDWR, 0, 0)
    volume.mkdir(ROOT_ID, b"a:b.local", 0o755, 0, 0)  # never travels, so the remote is not asked
    folder = volume.mkdir(ROOT_ID, b"d" * 20, 0o755, 0, 0)
    with pytest.raises(NameTooLong):
        volume.mkdir(folder.id, b"e" * 15, 0o755, 0, 0)
    with pytest.raises(PermissionDenied):
        volume.mkdir(ROOT_ID, b".mountsync", 0o755, 0, 0)
    node = written(kit, b"ok", b"")
    with pytest.raises(NameRefused):
        volume.rename(ROOT_ID, b"ok", ROOT_ID, b"n:k")
    with pytest.raises(NameRefused):
        volume.link(node.id, ROOT_ID, b"n:k")
    kit.close()


def test_what_was_never_listed_must_be_fetched(kit: Kit) -> None:
    volume = kit.volume
    folder = volume.mkdir(ROOT_ID, b"d", 0o755, 0, 0)
    folder.listed = 0
    with kit.database.transaction:
        volume.tree.save(folder)
    for call in (
        lambda: volume.lookup(folder.id, b"x"),
        lambda: volume.opendir(folder.id),
        lambda: volume.rmdir(ROOT_ID, b"d"),
        lambda: volume.create(folder.id, b"x", 0o644, os.O_RDWR, 0, 0),
    ):
        with pytest.raises(ChildrenAbsent) as caught:
            call()
        assert caught.value.node == folder.id
    with kit.database.transaction:
        folder.listed = 1
        volume.tree.save(folder)


def test_journal_hears_of_what_travels_only(kit: Kit) -> None:
    volume, journal = kit.volume, kit.volume.journal
    fifo = volume.mknod(ROOT_ID, b"p", 0o010644, 0, 0, 0)
    assert not journal.has(fifo.id)
    file = written(kit, b"f", b"x")
    assert journal.find(file.id).ready == 1
    volume.unlink(ROOT_ID, b"f")
    assert not journal.has(file.id)  # the remote never had it
    agreed = cold(kit, 10)
    volume.setattr(agreed.id, uid=5)
    assert not journal.has(agreed.id)
    volume.setattr(agreed.id, mtime_ns=5)
    assert journal.has(agreed.id)
    volume.unlink(ROOT_ID, b"cold")
    assert journal.has(agreed.id)
    assert volume.tree.find(agreed.id) is None


def test_facts_as_attributes(kit: Kit) -> None:
    class Facts:
        def inspect(self, node: Node, fact: str) -> bytes | None:
            return b"synced" if fact == "state" else None

    node = written(kit, b"f", b"x")
    with pytest.raises(NoAttribute):
        kit.volume.getxattr(node.id, b"user.mountsync.state")
    kit.volume.inspector = Facts()
    assert kit.volume.getxattr(node.id, b"user.mountsync.state") == b"synced"
    with pytest.raises(NoAttribute):
        kit.volume.getxattr(node.id, b"user.mountsync.token")
    assert kit.volume.listxattr(node.id) == []


def test_read_only(tmp_path: Path) -> None:
    kit = Kit(tmp_path)
    written(kit, b"f", b"x")
    object.__setattr__(kit.volume.rules, "read_only", True)
    for call in (
        lambda: kit.volume.mkdir(ROOT_ID, b"d", 0o755, 0, 0),
        lambda: kit.volume.unlink(ROOT_ID, b"f"),
        lambda: kit.volume.rename(ROOT_ID, b"f", ROOT_ID, b"g"),
        lambda: kit.volume.open(2, os.O_RDWR),
        lambda: kit.volume.setattr(2, mode=0),
        lambda: kit.volume.setxattr(2, b"user.a", b""),
    ):
        with pytest.raises(ReadOnly):
            call()
    kit.close()


async def until(kit: Kit, clock: trio.testing.MockClock, sql: str, wanted: object) -> None:
    """Waits for the threads that sync, whose time is real; the clock goes on by more than a barrier waits."""
    for _ in range(6000):
        await trio.testing.wait_all_tasks_blocked()
        clock.jump(6)
        await trio.to_thread.run_sync(time.sleep, 0.005)
        if kit.database.value(sql) == wanted:
            return
    pytest.fail(f"{sql} never gave {wanted!r}")


async def test_background_commits_and_syncs(kit: Kit, mock_clock: trio.testing.MockClock) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(kit.volume.keep)
        handle, _ = kit.volume.create(ROOT_ID, b"f", 0o644, os.O_RDWR, 0, 0)
        kit.volume.write(handle, 0, b"open for long")
        await until(kit, mock_clock, "SELECT data FROM blob", b"open for long")
        assert not kit.database.has_soft
        written(kit, b"g", b"x" * 100_000)
        assert kit.database.value("SELECT count(*) FROM unsynced") == 1
        await until(kit, mock_clock, "SELECT count(*) FROM unsynced", 0)
        kit.volume.release(handle)
        nursery.cancel_scope.cancel()
