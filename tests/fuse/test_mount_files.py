"""open, read, write, fsync, sparse files, mmap and locks through the kernel."""

import errno
import fcntl
import mmap
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest


def test_exclusive_create(folder: Path, raises) -> None:
    os.close(os.open(folder / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    with raises(errno.EEXIST):
        os.open(folder / "f", os.O_CREAT | os.O_EXCL | os.O_WRONLY)


@pytest.mark.parametrize("size", [10, 100_000])
def test_open_truncates(folder: Path, size: int) -> None:
    (folder / "f").write_bytes(b"x" * size)
    fd = os.open(folder / "f", os.O_TRUNC | os.O_RDWR)
    assert os.fstat(fd).st_size == 0
    assert os.read(fd, 10) == b""
    os.write(fd, b"new")
    os.close(fd)
    assert (folder / "f").read_bytes() == b"new"


def test_append_from_two_processes(folder: Path) -> None:
    script = (
        "import os,sys\nfd=os.open(sys.argv[1],os.O_WRONLY|os.O_APPEND|os.O_CREAT)\n"
        "for i in range(300): os.write(fd,(sys.argv[2]*99+'\\n').encode())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", script, str(folder / "f"), word]) for word in ("a", "b")
    ]
    assert [process.wait(60) for process in running] == [0, 0]
    lines = (folder / "f").read_text().splitlines()
    assert sorted(lines) == ["a" * 99] * 300 + ["b" * 99] * 300


@pytest.mark.parametrize("piece", [1, 1000, 4096, 65_536, 1 << 20])
def test_write_in_pieces(folder: Path, piece: int) -> None:
    data = os.urandom(min(3 << 20, piece * 200))
    with open(folder / "f", "wb", buffering=0) as file:
        for start in range(0, len(data), piece):
            assert file.write(data[start : start + piece]) == len(data[start : start + piece])
    assert (folder / "f").read_bytes() == data


def test_two_handles_see_each_other(folder: Path) -> None:
    with open(folder / "f", "w+b", buffering=0) as one, open(folder / "f", "r+b", buffering=0) as two:
        one.write(b"abc")
        assert two.read() == b"abc"
        two.write(b"def")
        assert os.pread(one.fileno(), 10, 0) == b"abcdef"


def test_sparse_file_counts_no_holes(folder: Path) -> None:
    with open(folder / "f", "wb") as file:
        file.seek(50 << 20)
        file.write(b"end")
    found = (folder / "f").stat()
    assert found.st_size == (50 << 20) + 3
    assert found.st_blocks * 512 < 1 << 20
    with open(folder / "f", "rb") as file:
        file.seek(25 << 20)
        assert file.read(4096) == bytes(4096)
        file.seek(50 << 20)
        assert file.read() == b"end"


def test_file_too_large(folder: Path, raises) -> None:
    with open(folder / "f", "wb", buffering=0) as file:
        with raises(errno.EINVAL):
            os.pwrite(file.fileno(), b"x", (1 << 63) - 1)


def test_fsync_and_directories(folder: Path) -> None:
    for size in (10, 100_000):
        with open(folder / "f", "wb") as file:
            file.write(b"x" * size)
            file.flush()
            os.fsync(file.fileno())
            os.fdatasync(file.fileno())
    fd = os.open(folder, os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    os.sync()
    assert (folder / "f").stat().st_size == 100_000


def test_programs_fall_back(folder: Path) -> None:
    with open(folder / "f", "wb") as file:
        os.posix_fallocate(file.fileno(), 0, 100)
        assert os.fstat(file.fileno()).st_size == 100
    with pytest.raises(OSError) as caught:
        os.open(folder, os.O_TMPFILE | os.O_RDWR)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_direct_io(folder: Path) -> None:
    (folder / "f").write_bytes(b"a" * 8192)
    fd = os.open(folder / "f", os.O_RDWR | os.O_DIRECT)
    try:
        page = mmap.mmap(-1, 4096)
        assert os.preadv(fd, [page], 4096) == 4096
        assert page[:] == b"a" * 4096
        page[:] = b"b" * 4096
        assert os.pwritev(fd, [page], 0) == 4096
    finally:
        os.close(fd)
    assert (folder / "f").read_bytes() == b"b" * 4096 + b"a" * 4096


@pytest.mark.parametrize("size", [5000, 300_000])
def test_mmap_shared(folder: Path, size: int) -> None:
    path = folder / "f"
    data = bytearray(os.urandom(size))
    path.write_bytes(data)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), size) as view:
        assert view[:] == bytes(data)
        rng = random.Random(size)
        for _ in range(200):
            at = rng.randrange(size)
            data[at] = view[at] = rng.randrange(256)
        assert os.pread(file.fileno(), size, 0) == bytes(data)
        os.pwrite(file.fileno(), b"by write", 100)
        data[100:108] = b"by write"
        assert view[100:108] == b"by write"
        view.flush()
    assert path.read_bytes() == bytes(data)


def test_mmap_outlives_its_descriptor_and_name(folder: Path) -> None:
    path = folder / "f"
    path.write_bytes(b"x" * 10_000)
    with open(path, "r+b") as file:
        view = mmap.mmap(file.fileno(), 10_000)
    path.unlink()
    view[5000:5003] = b"yyy"
    assert view[4999:5004] == b"xyyyx"
    view.close()


def test_mmap_private_changes_nothing(folder: Path) -> None:
    path = folder / "f"
    path.write_bytes(b"x" * 5000)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 5000, flags=mmap.MAP_PRIVATE) as view:
        view[0:3] = b"abc"
    assert path.read_bytes() == b"x" * 5000


def test_execute(folder: Path) -> None:
    program = folder / "p"
    program.write_text("#!/bin/sh\necho ran $1\n")
    os.chmod(program, 0o755)
    assert subprocess.check_output([program, "well"]) == b"ran well\n"


LOCKER = """
import fcntl, sys
file = open(sys.argv[1], "r+b")
try:
    if sys.argv[2] == "flock":
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    else:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 10, int(sys.argv[3]))
except OSError:
    sys.exit(3)
"""


def test_locks_between_processes(folder: Path) -> None:
    path = folder / "f"
    path.write_bytes(bytes(100))

    def other(*words: str) -> int:
        return subprocess.run([sys.executable, "-c", LOCKER, str(path), *words], check=False).returncode

    with open(path, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert other("flock") == 3
        fcntl.flock(file, fcntl.LOCK_UN)
        assert other("flock") == 0
        fcntl.lockf(file, fcntl.LOCK_EX, 10, 0)
        assert other("lockf", "0") == 3
        assert other("lockf", "50") == 0


def test_copy_within_the_mount(folder: Path) -> None:
    data = os.urandom(500_000)
    (folder / "a").write_bytes(data)
    with open(folder / "a", "rb") as source, open(folder / "b", "wb") as target:
        left = len(data)
        while left:
            left -= os.copy_file_range(source.fileno(), target.fileno(), left)
    assert (folder / "b").read_bytes() == data


def test_read_only_mount(new_mount, raises) -> None:
    mount = new_mount()
    (mount.path / "f").write_text("x")
    mount.stop()
    mount = new_mount("read-only")
    assert (mount.path / "f").read_text() == "x"
    with raises(errno.EROFS):
        (mount.path / "g").write_text("x")
    with raises(errno.EROFS):
        os.chmod(mount.path / "f", 0)
    mount.stop()
