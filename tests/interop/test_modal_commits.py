"""Steps that change a volume and have to be tried again: each attempt looks first, so nobody's work goes."""

from __future__ import annotations

import pytest
import trio

from mountsync.errors import AlreadyExists, NotFound, Stale, Throttled
from mountsync.paths import RelPath
from mountsync.storage.modal.patience import Limits
from tests.modal_server import RpcFault
from tests.parts.bodies import body, get, items, put
from tests.parts.modal import modal_storage, plant, plant_now, stored

BLOCK = 8 << 20
F = RelPath("f")
G = RelPath("g")
SIZES = [10, 100_000, 2 * BLOCK]


def throttled(server, method, path, theirs=b"THEIRS!", **more):
    """The next call is asked to come back later, and meanwhile somebody else writes."""
    server.faults.rpc.append(
        RpcFault(
            method,
            "RESOURCE_EXHAUSTED",
            retry_after=0.3,
            action=lambda: plant_now(server, path, theirs),
            **more,
        )
    )


def lost(server, method, **more):
    """The next call takes effect, and its answer is lost."""
    server.faults.rpc.append(RpcFault(method, "UNAVAILABLE", after=True, **more))


# ---- puts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("skip", [0, 1])
async def test_an_overwrite_that_must_wait_looks_again(server, storage, size, skip):
    entry = await put(storage, "f", b"ours-1")
    throttled(server, "VolumePutFiles2", "f", skip=skip)
    with pytest.raises(Stale):
        await put(storage, "f", body(size), expect=entry.token)
    assert stored(server) == b"THEIRS!"


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("skip", [0, 1])
async def test_an_overwrite_that_must_wait_goes_on(server, storage, size, skip):
    entry = await put(storage, "f", b"ours-1")
    server.faults.rpc.append(
        RpcFault("VolumePutFiles2", "RESOURCE_EXHAUSTED", times=6, skip=skip, retry_after=0.1)
    )
    entry = await put(storage, "f", body(size), expect=entry.token)
    assert stored(server) == body(size)
    assert await storage.stat(F) == entry


@pytest.mark.parametrize("size", SIZES)
async def test_an_overwrite_whose_answer_was_lost_is_known_again(server, storage, size):
    entry = await put(storage, "f", b"ours-1")
    lost(server, "VolumePutFiles2", skip=1)
    put_before = server.counts.rpc["VolumePutFiles2"]
    entry = await put(storage, "f", body(size), expect=entry.token)
    assert stored(server) == body(size)
    assert await storage.stat(F) == entry
    assert server.counts.rpc["VolumePutFiles2"] == put_before + 2, "it is not put again"


@pytest.mark.parametrize("size", SIZES)
async def test_an_overwrite_whose_answer_was_lost_spares_who_came_after(server, storage, size):
    entry = await put(storage, "f", b"ours-1")
    theirs = bytes(reversed(body(size)))
    lost(server, "VolumePutFiles2", skip=1)
    throttled(server, "VolumeListFiles2", "f", theirs, skip=1)
    with pytest.raises(Stale):
        await put(storage, "f", body(size), expect=entry.token)
    assert stored(server) == theirs


@pytest.mark.parametrize("status", [{"retry_after": 0.3}, {}])
async def test_files_of_a_shared_call_are_looked_at_one_by_one(server, storage, status):
    tokens = {}
    for n in range(40):
        tokens[n] = (await put(storage, f"d/f{n}", b"old")).token
    name = "RESOURCE_EXHAUSTED" if status else "UNAVAILABLE"
    for skip in (0, 2):
        theirs = f"d/f{7 + skip}"
        server.faults.rpc.append(
            RpcFault(
                "VolumePutFiles2",
                name,
                skip=skip,
                action=lambda theirs=theirs: plant_now(server, theirs, b"THEIRS!"),
                **status,
            )
        )
    outcomes = {}

    async def write(n):
        try:
            await put(storage, f"d/f{n}", b"new%d" % n, expect=tokens[n])
            outcomes[n] = "put"
        except Stale:
            outcomes[n] = "stale"

    async with trio.open_nursery() as nursery:
        for n in range(40):
            nursery.start_soon(write, n)
    for n, outcome in outcomes.items():
        assert stored(server, f"d/f{n}") == (b"new%d" % n if outcome == "put" else b"THEIRS!")
    assert [n for n in outcomes if outcomes[n] == "stale"] in ([7], [9], [7, 9], [9, 7])


async def test_one_refusal_spoils_no_other_overwrite_of_its_call(server, storage):
    plant(server, "d/f3/in the way", b"x")
    outcomes = {}

    async def write(n):
        try:
            await put(storage, f"d/f{n}", b"new%d" % n)
            outcomes[n] = "put"
        except Exception as error:
            outcomes[n] = type(error).__name__

    async with trio.open_nursery() as nursery:
        for n in range(40):
            nursery.start_soon(write, n)
    assert outcomes == {n: "IsADirectory" if n == 3 else "put" for n in range(40)}


async def test_waiting_for_a_commit_ends(server, storage):
    entry = await put(storage, "f", b"ours-1")
    server.faults.rpc.append(RpcFault("VolumePutFiles2", "RESOURCE_EXHAUSTED", times=999, retry_after=0.5))
    with trio.fail_after(30), pytest.raises(Throttled) as caught:
        await put(storage, "f", b"ours-2", expect=entry.token)
    assert caught.value.retry_after == 0.5
    assert caught.value.path == "f"
    assert stored(server) == b"ours-1"


# ---- removals ---------------------------------------------------------------------------------------


async def test_a_delete_that_must_wait_looks_again(server, storage):
    entry = await put(storage, "f", b"ours-1")
    throttled(server, "VolumeRemoveFile2", "f")
    with pytest.raises(Stale):
        await storage.delete(F, expect=entry.token)
    assert stored(server) == b"THEIRS!"


@pytest.mark.parametrize("expecting", [True, False])
async def test_a_delete_whose_answer_was_lost_spares_who_came_after(server, storage, expecting):
    entry = await put(storage, "f", b"ours-1")
    lost(server, "VolumeRemoveFile2")
    throttled(server, "VolumeListFiles2", "f", skip=1)
    with pytest.raises(Stale):
        await storage.delete(F, expect=entry.token if expecting else None)
    assert stored(server) == b"THEIRS!"


async def test_a_delete_that_must_wait_goes_on(server, storage):
    entry = await put(storage, "d/f", b"ours-1")
    server.faults.rpc.append(RpcFault("VolumeRemoveFile2", "RESOURCE_EXHAUSTED", times=6, retry_after=0.1))
    await storage.delete(RelPath("d/f"), expect=entry.token)
    assert stored(server, "d/f") is None
    with pytest.raises(NotFound):
        await storage.delete(RelPath("d/f"))


async def test_a_file_that_went_while_its_delete_had_to_wait(server, storage):
    await put(storage, "f", b"ours-1")
    volume = server.volume("data")
    server.faults.rpc.append(
        RpcFault(
            "VolumeRemoveFile2",
            "RESOURCE_EXHAUSTED",
            retry_after=0.1,
            action=lambda: server.store.unset(volume, "f"),
        )
    )
    with pytest.raises(NotFound):
        await storage.delete(F)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("vanish", [False, True])
async def test_directories_while_answers_are_lost(server, storage, after, vanish):
    server.faults.directories_vanish = vanish
    for method in ("VolumePutFiles2", "VolumeRemoveFile2", "VolumeRemoveFile2"):
        server.faults.rpc.append(RpcFault(method, "UNAVAILABLE", after=after))
    await storage.make_directory(RelPath("d"))
    assert set(await items(storage)) == {"d"}
    for _ in range(2):
        server.faults.rpc.append(RpcFault("VolumeRemoveFile2", "UNAVAILABLE", after=after))
    await storage.remove_directory(RelPath("d"))
    assert not await items(storage)


# ---- copies and renames -----------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["move", "copy"])
async def test_a_new_name_that_must_wait_overwrites_nobody(server, storage, call):
    entry = await put(storage, "f", b"ours-1")
    throttled(server, "VolumeCopyFiles2", "g")
    with pytest.raises(AlreadyExists):
        await getattr(storage, call)(F, G, expect=entry.token)
    assert (stored(server), stored(server, "g")) == (b"ours-1", b"THEIRS!")


@pytest.mark.parametrize("call", ["move", "copy"])
async def test_a_taken_name_that_must_wait_overwrites_nobody(server, storage, call):
    entry = await put(storage, "f", b"ours-1")
    target = await put(storage, "g", b"ours-2")
    throttled(server, "VolumeCopyFiles2", "g")
    with pytest.raises(Stale):
        await getattr(storage, call)(F, G, expect=entry.token, replace=target.token)
    assert (stored(server), stored(server, "g")) == (b"ours-1", b"THEIRS!")


@pytest.mark.parametrize("call", ["move", "copy"])
async def test_a_copy_that_must_wait_copies_nothing_else(server, storage, call):
    entry = await put(storage, "f", b"ours-1")
    throttled(server, "VolumeCopyFiles2", "f")
    with pytest.raises(Stale):
        await getattr(storage, call)(F, G, expect=entry.token)
    assert (stored(server), stored(server, "g")) == (b"THEIRS!", None)


@pytest.mark.parametrize("call", ["move", "copy"])
@pytest.mark.parametrize("theirs", [b"THEIRS", b"THEIRS!"])
async def test_a_copy_whose_answer_was_lost_spares_who_came_after(server, storage, call, theirs):
    await put(storage, "f", b"ours-1")
    lost(server, "VolumeCopyFiles2")
    throttled(server, "VolumeListFiles2", "g", theirs, skip=2)
    with pytest.raises((AlreadyExists, Stale)):
        await getattr(storage, call)(F, G)
    assert (stored(server), stored(server, "g")) == (b"ours-1", theirs)


@pytest.mark.parametrize("call", ["move", "copy"])
async def test_a_copy_that_must_wait_goes_on(server, storage, call):
    await put(storage, "f", b"ours-1")
    for status in ("RESOURCE_EXHAUSTED", "UNAVAILABLE"):
        server.faults.rpc.append(
            RpcFault(
                "VolumeCopyFiles2",
                status,
                times=2,
                retry_after=0.1 if status == "RESOURCE_EXHAUSTED" else None,
            )
        )
    await getattr(storage, call)(F, G)
    assert await get(storage, "g") == b"ours-1"


async def test_a_rename_removes_no_source_that_changed_while_it_had_to_wait(server, storage):
    entry = await put(storage, "f", b"ours-1")
    throttled(server, "VolumeRemoveFile2", "f")
    with pytest.raises(Stale):
        await storage.move(F, G, expect=entry.token)
    assert (stored(server), stored(server, "g")) == (b"THEIRS!", None)


async def test_a_rename_whose_last_answer_was_lost(server, storage):
    await put(storage, "f", b"ours-1")
    lost(server, "VolumeRemoveFile2")
    moved = await storage.move(F, G)
    assert await storage.stat(G) == moved
    assert set(await items(storage)) == {"g"}
    assert not await storage._journal.notes()


async def test_an_interrupted_rename_is_not_settled_against_somebody_else(server, tmp_path):
    limits = Limits(connect=1.0, call=3.0, idle=2.0, first_delay=0.01)
    async with modal_storage(server, tmp_path / "state", limits=limits) as storage:
        await put(storage, "f", b"ours-1")
        server.faults.rpc.append(RpcFault("VolumeRemoveFile2", "PERMISSION_DENIED"))
        with pytest.raises(Exception, match="forbids"):
            await storage.move(F, G)
        throttled(server, "VolumeRemoveFile2", "f")
        await storage.recover_attempts()
        assert (stored(server), stored(server, "g")) == (b"THEIRS!", b"ours-1")
