"""Remotes through rclone, with the real program: names, mounts, both-way sync, death and offline."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest
import trio

from mountsync.errors import ConfigError, NameRefused, NotFound, Stale, Unreachable
from mountsync.formats.rclone_names import DOTS, FORBIDDEN, from_rclone, to_rclone
from mountsync.model.entry import Problem
from mountsync.paths import RelPath
from mountsync.storage import api
from mountsync.storage.rclone.opening import join_remote, open_rclone
from mountsync.storage.registry import Remotes
from tests.parts.bodies import StoppingSource, body, get, items, put
from tests.parts.rclone import BINARY
from tests.parts.real_mount import Mounted

pytestmark = pytest.mark.skipif(BINARY is None, reason="the real rclone is not installed")
WHEN = 1_700_000_123_456_789_123


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    folder = tmp_path / "remote"
    folder.mkdir()
    return folder


@pytest.fixture
async def storage(disk: Path, tmp_path: Path):
    storage = await open_rclone({"concurrency": 4}, str(disk), tmp_path / "state")
    yield storage
    await storage.aclose()


def servers() -> list[int]:
    """rclone processes below this one, by what their shells run."""
    found = subprocess.run(["pgrep", "-P", str(os.getpid()), "-f", "rcd"], capture_output=True, check=False)
    return [int(pid) for pid in found.stdout.split()]


def child_of(pid: int, name: str = "rclone") -> int:
    return int(subprocess.run(["pgrep", "-P", str(pid), name], capture_output=True, check=True).stdout)


async def kill(pid: int) -> None:
    """Ends a process, and waits for its death: until then its sockets still take connections."""
    death = os.pidfd_open(pid)
    try:
        os.kill(pid, 9)
        await trio.lowlevel.wait_readable(death)
    finally:
        os.close(death)


# ---- names and bodies ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["a\nb", "\x7f", "\x1b[0m", "[q]#?%41", "tab\t", " lead", "trail ", "a:b", "\\"]
)
async def test_names_are_the_same_on_the_disk(storage, disk: Path, name: str) -> None:
    await put(storage, f"d/{name}", b"ours")
    assert (disk / "d" / name).read_bytes() == b"ours"
    (disk / "d" / name).write_bytes(b"somebody's")
    assert await get(storage, f"d/{name}") == b"somebody's"
    assert f"d/{name}" in await items(storage)


@pytest.mark.parametrize("name", [*sorted(FORBIDDEN), *sorted(DOTS)])
async def test_names_that_rclone_would_change_are_refused_and_never_read(
    storage, disk: Path, name: str
) -> None:
    with pytest.raises(NameRefused):
        await put(storage, f"x{name}" if name in FORBIDDEN else name, b"")
    (disk / name).write_bytes(b"theirs")
    found = await items(storage)
    assert len(found) == 1
    assert all(isinstance(entry, Problem) for entry in found.values()), found


def test_names_come_back() -> None:
    name = "".join(map(chr, range(1, 128))).replace("/", "")
    assert from_rclone(to_rclone(name)) == name


async def test_times_and_bodies_arrive(storage, disk: Path) -> None:
    entry = await put(storage, "big", body(5 << 20), mtime_ns=WHEN)
    assert (disk / "big").stat().st_mtime_ns == WHEN == entry.mtime_ns
    assert (disk / "big").read_bytes() == body(5 << 20)
    async with storage.read(RelPath("big"), 1_000_001, 77) as pieces:
        assert b"".join([piece async for piece in pieces]) == body(5 << 20)[1_000_001:1_000_078]


async def test_an_object_that_changes_while_it_is_read(storage, disk: Path) -> None:
    entry = await put(storage, "f", body(8 << 20, 1))
    with pytest.raises((Stale, Unreachable)):
        async with storage.read(RelPath("f"), expect=entry.token) as pieces:
            await anext(aiter(pieces))
            (disk / "f").write_bytes(body(8 << 20, 2))
            async for _ in pieces:
                pass


async def test_equal_size_and_time_is_still_written(storage, disk: Path) -> None:
    await put(storage, "f", b"one", mtime_ns=WHEN)
    await put(storage, "f", b"two", mtime_ns=WHEN)
    assert (disk / "f").read_bytes() == b"two"


async def test_a_folder_that_cannot_be_listed_is_a_problem(storage, disk: Path) -> None:
    """Listing a link to itself fails in rclone; the rest of the tree is told."""
    await put(storage, "good/f", b"")
    (disk / "bad").mkdir()
    (disk / "bad" / "\udcff").write_bytes(b"not UTF-8")
    found = await items(storage)
    assert "good/f" in found
    assert [path for path, entry in found.items() if isinstance(entry, Problem)] == ["bad/\ufffd"]


# ---- the process ---------------------------------------------------------------------------------


async def test_a_server_that_died_is_started_again(storage, disk: Path) -> None:
    await put(storage, "f", b"before")
    (shell,) = servers()
    await kill(child_of(shell))
    assert await get(storage, "f") == b"before"
    await put(storage, "g", b"after")
    assert (disk / "g").read_bytes() == b"after"


async def test_chunks_lie_where_rclone_expects_them(disk: Path, tmp_path: Path) -> None:
    remotes = Remotes({}, tmp_path / "state", environment={})
    spec = f':chunker,chunk_size=1M,remote=":rclone:{disk}":'
    storage = await remotes.open(spec)
    try:
        await put(storage, "big", body(3 << 20))
        assert await get(storage, "big") == body(3 << 20)
    finally:
        await storage.aclose()
    assert sorted(one.name for one in disk.iterdir()) == [
        "big",
        *(f"big.rclone_chunk.00{n}" for n in (1, 2, 3)),
    ]


async def test_nothing_is_left_when_it_is_closed(disk: Path, tmp_path: Path) -> None:
    storage = await open_rclone({"concurrency": 4}, str(disk), tmp_path / "state")
    (shell,) = servers()
    server = child_of(shell)
    await storage.aclose()
    await storage.aclose()
    assert servers() == []
    assert not Path(f"/proc/{server}").exists()


async def test_a_cancelled_write_leaves_nothing(storage, disk: Path, tmp_path: Path) -> None:
    source = StoppingSource(body(3 << 20), 2 << 20)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(storage.write, RelPath("f"), source)
        await source.reached.wait()
        nursery.cancel_scope.cancel()
    assert list(disk.iterdir()) == []
    assert list((tmp_path / "state" / "staging").iterdir()) == []


async def test_leftovers_of_dead_uploads_are_hidden_and_removed(disk: Path, tmp_path: Path) -> None:
    staging = tmp_path / "state" / "staging"
    staging.mkdir(parents=True)
    (staging / "1-a.to").write_text("d/f")
    (staging / "1-a").write_bytes(b"half")
    (disk / "d").mkdir()
    ours, theirs = disk / "d" / "f.0a1b2c3d.mountsync-part", disk / "d" / "other.0a1b2c3d.mountsync-part"
    for one in (ours, theirs):
        one.write_bytes(b"ha")
    storage = await open_rclone({"concurrency": 4}, str(disk), tmp_path / "state")
    try:
        assert set(await items(storage)) == {"d"}
        await storage.recover_attempts()
    finally:
        await storage.aclose()
    assert (ours.exists(), theirs.exists(), list(staging.iterdir())) == (False, True, [])


# ---- opening -------------------------------------------------------------------------------------


async def test_words_of_rclone_reach_the_user(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nosuch"):
        await open_rclone({"concurrency": 4}, "nosuch:folder", tmp_path / "state")
    config = tmp_path / "rclone.conf"
    config.write_text("# Encrypted rclone configuration File\n\nRCLONE_ENCRYPT_V0:\nnonsense\n")
    with pytest.raises(ConfigError, match="load config file"):
        await open_rclone({"concurrency": 4, "config": str(config)}, "x:", tmp_path / "state")
    with pytest.raises(ConfigError, match="no program"):
        await open_rclone({"concurrency": 4, "binary": "/no/rclone"}, "x:", tmp_path / "state")


async def test_a_missing_root_is_not_an_empty_one(storage, disk: Path) -> None:
    disk.rmdir()
    with pytest.raises(NotFound):
        await items(storage)
    assert await storage.stat(RelPath("")) is None


def test_places() -> None:
    assert join_remote("gdrive:", "a") == "gdrive:a"
    assert join_remote("gdrive:a", "b") == "gdrive:a/b"
    assert join_remote(None, "gdrive:a") == "gdrive:a"
    assert join_remote("gdrive:a", "") == "gdrive:a"
    for remote, path in ((None, ""), ("x:", "a]b")):
        with pytest.raises(ConfigError):
            join_remote(remote, path)


async def test_what_a_disk_can_do(storage) -> None:
    for capability in (api.SupportsMove, api.SupportsDirectories, api.SupportsUsage):
        assert isinstance(storage, capability)
    assert (await storage.usage()).total > 0
    assert not isinstance(storage, api.SupportsDigest)  # hashes would be computed from the contents


# ---- in use --------------------------------------------------------------------------------------


@pytest.fixture
def mount(disk: Path, tmp_path: Path):
    config = tmp_path / "rclone.conf"
    config.write_text(f"[photos]\ntype = alias\nremote = {disk}\n")
    mount = Mounted(
        tmp_path / "home", "--poll-interval", "0.5s", remote=disk, spec=f":rclone,config={config}:photos:"
    )
    yield mount
    mount.end()


def test_a_mount_of_a_remote_of_rclones(mount: Mounted, disk: Path) -> None:
    mount.start()
    (mount.path / "album/deep").mkdir(parents=True)
    (mount.path / "album/deep/one").write_bytes(body(3 << 20))
    (mount.path / "album/two\nlines").write_bytes(b"2")
    mount.flush()
    assert (disk / "album/deep/one").read_bytes() == body(3 << 20)
    assert (disk / "album/two\nlines").read_bytes() == b"2"
    inode = (disk / "album/deep/one").stat().st_ino
    (mount.path / "album").rename(mount.path / "photos")
    mount.flush()
    assert (disk / "photos/deep/one").stat().st_ino == inode
    (disk / "photos/from elsewhere").write_bytes(b"theirs")
    mount.until((mount.path / "photos/from elsewhere").exists)
    assert (mount.path / "photos/from elsewhere").read_bytes() == b"theirs"
    (mount.path / "photos/deep/one").unlink()
    mount.flush()
    mount.agree()
    mount.umount()


def test_rclone_does_not_outlive_a_killed_mount(mount: Mounted, disk: Path) -> None:
    mount.start()
    (mount.path / "f").write_bytes(b"kept")
    assert mount.process is not None
    shell = int(
        subprocess.run(["pgrep", "-P", str(mount.process.pid), "sh"], capture_output=True, check=True).stdout
    )
    server = child_of(shell)
    mount.kill9()
    end = time.monotonic() + 30
    while Path(f"/proc/{server}").exists():
        assert time.monotonic() < end, "rclone still runs"
        time.sleep(0.02)
    mount.remount()
    mount.flush()
    assert (disk / "f").read_bytes() == b"kept"
    mount.umount()
