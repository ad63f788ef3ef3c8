"""Blocks that are refused, put off or described wrongly, and URLs that grow old."""

from __future__ import annotations

import base64
import hashlib
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
import trio

from mountsync.errors import Corrupt, Throttled, Unreachable
from mountsync.paths import ROOT, RelPath
from mountsync.storage.modal.patience import Limits
from mountsync.storage.sources import FileSource
from tests.parts.bodies import body, get, put
from tests.parts.modal import modal_storage, stored

BLOCK = 8 << 20


@pytest.fixture
async def storage(server, tmp_path):
    async with modal_storage(server, tmp_path / "state", sidecar_metadata=False) as storage:
        yield storage


async def test_a_block_that_never_ends(server, tmp_path):
    limits = Limits(connect=3.0, call=3.0, idle=1.0, stream=3.0, first_delay=0.01)
    async with modal_storage(server, tmp_path / "state", limits=limits, sidecar_metadata=False) as storage:
        for name, size in (("f", 1000), ("g", 4 << 20)):
            await put(storage, name, body(size))
            server.faults.get_drip = 0.5
            began = time.monotonic()
            with trio.fail_after(30), pytest.raises(Unreachable):
                await get(storage, name)
            assert time.monotonic() - began < 20, "it would take 50 s"
            server.faults.get_drip = 0.003
            assert await get(storage, name) == body(size)
            server.faults.get_drip = 0


# ---- servers that ask for patience ------------------------------------------------------------------


def in_a_second():
    return format_datetime(datetime.now(UTC) + timedelta(seconds=2), usegmt=True)


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("after", ["1", in_a_second])
async def test_a_block_store_that_asks_to_come_back_later(server, storage, status, after):
    await put(storage, "f", b"data")
    for faults, work in (
        ("get_status", lambda: get(storage, "f")),
        ("put_status", lambda: put(storage, "g", b"more")),
    ):
        server.faults.block_retry_after = after if isinstance(after, str) else after()
        setattr(server.faults, faults, [status])
        began = time.monotonic()
        await work()
        assert time.monotonic() - began > 0.9


async def test_waits_that_a_block_store_asks_for_are_not_counted(server, storage):
    await put(storage, "f", b"data")
    server.faults.block_retry_after = "0"
    server.faults.get_status = [429] * 9
    assert await get(storage, "f") == b"data"


@pytest.mark.parametrize("after", ["60", None, "tomorrow"])
async def test_a_block_store_that_keeps_asking_for_patience(server, storage, after):
    await put(storage, "f", b"data")
    server.faults.block_retry_after = after
    for faults, work in (
        ("get_status", lambda: get(storage, "f")),
        ("put_status", lambda: put(storage, "g", b"more")),
    ):
        setattr(server.faults, faults, [429] * 99)
        with trio.fail_after(30), pytest.raises(Throttled) as caught:
            await work()
        assert caught.value.retry_after == (60 if after == "60" else None)
        assert len(getattr(server.faults, faults)) == (98 if after == "60" else 94)


# ---- digests ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("header", ["sha-256=:abc:", "sha-256=:!!!:", "sha-256=", "sha-256=:AAAA:"])
async def test_a_digest_that_makes_no_sense(server, storage, header):
    await put(storage, "f", b"data")
    server.faults.repr_digest, server.faults.repr_digests = header, 1
    assert await get(storage, "f") == b"data"
    server.faults.repr_digests = 99
    with pytest.raises(Corrupt):
        await get(storage, "f")


@pytest.mark.parametrize("header", ["", "sha-512=:x:", "sha-256=:%s:;a=1"])
async def test_a_digest_with_more_to_it(server, storage, header):
    await put(storage, "f", b"data")
    digest = base64.b64encode(hashlib.sha256(b"data").digest()).decode()
    server.faults.repr_digest, server.faults.repr_digests = header.replace("%s", digest), 99
    assert await get(storage, "f") == b"data"


# ---- URLs that grow old -----------------------------------------------------------------------------


def sparse(path, count):
    """A file of so many different blocks of which only a byte has to be stored."""
    with open(path, "wb") as file:
        for n in range(count):
            file.seek(n * BLOCK)
            file.write(bytes([n + 1]))
        file.truncate(count * BLOCK)


async def test_an_upload_that_outlives_its_urls(server, storage, tmp_path):
    count = 24
    sparse(tmp_path / "large", count)
    server.faults.put_urls_last = 4
    with FileSource(str(tmp_path / "large")) as source:
        await storage.write(RelPath("f"), source)
    assert server.counts.puts - server.counts.stale_urls == count, "nothing is sent twice"
    assert server.counts.stale_urls <= 4 * server.counts.rpc["VolumePutFiles2"]
    assert server.counts.rpc["VolumePutFiles2"] > 5
    node = server.volume("data").nodes["f"]
    assert (node.size, len(set(node.blocks))) == (count * BLOCK, count)


async def test_an_upload_whose_urls_are_old_from_the_start(server, storage, tmp_path):
    sparse(tmp_path / "large", 9)
    server.faults.put_urls_last = 0
    with FileSource(str(tmp_path / "large")) as source, pytest.raises(Unreachable, match="keeps asking"):
        await storage.write(RelPath("f"), source)
    assert server.counts.stale_urls <= 4 * 6
    assert stored(server) is None


async def test_a_download_that_outlives_its_urls(server, storage, tmp_path):
    sparse(tmp_path / "large", 12)
    with FileSource(str(tmp_path / "large")) as source:
        await storage.write(RelPath("f"), source)
    server.faults.get_urls_last = 3
    assert await get(storage, "f") == (tmp_path / "large").read_bytes()
    assert server.counts.stale_urls > 2


# ---- the list of volumes ----------------------------------------------------------------------------


@pytest.mark.parametrize("same", [2, 100, 150, 400])
async def test_volumes_of_one_moment_are_all_listed(server, tmp_path, same):
    def make():
        for n in range(99):
            server.store.create("main", f"new{n}").created = 9e9 + n
        for n in range(same):
            server.store.create("main", f"same{n}").created = 1000.1
        for n in range(120):
            server.store.create("main", f"old{n}").created = 10.0 + n

    server.do(make)
    async with modal_storage(server, tmp_path / "all", "") as storage:
        async with storage.list(ROOT, recursive=False) as batches:
            names = [path for batch in [batch async for batch in batches] for path, _ in batch]
    assert len(names) == len(set(names)) == 99 + same + 120 + 1
