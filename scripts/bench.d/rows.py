"""What is measured. Each row leaves the folder as it found it, but for `Work.folder`."""

from __future__ import annotations

import mmap
import os
import random
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from fixtures import GIT, Fixtures
from targets import Target, wait_for

KIB4 = os.urandom(4096)
MIB = os.urandom(1 << 20)


@dataclass
class Work:
    """One measurement: a fresh folder in a target, and sizes."""

    target: Target
    folder: Path
    fixtures: Fixtures
    files: int
    big_mib: int

    @property
    def remote(self) -> Path:
        """The same folder on the remote."""
        assert self.target.remote is not None
        return self.target.remote / self.folder.name


@dataclass(frozen=True)
class Row:
    """`bar`: the least factor by which mountsync is to be better than rclone; 0: none set."""

    name: str
    unit: str
    bar: float
    run: Callable[[Work], float]
    needs_remote: bool = False
    """Measured only where there is a remote behind the folder."""

    @property
    def more_is_better(self) -> bool:
        return self.unit.endswith("/s")


def clock(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def drop_caches() -> None:
    """Forgets clean pages, names and attributes; needs root."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")


def small(work: Work, count: int | None = None) -> list[str]:
    """Files of 4 KiB."""
    names = [f"{work.folder}/f{number:05d}" for number in range(count or work.files)]
    for name in names:
        create(name)
    return names


def create(name: str) -> None:
    fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    os.write(fd, KIB4)
    os.close(fd)


def read(name: str) -> None:
    fd = os.open(name, os.O_RDONLY)
    os.read(fd, 1 << 20)
    os.close(fd)


def each(names: Iterable[str], work: Callable[[str], object]) -> Callable[[], None]:
    def run() -> None:
        for name in names:
            work(name)

    return run


def open_close(name: str) -> None:
    os.close(os.open(name, os.O_RDONLY))


def shuffled(names: list[str]) -> list[str]:
    return random.Random(1).sample(names, len(names))


def getattr_uncached(work: Work) -> float:
    names = shuffled(small(work))
    drop_caches()
    return clock(each(names, os.stat)) / len(names) * 1e6


def getattr_known(work: Work) -> float:
    names = small(work)
    each(names, os.stat)()
    return clock(each(names, os.stat)) / len(names) * 1e6


def opening(work: Work) -> float:
    names = small(work)
    each(names, read)()
    return clock(each(names, open_close)) / len(names) * 1e6


def creating(work: Work) -> float:
    names = [f"{work.folder}/f{number:05d}" for number in range(work.files)]
    return len(names) / clock(each(names, create))


def open_read(work: Work) -> float:
    names = shuffled(small(work))
    return len(names) / clock(each(names, read))


def unlinking(work: Work) -> float:
    names = small(work)
    return len(names) / clock(each(names, os.unlink))


def create_unlink(work: Work) -> float:
    def both(name: str) -> None:
        create(name)
        os.unlink(name)

    names = [f"{work.folder}/f{number:05d}" for number in range(work.files)]
    return len(names) / clock(each(names, both))


def write_fsync(work: Work) -> float:
    def save(name: str) -> None:
        fd = os.open(name, os.O_WRONLY | os.O_CREAT, 0o644)
        os.write(fd, KIB4)
        os.fsync(fd)
        os.close(fd)

    names = [f"{work.folder}/f{number:05d}" for number in range(work.files // 4)]
    return len(names) / clock(each(names, save))


def making_folders(work: Work) -> float:
    names = [f"{work.folder}/d{number:05d}" for number in range(work.files)]
    return len(names) / clock(each(names, os.mkdir))


def renaming(work: Work) -> float:
    names = small(work)
    return len(names) / clock(each(names, lambda name: os.rename(name, name + "r")))


def _many(work: Work) -> Path:
    folder = work.folder / "many"
    folder.mkdir()
    for number in range(work.files * 5):
        os.close(os.open(f"{folder}/e{number:06d}", os.O_WRONLY | os.O_CREAT, 0o644))
    return folder


def listing(work: Work) -> float:
    folder = _many(work)
    os.listdir(folder)
    return clock(lambda: os.listdir(folder)) * 1e3


def listing_long(work: Work) -> float:
    folder = _many(work)
    command = ["ls", "-l", str(folder)]
    return clock(lambda: subprocess.run(command, stdout=subprocess.DEVNULL, check=True)) * 1e3


def _big(work: Work) -> str:
    name = f"{work.folder}/big"
    fd = os.open(name, os.O_WRONLY | os.O_CREAT, 0o644)
    for _ in range(work.big_mib):
        os.write(fd, MIB)
    os.close(fd)
    return name


def write_1m(work: Work) -> float:
    return work.big_mib / clock(lambda: _big(work))


def write_4k(work: Work) -> float:
    mib = work.big_mib // 4

    def run() -> None:
        fd = os.open(f"{work.folder}/big", os.O_WRONLY | os.O_CREAT, 0o644)
        for _ in range(mib * 256):
            os.write(fd, KIB4)
        os.close(fd)

    return mib / clock(run)


def _forget_pages(name: str) -> None:
    fd = os.open(name, os.O_RDONLY)
    os.fsync(fd)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)


def _read_all(name: str) -> None:
    fd = os.open(name, os.O_RDONLY)
    room = bytearray(1 << 20)
    while os.readv(fd, [room]):
        pass
    os.close(fd)


def read_1m(work: Work) -> float:
    name = _big(work)
    _forget_pages(name)
    return work.big_mib / clock(lambda: _read_all(name))


def read_warm(work: Work) -> float:
    name = _big(work)
    _read_all(name)
    return work.big_mib / clock(lambda: _read_all(name))


def _offsets(work: Work, count: int) -> list[int]:
    chance = random.Random(3)
    return [chance.randrange(work.big_mib * 256) * 4096 for _ in range(count)]


def random_read(work: Work) -> float:
    name = _big(work)
    _forget_pages(name)
    fd = os.open(name, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_RANDOM)
    offsets = _offsets(work, 20_000)
    took = clock(lambda: [os.pread(fd, 4096, offset) for offset in offsets])
    os.close(fd)
    return len(offsets) / took


def random_write(work: Work) -> float:
    name = _big(work)
    offsets = _offsets(work, 20_000)

    def run() -> None:
        fd = os.open(name, os.O_WRONLY)
        for offset in offsets:
            os.pwrite(fd, KIB4, offset)
        os.close(fd)

    return len(offsets) / clock(run)


def _sh(*command: str) -> Callable[[], object]:
    environment = os.environ | GIT
    return lambda: subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)


def untar(work: Work) -> float:
    return clock(_sh("tar", "xf", str(work.fixtures.tar), "-C", str(work.folder)))


def tar_all(work: Work) -> float:
    untar(work)
    work.target.settle()
    return clock(_sh("sh", "-c", 'tar c "$1" | cat', "sh", str(work.folder)))


def remove_tree(work: Work) -> float:
    untar(work)
    return clock(_sh("rm", "-rf", *(str(path) for path in work.folder.iterdir())))


def git_clone(work: Work) -> float:
    clone = ["git", "clone", "-q", "--no-hardlinks", str(work.fixtures.repository), f"{work.folder}/clone"]
    return clock(_sh(*clone))


def git_status(work: Work) -> float:
    git_clone(work)
    status = ["git", "-C", f"{work.folder}/clone", "-c", "safe.directory=*", "status", "--porcelain"]
    _sh(*status)()
    return clock(_sh(*status))


def drain_small(work: Work) -> float:
    """From the first create until all is on the remote."""

    def run() -> None:
        small(work)
        wait_for(lambda: _arrived(work), "small files on the remote", 600)

    return work.files / clock(run)


def _arrived(work: Work) -> bool:
    if not work.remote.is_dir():
        return False
    return sum(1 for entry in os.scandir(work.remote) if entry.name.startswith("f")) >= work.files


def _cold(work: Work) -> str:
    """A large file that only the remote holds, its names known to the mount."""
    work.remote.mkdir(exist_ok=True)
    with open(work.remote / "large", "wb") as file:
        file.writelines(MIB for _ in range(work.big_mib))
    work.target.forget()
    name = f"{work.folder}/large"
    wait_for(lambda: os.path.exists(name), "the remote file to be seen", 330)
    return name


def cold_first_byte(work: Work) -> float:
    name = _cold(work)

    def run() -> None:
        fd = os.open(name, os.O_RDONLY)
        os.pread(fd, 1, 0)
        os.close(fd)

    return clock(run) * 1e3


def cold_one_percent(work: Work) -> float:
    name = _cold(work)

    def run() -> None:
        fd = os.open(name, os.O_RDONLY)
        middle, length = work.big_mib << 19, (work.big_mib << 20) // 100
        for offset in range(middle, middle + length, 131_072):
            os.pread(fd, 131_072, offset)
        os.close(fd)

    return clock(run) * 1e3


def cold_stream(work: Work) -> float:
    name = _cold(work)
    return work.big_mib / clock(lambda: _read_all(name))


def visible(work: Work) -> float:
    """From a change of the remote until a listing shows it, in s; 30 stands for 30 or more."""
    work.remote.mkdir(exist_ok=True)
    os.listdir(work.folder)

    def run() -> None:
        (work.remote / "news").write_bytes(KIB4)
        with suppress(TimeoutError):
            wait_for(lambda: "news" in os.listdir(work.folder), "the news", 30)

    return clock(run)


def mapped(work: Work) -> float:
    """Random 4 KiB changes through a shared map, then msync."""
    name = _big(work)
    offsets = _offsets(work, 5000)

    def run() -> None:
        with open(name, "r+b") as file, mmap.mmap(file.fileno(), 0) as area:
            for offset in offsets:
                area[offset : offset + 8] = b"mountsyn"
            area.flush()

    return len(offsets) / clock(run)


ROWS = [
    Row("getattr", "us", 5, getattr_uncached),
    Row("stat-known", "us", 0, getattr_known),
    Row("open-close", "us", 4, opening),
    Row("write-1m", "MiB/s", 2, write_1m),
    Row("write-4k", "MiB/s", 15, write_4k),
    Row("read-1m", "MiB/s", 3, read_1m),
    Row("read-warm", "MiB/s", 8, read_warm),
    Row("random-read", "ops/s", 3, random_read),
    Row("random-write", "ops/s", 8, random_write),
    Row("mmap-write", "ops/s", 0, mapped),
    Row("create", "files/s", 8, creating),
    Row("open-read", "files/s", 6, open_read),
    Row("write-fsync", "files/s", 0, write_fsync),
    Row("unlink", "files/s", 8, unlinking),
    Row("create-unlink", "files/s", 6, create_unlink),
    Row("mkdir", "ops/s", 0, making_folders),
    Row("rename", "ops/s", 5, renaming),
    Row("readdir", "ms", 0, listing),
    Row("ls-l", "ms", 10, listing_long),
    Row("untar", "s", 10, untar),
    Row("tar-c", "s", 8, tar_all),
    Row("rm-rf", "s", 7, remove_tree),
    Row("git-clone", "s", 8, git_clone),
    Row("git-status", "s", 4, git_status),
    Row("drain-small", "files/s", 3, drain_small, needs_remote=True),
    Row("cold-first-byte", "ms", 0, cold_first_byte, needs_remote=True),
    Row("cold-1-percent", "ms", 0, cold_one_percent, needs_remote=True),
    Row("cold-stream", "MiB/s", 2, cold_stream, needs_remote=True),
    Row("visible", "s", 0, visible, needs_remote=True),
]


def clean(work: Work) -> None:
    """Removes what a row left, on both sides."""
    shutil.rmtree(work.folder, ignore_errors=True)
    work.target.settle()
