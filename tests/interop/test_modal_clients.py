"""Byte for byte with Modal's own command line and SDK, in two versions, on the same local server.

The first half shows that the server is real enough for the vendor's own clients; the second half
that what we write they read, and the other way round.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import trio

from mountsync.errors import Stale
from mountsync.paths import RelPath
from mountsync.storage.sources import FileSource
from tests.parts.bodies import get, items, put
from tests.parts.modal import modal_storage
from tests.parts.modal_clients import OLDER, modal_command

BLOCK = 8 << 20


@pytest.fixture(scope="module", params=["newest", OLDER])
def version(request):
    return request.param


@pytest.fixture
def modal(server, version):
    return modal_command(version, server.environment())


def pattern(size: int) -> bytes:
    """Bytes that differ from place to place, cheap to make."""
    unit = hashlib.sha256(b"%d" % size).digest() * 1024 + b"x"
    return (unit * (size // len(unit) + 1))[:size]


BODIES = {
    "empty": b"",
    "one": b"1",
    "block - 1": pattern(BLOCK - 1),
    "block": pattern(BLOCK),
    "block + 1": pattern(BLOCK + 1),
    "zeros": bytes(BLOCK + 100),
    "zeros at the end": pattern(1000) + bytes(BLOCK),
    "zeros across": pattern(BLOCK - 50) + bytes(100) + pattern(50),
    "zeros first": bytes(2 * BLOCK) + b"end",
    "24 MiB": pattern(24 << 20),
}
NAMES = [
    "plain", " space ", "ünï ☃", "-dash", "a'b\"c", "tab\tname", "line\nname", "%41", "#?&=", "*star*",
    "back\\slash", "very." * 40, "\u0065\u0301", "~", "...dots",
]  # fmt: skip


# ---- the server, seen by the vendor's clients -------------------------------------------------------


@pytest.mark.timeout(300)  # each of many commands starts an interpreter that imports the whole client
def test_the_vendors_commands_work(modal, tmp_path):
    local = tmp_path / "local"
    (local / "sub").mkdir(parents=True)
    (local / "sub" / "a").write_bytes(b"a")
    (local / "big").write_bytes(BODIES["zeros across"])
    modal("create", "--version", "2", "made")
    assert "made" in modal("list")
    modal("put", "made", str(local), "/up")
    assert "already exists" in modal("put", "made", str(local / "big"), "/up/big", ok=False)
    modal("put", "-f", "made", str(local / "big"), "/up/big")
    assert "up/big" in modal("ls", "made", "/up", "--json")
    modal("cp", "made", "up/big", "copy")
    modal("get", "made", "copy", str(tmp_path / "copy"))
    assert (tmp_path / "copy").read_bytes() == BODIES["zeros across"]
    assert "not empty" in modal("rm", "made", "up", ok=False)
    modal("rm", "-r", "made", "up")
    modal("get", "made", "up/big", str(tmp_path / "gone"), ok=False)
    modal("rename", "-y", "made", "named")
    assert "copy" in modal("ls", "named")
    modal("delete", "-y", "named")
    assert "named" not in modal("list")


def test_the_vendors_sdk_works(modal):
    code = """
import io, modal
v = modal.Volume.from_name("data", version=2)
with v.batch_upload() as up:
    for n in range(50):
        up.put_file(io.BytesIO(b"%d" % n), f"/d/f{n}")
    up.put_file(io.BytesIO(b"x" * 9_000_000 + bytes(1000)), "/big")
assert len(v.listdir("/", recursive=True)) == 52, v.listdir("/", recursive=True)
assert b"".join(v.read_file("big")) == b"x" * 9_000_000 + bytes(1000)
v.copy_files(["d/f1", "d/f2"], "d")  # onto themselves, as cp does not mind here
v.remove_file("d", recursive=True)
print([e.path for e in v.listdir("/")])
"""
    assert "['big']" in modal.sdk(code)


# ---- both ways --------------------------------------------------------------------------------------


async def run(call, *arguments, **more):
    return await trio.to_thread.run_sync(lambda: call(*arguments, **more))


async def test_what_we_write_they_read(server, modal, tmp_path):
    async with modal_storage(server, tmp_path / "state") as storage:
        for name, data in BODIES.items():
            (tmp_path / "source").write_bytes(data)
            with FileSource(str(tmp_path / "source")) as source:
                await storage.write(RelPath(f"all/bodies/{name}"), source)
        for name in NAMES:
            await put(storage, f"all/names/{name}/{name}", name.encode())
    (tmp_path / "got").mkdir()
    await run(modal, "get", "data", "all", str(tmp_path / "got"))
    assert {name: (tmp_path / "got" / "all" / "bodies" / name).read_bytes() for name in BODIES} == BODIES
    found = {
        path.name: path.read_text()
        for path in (tmp_path / "got" / "all" / "names").rglob("*")
        if path.is_file()
    }
    assert found == {name: name for name in NAMES}


async def test_what_they_write_we_read(server, modal, tmp_path):
    local = tmp_path / "local"
    (local / "bodies").mkdir(parents=True)
    for name, data in BODIES.items():
        (local / "bodies" / name).write_bytes(data)
    for name in NAMES:
        (local / "names" / name).mkdir(parents=True)
        (local / "names" / name / name).write_text(name)
    await run(modal, "put", "data", str(local), "/up")
    async with modal_storage(server, tmp_path / "state", "data/up") as storage:
        found = await items(storage)
        for name, data in BODIES.items():
            assert found[f"bodies/{name}"].size == len(data)
            assert await get(storage, f"bodies/{name}") == data
            assert await get(storage, f"bodies/{name}", len(data) // 2, 500) == data[len(data) // 2 :][:500]
        for name in NAMES:
            assert await get(storage, f"names/{name}/{name}") == name.encode()


async def test_their_changes_are_told_from_ours(server, modal, tmp_path):
    async with modal_storage(server, tmp_path / "state") as storage:
        first = await put(storage, "f", b"ours")
        (tmp_path / "theirs").write_bytes(b"theirs!")
        await run(modal, "put", "-f", "data", str(tmp_path / "theirs"), "/f")
        with pytest.raises(Stale):
            await put(storage, "f", b"new", expect=first.token)
        with pytest.raises(Stale):
            await get(storage, "f", expect=first.token)
        assert await get(storage, "f") == b"theirs!"


# ---- larger ones, with the newest client ------------------------------------------------------------


@pytest.fixture
def newest(server):
    return modal_command("newest", server.environment())


async def test_five_thousand_files_in_one_directory(server, newest, tmp_path):
    def plant():
        volume = server.store.named("main", "data")
        server.store._db.execute("BEGIN")
        for n in range(4700):
            server.store.plant(volume, f"d/f{n:04}", b"%d" % (n % 50))
        server.store._db.execute("COMMIT")

    await run(server.do, plant)
    async with modal_storage(server, tmp_path / "state") as storage:
        left = iter(range(4700, 5000))

        async def write():
            for n in left:
                await put(storage, f"d/f{n:04}", b"%d" % (n % 50), mtime_ns=n)

        async with trio.open_nursery() as nursery:
            for _ in range(64):
                nursery.start_soon(write)
        found = await items(storage)
        assert len(found) == 5001
        assert found["d/f4999"].mtime_ns == 4999
        assert await get(storage, "d/f3999") == b"49"
    listed = await run(newest, "ls", "data", "d", "--json")
    assert len(json.loads(listed)) == 5000


async def test_a_file_of_100_mib(server, newest, tmp_path):
    source, got = tmp_path / "source", tmp_path / "got"
    await run(write_pattern, source, 100 << 20)
    async with modal_storage(server, tmp_path / "state") as storage:
        with FileSource(str(source)) as body:
            await storage.write(RelPath("big"), body)
        await run(newest, "get", "data", "big", str(got))
        assert await run(digest, got) == await run(digest, source)
        async with storage.read(RelPath("big")) as pieces:
            hashed = hashlib.sha256()
            async for piece in pieces:
                hashed.update(piece)
        assert hashed.hexdigest() == await run(digest, source)


def write_pattern(path: Path, size: int) -> None:
    with open(path, "wb") as file:
        file.writelines(pattern((1 << 20) - n) + bytes(n) for n in range(size >> 20))


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
