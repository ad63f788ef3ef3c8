"""The mount process dies at once; what was acknowledged is there after the next start."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def dying(path: Path, flags: int = os.O_WRONLY | os.O_CREAT) -> Iterator[int]:
    """A descriptor of a file whose mount dies before it is closed."""
    fd = os.open(path, flags)
    try:
        yield fd
    finally:
        with contextlib.suppress(OSError):
            os.close(fd)


def again(new_mount, mount):
    """Kills the process, checks that the mount point is dead, and mounts the same state again."""
    mount.kill()
    with pytest.raises(OSError) as caught:
        os.listdir(mount.path)
    assert caught.value.errno in (errno.ENOTCONN, errno.ECONNABORTED)
    return new_mount()


def test_closed_files_are_whole(new_mount) -> None:
    mount = new_mount()
    wanted = {}
    for number in range(200):
        size = (0, 10, 4096, 65_536, 65_537, 300_000)[number % 6]
        wanted[f"f{number}"] = os.urandom(size)
        (mount.path / f"f{number}").write_bytes(wanted[f"f{number}"])
    mount = again(new_mount, mount)
    assert {name: (mount.path / name).read_bytes() for name in wanted} == wanted
    mount.stop()
    assert mount.check() == []


def test_fsynced_but_open(new_mount) -> None:
    mount = new_mount()
    with contextlib.ExitStack() as stack:
        for size in (100, 200_000):
            fd = stack.enter_context(dying(mount.path / f"f{size}"))
            os.write(fd, b"s" * size)
            os.fsync(fd)
            os.write(fd, b"unsynced")
        mount = again(new_mount, mount)
    for size in (100, 200_000):
        assert (mount.path / f"f{size}").read_bytes()[:size] == b"s" * size
    mount.stop()
    assert mount.check() == []


def test_neither_closed_nor_fsynced_is_never_torn(new_mount) -> None:
    mount = new_mount()
    (mount.path / "f").write_bytes(b"old" * 100)
    with dying(mount.path / "f", os.O_RDWR) as fd:
        os.write(fd, b"new" * 100)
        mount = again(new_mount, mount)
    assert (mount.path / "f").read_bytes() in (b"old" * 100, b"new" * 100)
    mount.stop()


def test_patch_in_the_middle_of_a_large_file(new_mount) -> None:
    mount = new_mount()
    data = bytearray(os.urandom(10 << 20))
    (mount.path / "big").write_bytes(data)
    with open(mount.path / "big", "r+b") as file:
        file.seek(5 << 20)
        file.write(b"patched")
        file.flush()
        os.fsync(file.fileno())
    data[5 << 20 : (5 << 20) + 7] = b"patched"
    mount = again(new_mount, mount)
    assert (mount.path / "big").read_bytes() == data
    mount.stop()
    assert mount.check() == []


def test_names_attributes_and_removals(new_mount) -> None:
    mount = new_mount()
    root = mount.path
    for name in ("a", "b", "c", "gone"):
        (root / name).write_text(name)
    os.rename(root / "a", root / "moved")
    (root / "gone").unlink()
    (root / "d/e/f").mkdir(parents=True)
    (root / "d/e/f/file").write_text("deep")
    os.rename(root / "d/e", root / "d/g")
    (root / "empty").mkdir()
    os.chmod(root / "b", 0o640)
    os.utime(root / "b", ns=(1_000_000_001, 2_000_000_002))
    os.truncate(root / "c", 0)
    with open(root / "b", "ab") as file:
        file.write(b"!")
    os.utime(root / "b", ns=(1_000_000_001, 2_000_000_002))
    (root / "tmp").write_text("saved")
    os.rename(root / "tmp", root / "moved")
    os.link(root / "b", root / "b2")
    os.symlink("b", root / "l")
    os.setxattr(root / "b", "user.x", b"1")
    mount = again(new_mount, mount)
    assert sorted(os.listdir(root)) == ["b", "b2", "c", "d", "empty", "l", "moved"]
    assert (root / "moved").read_text() == "saved"
    assert (root / "d/g/f/file").read_text() == "deep"
    assert (root / "b").read_text() == "b!"
    found = (root / "b").stat()
    assert (found.st_mode & 0o7777, found.st_mtime_ns, found.st_nlink) == (0o640, 2_000_000_002, 2)
    assert (root / "c").stat().st_size == 0
    assert os.readlink(root / "l") == "b"
    assert os.getxattr(root / "b", "user.x") == b"1"
    mount.stop()
    assert mount.check() == []


def test_unlinked_while_open_leaves_nothing(new_mount) -> None:
    mount = new_mount()
    with contextlib.ExitStack() as stack:
        for size in (10, 100_000):
            fd = stack.enter_context(dying(mount.path / f"f{size}"))
            os.write(fd, b"x" * size)
            os.fsync(fd)
            os.unlink(mount.path / f"f{size}")
        mount = again(new_mount, mount)
    assert os.listdir(mount.path) == []
    mount.stop()
    assert mount.check() == []
    assert [p for p in (mount.state / "content").rglob("*") if p.is_file()] == []


def test_under_load(new_mount) -> None:
    """Several writers are at work when the process dies: what they finished is there, byte for byte."""
    mount = new_mount()
    finished: list[tuple[str, bytes]] = []
    started = threading.Event()

    def writer(number: int) -> None:
        try:
            for turn in range(10_000):
                data = os.urandom((100, 5000, 70_000)[turn % 3])
                name = f"w{number}-{turn}"
                (mount.path / name).write_bytes(data)
                finished.append((name, data))
                if turn == 30:
                    started.set()
        except OSError:
            return

    threads = [threading.Thread(target=writer, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    assert started.wait(60)
    mount.kill()
    for thread in threads:
        thread.join(60)
    mount = new_mount()
    for name, data in finished:
        assert (mount.path / name).read_bytes() == data
    mount.stop()
    assert mount.check() == []
    assert len(finished) > 60


def test_orderly_stop_keeps_open_maps(new_mount) -> None:
    """Pages that only the kernel has are written before the mount goes."""
    mount = new_mount()
    path: Path = mount.path / "f"
    path.write_bytes(bytes(100_000))
    with open(path, "r+b") as file:
        view = mmap.mmap(file.fileno(), 100_000)
    view[50_000:50_004] = b"kept"
    assert mount.stop() == ""
    mount = new_mount()
    assert path.read_bytes()[50_000:50_004] == b"kept"
    mount.stop()
