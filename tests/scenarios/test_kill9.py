"""`kill -9` of the mount, seventeen situations: closed or synced is there, and goes on by itself.

Nothing is uploaded before the kill, unless a test flushes: then all that counts is still only here.
"""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.parts.real_mount import Mounted, inodes
from tests.parts.trees import Witness

LATE, SOON = ("--write-delay", "60s"), ("--write-delay", "0.05s")


@pytest.fixture
def mount(new_mount: Callable[..., Mounted]) -> Mounted:
    return new_mount().start(*LATE)


@pytest.fixture
def witness(mount: Mounted) -> Iterator[Witness]:
    with Witness(mount.remote) as watching:
        yield watching


def some(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def revive(mount: Mounted) -> None:
    """Dies, comes back, uploads by itself; at the end both sides are the same and the state is sound."""
    mount.kill9()
    mount.remount(*SOON)
    mount.settle()
    mount.agree()
    assert mount.bugs() == ""


@pytest.fixture(autouse=True)
def state_is_sound(mount: Mounted) -> Iterator[None]:
    yield
    if mount.process is not None:
        mount.kill9()
    assert mount.check() == []


def close(*descriptors: int) -> None:
    for descriptor in descriptors:
        with suppress(OSError):  # what it belonged to is dead
            os.close(descriptor)


@pytest.mark.parametrize("size", [1, 60_000, 70_000, 3_000_000])
def test_new_file_closed(mount: Mounted, witness: Witness, size: int) -> None:
    (mount.path / "new").write_bytes(some(size))
    revive(mount)
    assert (mount.path / "new").read_bytes() == some(size)
    witness.__exit__()
    assert witness.seen["new"] == {digest(some(size))}


@pytest.mark.parametrize("size", [5_000, 700_000])
def test_synced_but_open(mount: Mounted, size: int) -> None:
    fd = os.open(mount.path / "new", os.O_WRONLY | os.O_CREAT)
    os.write(fd, some(size))
    os.fsync(fd)
    revive(mount)
    close(fd)
    assert (mount.path / "new").read_bytes() == some(size)


def test_written_neither_closed_nor_synced(mount: Mounted, witness: Witness) -> None:
    """It may be lost; what is there is a beginning, the old or the new."""
    (mount.path / "small").write_bytes(b"old" * 1000)
    (mount.path / "large").write_bytes(some(1_000_000, 1))
    mount.flush()
    fds = [os.open(mount.path / name, os.O_WRONLY | os.O_CREAT) for name in ("new", "small", "large")]
    os.write(fds[0], some(500_000, 2))
    os.write(fds[1], b"new" * 1000)
    os.pwrite(fds[2], some(300_000, 3), 400_000)
    revive(mount)
    close(*fds)
    new = mount.path / "new"
    assert not new.exists() or some(500_000, 2).startswith(new.read_bytes())
    assert (mount.path / "small").read_bytes() in (b"old" * 1000, b"new" * 1000)
    large = (mount.path / "large").read_bytes()
    patched = some(1_000_000, 1)[:400_000] + some(300_000, 3) + some(1_000_000, 1)[700_000:]
    page = 4096
    for start in range(0, 1_000_000, page):
        got = large[start : start + page]
        assert got in (some_part(1_000_000, 1, start, page), patched[start : start + page])


def some_part(size: int, seed: int, start: int, length: int, *, _kept: dict[int, bytes] = {}) -> bytes:  # noqa: B006
    if seed not in _kept:
        _kept[seed] = some(size, seed)
    return _kept[seed][start : start + length]


@pytest.mark.parametrize("size", [2_000, 500_000])
def test_overwritten_and_closed(mount: Mounted, witness: Witness, size: int) -> None:
    path = mount.path / "file"
    path.write_bytes(some(size, 1))
    mount.flush()
    path.write_bytes(some(size, 2))
    revive(mount)
    assert path.read_bytes() == some(size, 2)
    witness.__exit__()
    assert witness.seen["file"] == {digest(some(size, 1)), digest(some(size, 2))}


def test_patch_in_the_middle_synced(mount: Mounted, witness: Witness) -> None:
    path = mount.path / "file"
    before = some(10_000_000)
    path.write_bytes(before)
    mount.flush()
    fd = os.open(path, os.O_RDWR)
    os.pwrite(fd, b"PATCH" * 100, 5_000_001)
    os.fsync(fd)
    revive(mount)
    close(fd)
    after = before[:5_000_001] + b"PATCH" * 100 + before[5_000_501:]
    assert path.read_bytes() == after
    witness.__exit__()
    assert witness.seen["file"] == {digest(before), digest(after)}


def test_atomic_save(mount: Mounted, witness: Witness) -> None:
    path = mount.path / "file"
    path.write_bytes(b"old")
    mount.flush()
    temporary = mount.path / "file.new"
    with open(temporary, "wb") as file:
        file.write(some(100_000))
        os.fsync(file.fileno())
    temporary.rename(path)
    revive(mount)
    assert os.listdir(mount.path) == ["file"]
    assert path.read_bytes() == some(100_000)
    witness.__exit__()
    assert witness.seen == {"file": {digest(b"old"), digest(some(100_000))}}


def test_rename_of_an_uploaded_file(mount: Mounted) -> None:
    (mount.path / "old").write_bytes(some(100_000))
    mount.flush()
    inode = inodes(mount.remote)["old"]
    (mount.path / "old").rename(mount.path / "new")
    revive(mount)
    assert (mount.path / "new").read_bytes() == some(100_000)
    assert inodes(mount.remote) == {"new": inode}, "the bytes went again"


def test_rename_of_a_folder_with_a_pending_file(mount: Mounted) -> None:
    (mount.path / "old/sub").mkdir(parents=True)
    (mount.path / "old/sub/uploaded").write_bytes(some(80_000))
    mount.flush()
    inode = inodes(mount.remote)["old/sub/uploaded"]
    (mount.path / "old/sub/pending").write_bytes(b"pending")
    (mount.path / "old").rename(mount.path / "new")
    revive(mount)
    assert (mount.path / "new/sub/pending").read_bytes() == b"pending"
    assert inodes(mount.remote)["new/sub/uploaded"] == inode, "the bytes went again"


def test_unlink(mount: Mounted) -> None:
    (mount.path / "gone").write_bytes(b"gone")
    (mount.path / "folder").mkdir()
    (mount.path / "stays").write_bytes(b"stays")
    mount.flush()
    (mount.path / "gone").unlink()
    (mount.path / "folder").rmdir()
    revive(mount)
    assert os.listdir(mount.path) == os.listdir(mount.remote) == ["stays"]


def test_created_then_unlinked(mount: Mounted, witness: Witness) -> None:
    for size in (0, 100, 100_000):
        (mount.path / "brief").write_bytes(some(size))
        (mount.path / "brief").unlink()
    fd = os.open(mount.path / "brief", os.O_RDWR | os.O_CREAT)
    os.write(fd, some(100_000))
    os.unlink(mount.path / "brief")
    os.fsync(fd)
    revive(mount)
    close(fd)
    assert os.listdir(mount.path) == os.listdir(mount.remote) == []
    witness.__exit__()
    assert witness.seen == {}


def test_nested_folders_and_a_file(mount: Mounted) -> None:
    (mount.path / "a/b/c/d").mkdir(parents=True)
    (mount.path / "a/b/c/d/file").write_bytes(b"deep")
    revive(mount)
    assert (mount.path / "a/b/c/d/file").read_bytes() == b"deep"


def test_empty_file_and_empty_folder(mount: Mounted) -> None:
    (mount.path / "file").touch()
    (mount.path / "folder").mkdir()
    revive(mount)
    assert (mount.path / "file").read_bytes() == b""
    assert os.listdir(mount.path / "folder") == []


@pytest.mark.parametrize("size", [3_000, 300_000])
def test_truncate(mount: Mounted, size: int) -> None:
    for name in ("cut", "longer", "emptied"):
        (mount.path / name).write_bytes(some(size))
    mount.flush()
    os.truncate(mount.path / "cut", size // 2)
    os.truncate(mount.path / "longer", size * 2)
    os.truncate(mount.path / "emptied", 0)
    revive(mount)
    assert (mount.path / "cut").read_bytes() == some(size)[: size // 2]
    assert (mount.path / "longer").read_bytes() == some(size) + bytes(size)
    assert (mount.path / "emptied").read_bytes() == b""


@pytest.mark.parametrize("size", [3_000, 300_000])
def test_append(mount: Mounted, size: int) -> None:
    path = mount.path / "file"
    path.write_bytes(some(size))
    mount.flush()
    for number in range(3):
        with open(path, "ab") as file:
            file.write(b"more %d" % number)
    revive(mount)
    assert path.read_bytes() == some(size) + b"more 0more 1more 2"


def test_mtime_and_mode(mount: Mounted) -> None:
    (mount.path / "file").write_bytes(b"same")
    (mount.path / "folder").mkdir()
    mount.flush()
    inode, _ = inodes(mount.remote)["file"]
    os.chmod(mount.path / "file", 0o751)
    os.chmod(mount.path / "folder", 0o711)
    os.utime(mount.path / "file", ns=(1, 1_234_567_890_123_456_789))
    (mount.path / "pending").write_bytes(b"pending")
    os.chmod(mount.path / "pending", 0o600)
    os.utime(mount.path / "pending", ns=(1, 987_654_321_987_654_321))
    revive(mount)
    for root in (mount.path, mount.remote):
        assert mode_and_mtime(root / "file") == (0o751, 1_234_567_890_123_456_789)
        assert mode_and_mtime(root / "pending") == (0o600, 987_654_321_987_654_321)
        assert mode_and_mtime(root / "folder")[0] == 0o711
    assert inodes(mount.remote)["file"][0] == inode, "the bytes went again"


def mode_and_mtime(path: Path) -> tuple[int, int]:
    info = path.stat()
    return info.st_mode & 0o7777, info.st_mtime_ns


def test_two_hundred_files_killed_while_they_are_uploaded(mount: Mounted, witness: Witness) -> None:
    """Those that had arrived are not sent again, also where that was not written down yet."""
    mount.tell("pause")
    contents = {f"d{number % 7}/file{number}": some(100 + 700 * number, number) for number in range(200)}
    for name, data in contents.items():
        (mount.path / name).parent.mkdir(exist_ok=True)
        (mount.path / name).write_bytes(data)
    mount.kill9()
    mount.remount(*SOON, "--bwlimit", "10M")  # so that they do not all arrive before it is killed
    mount.until(lambda: len(inodes(mount.remote)) >= 40)
    mount.kill9()
    arrived = {path: found for path, found in inodes(mount.remote).items() if ".mountsync-tmp-" not in path}
    assert len(arrived) < 200
    mount.remount(*SOON)
    mount.settle()
    mount.agree()
    now = inodes(mount.remote)
    again = [path for path, found in arrived.items() if now[path][0] != found[0]]
    assert again == []
    assert {path: (mount.path / path).read_bytes() for path in contents} == contents
    witness.__exit__()
    assert witness.seen == {path: {digest(data)} for path, data in contents.items()}


def test_200_mb_killed_during_the_upload(mount: Mounted, witness: Witness) -> None:
    block = some(1 << 20)
    with open(mount.path / "large", "wb") as file:
        file.writelines(number.to_bytes(8, "big") + block[8:] for number in range(200))
    mount.kill9()
    mount.remount(*SOON, "--bwlimit", "60M")
    mount.until(lambda: any(transfer.done > 10 << 20 for transfer in mount.status().transfers))
    mount.kill9()
    assert not (mount.remote / "large").exists()
    mount.remount(*SOON)
    mount.settle()
    assert os.listdir(mount.remote) == ["large"], "the unfinished upload was left behind"
    mount.agree()
    witness.__exit__()
    assert len(witness.seen["large"]) == 1
    with open(mount.path / "large", "rb") as file:
        for number in range(200):
            assert file.read(1 << 20) == number.to_bytes(8, "big") + block[8:]


# Beyond the seventeen: what an end at a bad moment must not cost.


def test_upload_whose_answer_was_lost(mount: Mounted) -> None:
    """The remote has the bytes already: that is found out, nothing is sent and nobody conflicts."""
    data = some(300_000)
    (mount.path / "file").write_bytes(data)
    mtime = (mount.path / "file").stat().st_mtime_ns
    mount.kill9()
    (mount.remote / "file").write_bytes(data)
    os.utime(mount.remote / "file", ns=(mtime, mtime))
    before = inodes(mount.remote)
    mount.remount(*SOON)
    mount.settle()
    mount.agree()
    assert inodes(mount.remote) == before
    assert os.listdir(mount.path) == ["file"]


def test_killed_at_rest(mount: Mounted) -> None:
    """What is agreed stays agreed: nothing travels at the next start."""
    for number in range(20):
        (mount.path / f"file{number}").write_bytes(some(10_000 * number, number))
    mount.flush()
    before = inodes(mount.remote)
    revive(mount)
    mount.flush()
    assert inodes(mount.remote) == before


def test_killed_again_and_again_while_it_recovers(mount: Mounted) -> None:
    for number in range(30):
        (mount.path / f"file{number}").write_bytes(some(30_000, number))
    for _ in range(4):
        mount.kill9()
        mount.remount(*SOON)
    revive(mount)
    for number in range(30):
        assert (mount.path / f"file{number}").read_bytes() == some(30_000, number)
