"""What Modal can do to us, one test per hazard: nothing lost, nothing hung, no wrong byte served."""

from __future__ import annotations

import time

import pytest
import trio

from mountsync.errors import (
    Corrupt,
    PathError,
    Stale,
    Throttled,
    Unreachable,
)
from mountsync.model.entry import Kind, Problem
from mountsync.paths import ROOT, RelPath
from mountsync.storage.api import ABSENT
from mountsync.storage.modal.patience import Limits
from mountsync.storage.sources import BytesSource, FileSource
from tests.modal_server import ModalServer, RpcFault
from tests.parts.bodies import body, get, items, put
from tests.parts.modal import modal_storage, plant, plant_now, stored

BLOCK = 8 << 20
F = RelPath("f")


def blocks(count, tail=b"", seed=0):
    """A body of so many different blocks, cheap to make."""
    return b"".join(bytes([1 + seed + n]) * BLOCK for n in range(count)) + tail


# ---- downloads --------------------------------------------------------------------------------------


@pytest.mark.parametrize("digest", [False, True])
@pytest.mark.parametrize("fault", ["get_truncate", "get_overlong"])
@pytest.mark.parametrize("size", [300_000, 4_500_000])
async def test_a_body_of_the_wrong_length_is_fetched_again(server, storage, fault, digest, size):
    data = body(size)
    await put(storage, "f", data)
    server.faults.send_digest = digest
    setattr(server.faults, fault, 2)
    assert await get(storage, "f") == data
    assert server.counts.gets == 3


@pytest.mark.parametrize("digest", [False, True])
async def test_a_body_that_stays_short_is_never_filled_with_zeros(server, storage, digest):
    await put(storage, "f", body(300_000))
    server.faults.send_digest = digest
    server.faults.get_truncate = 99
    with pytest.raises(Corrupt):
        await get(storage, "f")


async def test_true_zeros_come_as_zeros(server, storage):
    data = b"\1" + bytes(3 * BLOCK) + b"\1" + bytes(500)
    await put(storage, "f", data)
    assert server.counts.put_bytes == 3
    assert await get(storage, "f") == data
    assert await get(storage, "f", BLOCK - 5, 10) == bytes(10)


async def test_a_damaged_body_is_found_by_its_digest(server, storage):
    data = body(300_000)
    await put(storage, "f", data)
    server.faults.send_digest = True
    server.faults.get_corrupt = 1
    assert await get(storage, "f") == data
    server.faults.get_corrupt = 99
    with pytest.raises(Corrupt):
        await get(storage, "f")


@pytest.mark.parametrize("status", [403, 400, 404, 500, 503, 0])
async def test_refused_downloads_are_asked_for_again(server, storage, status):
    data = blocks(2, b"tail!")
    await put(storage, "f", data)
    server.faults.get_status = [status, 403, status]
    assert await get(storage, "f") == data


async def test_downloads_that_stay_refused(server, storage):
    await put(storage, "f", b"data")
    server.faults.get_status = [403] * 99
    with pytest.raises(Unreachable):
        await get(storage, "f")


async def test_a_file_replaced_while_it_is_read(server, storage):
    data = blocks(11)
    await put(storage, "f", data)
    entry = await storage.stat(F)
    got = 0
    with pytest.raises(Stale):
        async with storage.read(F, expect=entry.token) as pieces:
            async for piece in pieces:
                assert piece == data[got : got + len(piece)]
                if not got:
                    plant(server, "f", blocks(11, seed=50), mtime=1)
                got += len(piece)
    assert got < len(data)


async def test_a_ranged_read_moves_only_its_range(server, storage):
    data = blocks(8)
    await put(storage, "f", data)
    moved = server.counts.get_bytes
    assert await get(storage, "f", BLOCK - 500_000, 1 << 20) == data[BLOCK - 500_000 :][: 1 << 20]
    assert server.counts.get_bytes - moved == 1 << 20
    assert server.counts.rpc["VolumeGetFile2"] == 1


# ---- uploads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("statuses", [[503, 503], [400], [403, 503, 400], [0, 413]])
async def test_refused_uploads_are_tried_again(server, storage, statuses):
    data = blocks(3, b"x")
    server.faults.put_status = list(statuses)
    entry = await put(storage, "f", data)
    assert stored(server) == data
    assert await storage.stat(F) == entry


async def test_uploads_that_stay_refused_change_nothing(server, storage):
    await put(storage, "f", b"old")
    server.faults.put_status = [400] * 99
    with pytest.raises(Unreachable):
        await put(storage, "f", b"new")
    assert stored(server) == b"old"


async def test_only_changed_blocks_travel(server, storage, tmp_path):
    data = bytearray(blocks(5, b"x" * 17))
    entry = await put(storage, "f", bytes(data))
    sent = server.counts.put_bytes
    data[3 * BLOCK + 99] ^= 1
    entry = await put(storage, "f", bytes(data), expect=entry.token)
    assert server.counts.put_bytes - sent == BLOCK
    assert server.counts.puts == 7
    assert stored(server) == bytes(data)


async def test_equal_blocks_are_sent_once(server, storage):
    data = blocks(1) * 4
    await put(storage, "f", data)
    assert (server.counts.puts, stored(server) == data) == (1, True)


async def test_a_file_that_changes_between_hash_and_upload_is_not_committed(server, storage, tmp_path):
    """The blocks that travel are those that were announced, even when nobody notices the change."""
    await put(storage, "f", b"old")

    class Sly(BytesSource):
        reads = 0

        async def read(self, offset, length):
            self.reads += 1
            data = await super().read(offset, length)
            return bytes(len(data)) if self.reads > 3 else data

    with pytest.raises(Stale):
        await storage.write(F, Sly(blocks(2, b"x")))
    assert stored(server) == b"old"
    (tmp_path / "live").write_bytes(blocks(2))
    with FileSource(str(tmp_path / "live")) as source:
        server.faults.rpc.append(
            RpcFault("VolumePutFiles2", "UNAVAILABLE", action=lambda: (tmp_path / "live").write_bytes(b"x"))
        )
        with pytest.raises(Stale):
            await storage.write(F, source)
    assert stored(server) == b"old"


@pytest.mark.parametrize("size", [10, 2 * BLOCK])
@pytest.mark.parametrize("expect", [ABSENT, None])
async def test_an_answer_lost_after_the_commit(server, storage, size, expect):
    data = body(size)
    server.faults.rpc.append(RpcFault("VolumePutFiles2", "UNAVAILABLE", skip=1, after=True))
    entry = await put(storage, "f", data, expect=expect)
    assert stored(server) == data
    assert await storage.stat(F) == entry


@pytest.mark.parametrize("status", ["ALREADY_EXISTS", "INVALID_ARGUMENT"])
async def test_somebody_elses_new_file_is_never_overwritten(server, storage, status):
    server.faults.conflict_status = status
    server.faults.dedupe = "global"
    theirs = RpcFault(
        "VolumePutFiles2", "UNAVAILABLE", skip=1, action=lambda: plant_now(server, "f", b"theirs")
    )
    server.faults.rpc.append(theirs)
    with pytest.raises(Stale):
        await put(storage, "f", b"ours", expect=ABSENT)
    assert stored(server) == b"theirs"
    with pytest.raises(Stale):
        await put(storage, "f", b"ours", expect=ABSENT)


async def test_somebody_elses_edit_is_never_overwritten(server, storage):
    entry = await put(storage, "f", b"ours")
    plant(server, "f", b"theirs")
    with pytest.raises(Stale):
        await put(storage, "f", b"new", expect=entry.token)
    with pytest.raises(Stale):
        await storage.delete(F, expect=entry.token)
    assert stored(server) == b"theirs"


async def test_many_small_files_share_calls(server, storage):
    async with trio.open_nursery() as nursery:
        for n in range(200):
            nursery.start_soon(lambda n=n: put(storage, f"d/f{n}", b"x%d" % n, expect=ABSENT))
    assert {path: stored(server, path) for path in ("d/f0", "d/f199")} == {"d/f0": b"x0", "d/f199": b"x199"}
    assert server.counts.rpc["VolumePutFiles2"] < 200
    assert server.counts.rpc["VolumeListFiles2"] < 150
    assert server.counts.rpc_most <= Limits().calls_at_once
    assert server.counts.blocks_most <= Limits().blocks_at_once


@pytest.mark.parametrize("status", ["ALREADY_EXISTS", "INVALID_ARGUMENT"])
async def test_one_conflict_spoils_no_other_file_of_its_call(server, storage, status):
    server.faults.conflict_status = status
    for n in range(0, 40, 10):
        plant(server, f"d/f{n}", b"theirs")
    outcomes = {}

    async def write(n):
        try:
            await put(storage, f"d/f{n}", b"ours", expect=ABSENT)
            outcomes[n] = "put"
        except Stale:
            outcomes[n] = "stale"

    async with trio.open_nursery() as nursery:
        for n in range(40):
            nursery.start_soon(write, n)
    assert outcomes == {n: "stale" if n % 10 == 0 else "put" for n in range(40)}
    assert all(stored(server, f"d/f{n}") == (b"ours" if n % 10 else b"theirs") for n in range(40))


async def test_an_answer_lost_after_a_shared_commit(server, storage):
    server.faults.rpc.append(RpcFault("VolumePutFiles2", "UNAVAILABLE", skip=3, times=2, after=True))
    async with trio.open_nursery() as nursery:
        for n in range(60):
            nursery.start_soon(lambda n=n: put(storage, f"d/f{n}", b"x%d" % n, expect=ABSENT))
    assert all(stored(server, f"d/f{n}") == b"x%d" % n for n in range(60))


@pytest.mark.parametrize("size", [7, BLOCK + 1])
async def test_delayed_visibility(server, storage, size):
    for data in (body(size), body(size + 3)):
        server.faults.invisible_lookups = 3
        entry = await put(storage, "f", data)
        assert entry.size == len(data)
        assert await get(storage, "f", expect=entry.token) == data


async def test_a_file_that_never_becomes_visible(server, storage):
    server.faults.invisible_lookups = 999
    with pytest.raises(Unreachable):
        await put(storage, "g", b"not to be seen")
    server.faults.invisible_lookups = 0


# ---- time that is too coarse ------------------------------------------------------------------------


async def test_rewrites_within_one_second_have_different_tokens(server, tmp_path):
    server.clock = lambda: 1_700_000_000.5
    for sidecar in (True, False):
        async with modal_storage(
            server, tmp_path / "s", sidecar_metadata=sidecar, now=lambda: 1e9 * 1.7
        ) as storage:
            first = await put(storage, "f", b"one")
            second = await put(storage, "f", b"two")
            again = await put(storage, "f", b"two")
            assert first.token != second.token == again.token
            with pytest.raises(Stale):
                await get(storage, "f", expect=first.token)
            with pytest.raises(Stale):
                await put(storage, "f", b"xxx", expect=first.token)
            await put(storage, "g", b"oh!")
            moved = await storage.move(RelPath("g"), F, replace=second.token)
            assert moved.token not in (first.token, second.token)
            assert await storage.stat(F) == moved
            await storage.delete(F)
    async with modal_storage(server, tmp_path / "s", now=lambda: 1e9 * 1.7) as storage:
        await put(storage, "h", b"one")
        kept = await put(storage, "h", b"two")
    async with modal_storage(server, tmp_path / "s", now=lambda: 1e9 * 1.7) as storage:
        assert (await storage.stat(RelPath("h"))).token == kept.token


async def test_a_foreign_file_is_looked_at_again_when_its_second_is_over(server, tmp_path):
    times = [1_700_000_000.2]
    async with modal_storage(server, tmp_path / "s", now=lambda: times[0]) as storage:
        plant(server, "f", b"one", mtime=1_700_000_000)
        young = (await storage.stat(F)).token
        plant(server, "f", b"two", mtime=1_700_000_000)
        times[0] += 3
        old = (await storage.stat(F)).token
        assert young != old
        assert await get(storage, "f", expect=young) == b"two"
        assert (await storage.stat(F)).token == old


# ---- calls ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["UNAVAILABLE", "INTERNAL", "UNKNOWN", "DEADLINE_EXCEEDED", "CANCELLED"])
async def test_passing_failures_are_retried(server, storage, status):
    for method in ("VolumePutFiles2", "VolumeListFiles2", "VolumeGetFile2"):
        server.faults.rpc.append(RpcFault(method, status, times=2))
    await put(storage, "f", b"data")
    assert await get(storage, "f") == b"data"


async def test_lasting_failures_end_soon(server, storage):
    await put(storage, "f", b"data")
    server.faults.rpc.append(RpcFault("VolumeGetFile2", "UNAVAILABLE", times=9999))
    with trio.fail_after(60), pytest.raises(Unreachable):
        await get(storage, "f")


async def test_throttling_is_honoured(server, storage):
    await put(storage, "f", b"data")
    server.faults.rpc.append(RpcFault("VolumeGetFile2", "RESOURCE_EXHAUSTED", times=8, retry_after=0.12))
    began = time.monotonic()
    assert await get(storage, "f") == b"data"
    assert time.monotonic() - began > 0.9


async def test_throttling_beyond_the_deadline_is_told(server, storage):
    await put(storage, "f", b"data")
    server.faults.rpc.append(RpcFault("VolumeGetFile2", "RESOURCE_EXHAUSTED", times=9, retry_after=60))
    with pytest.raises(Throttled) as caught:
        await get(storage, "f")
    assert caught.value.retry_after == 60
    server.faults.rpc[:] = [RpcFault("VolumeGetFile2", "RESOURCE_EXHAUSTED", times=9)]
    with pytest.raises(Throttled):
        await get(storage, "f")
    assert server.faults.rpc[0].times == 8


async def test_a_dying_list_stream_is_begun_again(server, storage):
    for n in range(45):
        plant(server, f"d/f{n}", b"x")
    server.faults.list_batch = 10
    for deaths in (1, 2):
        server.faults.list_dies_after, server.faults.list_deaths = 2, deaths
        assert len(await items(storage)) == 46
    server.faults.list_dies_after, server.faults.list_deaths = 2, 99
    seen = []
    with pytest.raises(Unreachable):
        async with storage.list(ROOT, recursive=True) as batches:
            async for batch in batches:
                seen += batch
    assert seen == [], "a part of a listing must not look like the whole"


async def test_a_delete_whose_answer_was_lost(server, storage):
    await put(storage, "d/f", b"x")
    server.faults.rpc.append(RpcFault("VolumeRemoveFile2", "UNAVAILABLE", after=True))
    await storage.delete(RelPath("d/f"))
    assert stored(server, "d/f") is None


async def test_a_copy_whose_answer_was_lost(server, storage):
    await put(storage, "f", b"x")
    server.faults.rpc.append(RpcFault("VolumeCopyFiles2", "UNAVAILABLE", after=True))
    await storage.move(F, RelPath("g"))
    assert set(await items(storage)) == {"g"}


async def test_too_many_files_is_an_error_of_that_directory(server, storage):
    for path in ("a/f", "b/c/f", "b/d/f", "e"):
        plant(server, path, b"x")
    server.faults.unreadable.add("b/c")
    async with storage.list(ROOT, recursive=True) as batches:
        listed = dict([item async for batch in batches for item in batch])
    assert isinstance(listed["b/c"], Problem)
    assert {path for path, entry in listed.items() if not isinstance(entry, Problem)} == {
        "a", "a/f", "b", "b/d", "b/d/f", "e",
    }  # fmt: skip
    with pytest.raises(PathError, match="so many files") as refused:
        await items(storage, "b/c", recursive=False)
    assert refused.value.path == "b/c"
    assert set(await items(storage, "b", recursive=False)) == {"b/c", "b/d"}
    assert (await storage.stat(RelPath("b/c"))).kind is Kind.DIRECTORY


async def test_a_server_that_never_answers(server, storage):
    await put(storage, "f", b"data")
    server.faults.delay = 300
    with trio.fail_after(60), pytest.raises(Unreachable):
        await storage.stat(F)
    server.faults.delay = 0
    assert await get(storage, "f") == b"data"


async def test_a_slow_server_is_waited_for(server, storage):
    server.faults.delay = 0.2
    server.faults.block_delay = 0.3
    await put(storage, "f", b"data")
    assert await get(storage, "f") == b"data"


async def test_a_dead_port_fails_within_seconds_and_comes_back(server, tmp_path):
    async with modal_storage(server, tmp_path / "state") as storage:
        await put(storage, "f", b"data")
        port, root = server.port, tmp_path / "server"
        server.__exit__()
        with trio.fail_after(60):
            for _ in range(3):
                with pytest.raises(Unreachable):
                    await get(storage, "f")
        with ModalServer(root, port=port) as again:
            assert await get(storage, "f") == b"data"
            assert again.counts.gets == 1


async def test_the_second_of_several_servers(server, tmp_path):
    for urls in (f"http://127.0.0.1:9,{server.url}", f"{server.url},http://127.0.0.1:9"):
        environ = server.environment() | {"MODAL_SERVER_URL": urls}
        server.environment = lambda environ=environ: environ
        async with modal_storage(server, tmp_path / "state") as storage:
            await put(storage, "f", b"data")


async def test_starting_without_the_network(tmp_path):
    with ModalServer(tmp_path / "server") as server:
        server.volume("data")
        async with modal_storage(server, tmp_path / "state") as storage:
            identity = storage.info.identity
    with pytest.raises(Unreachable):
        async with modal_storage(server, tmp_path / "never seen"):
            pass
    async with modal_storage(server, tmp_path / "state") as storage:
        assert storage.info.identity == identity
        with pytest.raises(Unreachable):
            await storage.stat(F)
        with pytest.raises(Unreachable):
            await put(storage, "f", b"x")


# ---- cancellation -----------------------------------------------------------------------------------


async def quiet(server):
    """Waits until the server has no block under way."""
    with trio.fail_after(15):  # the blocks would take 20 s to come by themselves
        while server.counts.blocks_now:
            await trio.sleep(0.01)


async def test_cancelling_a_read_stops_its_traffic(server, storage):
    await put(storage, "f", blocks(6))
    server.faults.block_delay = 20
    with trio.move_on_after(0.3) as scope:
        await get(storage, "f")
    assert scope.cancelled_caught
    await quiet(server)
    server.faults.block_delay = 0
    assert len(await get(storage, "f")) == 6 * BLOCK


async def test_cancelling_a_write_stops_its_traffic(server, storage):
    await put(storage, "f", b"old")
    server.faults.block_delay = 20
    with trio.move_on_after(0.4) as scope:
        await put(storage, "f", blocks(3))
    assert scope.cancelled_caught
    await quiet(server)
    server.faults.block_delay = 0
    assert stored(server) == b"old"


async def test_closing_ends_what_is_under_way(server, tmp_path):
    async with trio.open_nursery() as nursery:
        async with modal_storage(server, tmp_path / "state") as storage:
            await put(storage, "f", body(BLOCK))
            server.faults.block_delay = 20

            async def read():
                with pytest.raises(Unreachable):
                    await get(storage, "f")

            nursery.start_soon(read)
            await trio.sleep(0.2)
            server.faults.block_delay = 0
        with pytest.raises(Unreachable):
            await get(storage, "f")
    await quiet(server)
