"""rclone and a real mount over one base: each reads what the other wrote, in every mode."""

from __future__ import annotations

import errno
import hashlib
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import trio

from mountsync.storage.chunker import fsck, gc
from tests.parts.bodies import body
from tests.parts.chunkers import chunker_over
from tests.parts.rclone import Rclone, files_in
from tests.parts.real_mount import Mounted

SIZE = 16_384
ODD = "sub folder/ lead trail /big%d*#é😀."
THEIRS = {
    "big.bin": body(13 * SIZE + 5, 1),
    "exact.bin": body(2 * SIZE, 2),
    "meta.json": b'{"ver":1,"size":3,"nchunks":1}',
    "small.txt": b"hello chunker\n",
    "zero.bin": b"",
    "moving/a/b.bin": body(3 * SIZE, 3),
    "moving/c.txt": b"c",
    "shrink.bin": body(4 * SIZE, 4),
    "gone.bin": body(2 * SIZE + 1, 5),
    ODD: body(2 * SIZE + 7, 6),
}
LONGEST = "new/" + "s" * 255
OURS = {
    "new/zero": b"",
    "new/small": b"a few bytes",
    "new/exact": body(SIZE, 11),
    "new/over": body(SIZE + 1, 12),
    "new/twice": body(2 * SIZE, 13),
    "new/large": body(20 * SIZE + 99, 14),
    "new/meta": b'{"ver":1,"size":30,"nchunks":1}',
    "new/tab\tline\nstar*hash#%d\\": body(SIZE + 2, 15),
    "new/e\u0301 tre\u0300s": body(SIZE + 3, 16),
    "new/" + "n" * 231: body(2 * SIZE, 17),
    LONGEST: body(SIZE, 18),
}
HASHES = ["none", "md5", "sha1", "md5all", "sha1all", "md5quick", "sha1quick"]
MODES = [(name, "simplejson", way) for name in HASHES for way in ("rename", "norename")]
MODES += [("md5", "simplejson", "auto"), ("none", "none", "rename")]


class World:
    """A base, rclone's chunker over it, and a mount of ours."""

    def __init__(self, home: Path, mode: tuple[str, str, str]) -> None:
        self.home, self.base = home, home / "base"
        self.base.mkdir()
        self.hash = mode[0]
        self.always = mode[0].endswith("all") or mode[1] == "none"
        """Whether every file lies in chunks, so that names have to be shorter."""
        self.sources = 0
        options = dict(zip(("hash_type", "meta_format", "transactions"), mode, strict=True))
        options["chunk_size"] = f"{SIZE}B"
        self.options = options
        self.rclone = Rclone(self.base, home, **options)
        text = ",".join(f"{name}={value}" for name, value in options.items())
        self.spec = f":chunker,remote={self.base},{text}:"
        self.mount = Mounted(home, remote=self.base, spec=self.spec)
        self.path = self.mount.path

    def rclone_writes(self, files: dict[str, bytes], stamp: int = 1_000_000_000_123_456_789) -> None:
        self.sources += 1
        source = self.home / f"source{self.sources}"
        for name, data in files.items():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes(data)
            os.utime(source / name, ns=(stamp, stamp))
        self.rclone.ok("copy", source, "C:")

    def we_write(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            (self.path / name).parent.mkdir(parents=True, exist_ok=True)
            (self.path / name).write_bytes(data)

    def agree(self) -> dict[str, bytes]:
        """Both see the same names, sizes, times and bytes; the files."""
        self.mount.flush()
        shown = files_in(self.path)
        assert sorted(self.listing("C:")) == sorted(self.listing(self.path))
        self.rclone.ok("check", self.path, "C:")
        self.rclone.ok("check", "--download", self.path, "C:")
        return shown

    def listing(self, of: object) -> list[str]:
        return self.rclone.ok("lsl", of).decode().splitlines()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[Callable[..., World]]:
    made: list[World] = []

    def start(*mode: str) -> World:
        made.append(World(tmp_path, mode))
        return made[-1]

    yield start
    for each in made:
        each.mount.end()


@pytest.mark.parametrize("mode", MODES, ids="-".join)
def test_both_ways(world: Callable[..., World], mode: tuple[str, str, str]) -> None:
    w = world(*mode)
    w.rclone_writes(THEIRS)
    w.mount.start()
    with open(w.path / "big.bin", "rb") as file:  # cold: only some of the chunks are asked for
        for offset, count in ((SIZE - 1, 2), (5 * SIZE, SIZE), (13 * SIZE, 100), (14 * SIZE, 10)):
            assert os.pread(file.fileno(), count, offset) == THEIRS["big.bin"][offset : offset + count]
    assert files_in(w.path) == THEIRS
    assert {at.stat().st_mtime_ns for at in w.path.rglob("*") if at.is_file()} == {1_000_000_000_123_456_789}
    ours = {name: data for name, data in OURS.items() if name != LONGEST or not w.always}
    w.we_write(ours)
    if w.always:
        with pytest.raises(OSError, match="too long"):
            (w.path / LONGEST).touch()
    wanted = THEIRS | ours | change(w.path)
    for name in ("gone.bin", "moving/a/b.bin", "moving/c.txt"):
        del wanted[name]
    assert w.agree() == wanted
    check_sums(w)
    for name in ("new/large", "small.txt", "big.bin"):
        told = os.getxattr(w.path / name, "user.mountsync.sha256").decode()
        assert told == hashlib.sha256(wanted[name]).hexdigest()
    for offset, count in ((SIZE - 1, 2), (19 * SIZE, 2 * SIZE)):
        got = w.rclone.ok("cat", "--offset", offset, "--count", count, "C:new/large")
        assert got == OURS["new/large"][offset : offset + count]
    assert w.rclone.contents(w.home / "out") == wanted
    w.mount.umount()
    trio.run(check_base, w)


def change(path: Path) -> dict[str, bytes]:
    """Changes files of rclone's through the mount; what they hold now. Some names are given up."""
    at = random.Random(7)
    big = bytearray(THEIRS["big.bin"])
    with open(path / "big.bin", "r+b") as file:
        for _ in range(12):
            offset, data = at.randrange(len(big)), at.randbytes(at.randrange(1, 500))
            os.pwrite(file.fileno(), data, offset)
            big[offset : offset + len(data)] = data
        del big[11 * SIZE + 3 :]
        os.ftruncate(file.fileno(), len(big))
    os.truncate(path / "shrink.bin", 100)
    (path / "small.txt").write_bytes(body(3 * SIZE + 1, 21))
    os.truncate(path / "zero.bin", SIZE + 10)
    (path / "exact.bin").write_bytes(body(2 * SIZE, 22))
    (path / "gone.bin").unlink()
    os.rename(path / "moving", path / "moved")
    os.rename(path / "moved/a/b.bin", path / "moved/renamed.bin")
    return {
        "big.bin": bytes(big),
        "shrink.bin": THEIRS["shrink.bin"][:100],
        "small.txt": body(3 * SIZE + 1, 21),
        "zero.bin": bytes(SIZE + 10),
        "exact.bin": body(2 * SIZE, 22),
        "moved/renamed.bin": THEIRS["moving/a/b.bin"],
        "moved/c.txt": b"c",
    }


def check_sums(w: World) -> None:
    """rclone's sums are those of the contents, where the mode keeps some."""
    name = w.hash.removesuffix("all").removesuffix("quick")
    if name == "none":
        return
    digest = hashlib.new(name, OURS["new/large"]).hexdigest()
    if not w.hash.endswith("quick"):  # those are not advertised, so rclone does not print them
        told = w.rclone.ok("hashsum", name, "C:").decode().splitlines()
        assert sorted(told) == sorted(w.rclone.ok("hashsum", name, w.path).decode().splitlines())
        assert f"{digest}  new/large" in told
    assert digest.encode() in (w.base / "new/large").read_bytes()


async def check_base(w: World) -> None:
    """Every file is sound, and nothing is there that belongs to none."""
    async with chunker_over(w.base, w.home / "check", **w.options) as storage:
        assert await fsck.check(storage, contents=True) == []
        assert await gc.find_leftovers(storage) == []


@pytest.mark.parametrize("way", ["rename", "norename"])
def test_turns(world: Callable[..., World], way: str) -> None:
    """rclone changes files behind the mount, the mount overwrites, and so on; nothing is left over."""
    w = world("md5", "simplejson", way)
    w.rclone_writes({"f": body(35_000, 0), "d/g": body(50_000, 0)})
    w.mount.start()
    for n, size in enumerate((60_000, 10, 4 * SIZE)):
        w.we_write({"f": body(size, n), "d/g": body(2 * size + 1, n)})
        assert w.agree() == {"f": body(size, n), "d/g": body(2 * size + 1, n)}
        w.rclone_writes({"f": body(size + 20_000, n)}, stamp=1_600_000_000_000_000_000 + n)
        w.rclone.ok("moveto", "C:d/g", "C:d/h")
        w.mount.flush()
        assert files_in(w.path) == {"f": body(size + 20_000, n), "d/h": body(2 * size + 1, n)}
        os.rename(w.path / "d/h", w.path / "d/g")
    assert len(w.agree()) == 2
    (w.path / "f").unlink()
    (w.path / "d/g").unlink()
    w.mount.flush()
    assert files_in(w.base) == {}
    w.mount.umount()


def test_a_name_too_long_for_chunks(world: Callable[..., World]) -> None:
    """The program is told; what was acknowledged before stays, and rclone reads it."""
    w = world("md5", "simplejson", "rename")
    w.mount.start()
    name = "n" * 240
    w.we_write({name: body(SIZE, 1), "short": body(2 * SIZE, 2)})
    with pytest.raises(OSError, match="too long") as refused:
        os.truncate(w.path / name, SIZE + 1)
    assert refused.value.errno == errno.ENAMETOOLONG
    with pytest.raises(OSError, match="too long") as refused:
        os.rename(w.path / "short", w.path / name)
    with pytest.raises(OSError, match="too long") as refused:
        (w.path / ("m" * 240)).write_bytes(body(9 * SIZE, 3))
    assert refused.value.errno == errno.ENAMETOOLONG
    with open(w.path / name, "r+b", buffering=0) as file:  # not emptied: the kernel gathers the writes
        file.write(body(2 * SIZE, 4))
        with pytest.raises(OSError, match="too long"):
            os.fsync(file.fileno())
        file.truncate(0)
        file.seek(0)
        file.write(body(SIZE, 1))
    with pytest.raises(OSError, match="nvalid") as refused:
        (w.path / "short.rclone_chunk.001").write_bytes(b"x")
    assert refused.value.errno == errno.EINVAL
    (w.path / ("m" * 240)).unlink()
    assert w.agree() == {name: body(SIZE, 1), "short": body(2 * SIZE, 2)}
    w.mount.umount()


def sha256_told(path: Path) -> str | None:
    """What the attribute says; None for ENODATA."""
    try:
        return os.getxattr(path, "user.mountsync.sha256").decode()
    except OSError as error:
        assert error.errno == errno.ENODATA
        return None


def test_the_digest_of_a_file_that_was_only_read(world: Callable[..., World]) -> None:
    """It is computed of what is here; what is not here is not fetched for it."""
    w = world("md5", "simplejson", "rename")
    files = {"d/large": body(200_000, 1), "d/small": body(100, 2), "cold": body(3 * SIZE, 3)}
    w.rclone_writes(files)
    w.mount.start()
    for name in files:
        (w.path / name).stat()
        assert sha256_told(w.path / name) is None
        assert os.getxattr(w.path / name, "user.mountsync.state") == b"cloud"
    for name in ("d/large", "d/small"):
        assert (w.path / name).read_bytes() == files[name]
        assert sha256_told(w.path / name) == hashlib.sha256(files[name]).hexdigest()
        os.rename(w.path / name, w.path / f"{name} renamed")
    w.mount.flush()
    for name in ("d/large", "d/small"):
        assert sha256_told(w.path / f"{name} renamed") == hashlib.sha256(files[name]).hexdigest()
    wanted = hashlib.sha256(b"not agreed" + files["d/small"][10:]).hexdigest()
    with open(w.path / "d/small renamed", "r+b", buffering=0) as file:
        file.write(b"not agreed")
        os.fsync(file.fileno())
        assert sha256_told(w.path / "d/small renamed") in (None, wanted)
    w.mount.flush()
    assert sha256_told(w.path / "d/small renamed") == wanted
    w.mount.umount()


def test_a_damaged_file_behind_a_mount(world: Callable[..., World]) -> None:
    """It is shown; reading it is EIO; it can be replaced and deleted; what is here already is kept."""
    w = world("md5", "simplejson", "rename")
    w.rclone_writes({"hole": body(4 * SIZE, 1), "lost": body(3 * SIZE, 2), "sound": b"x"})
    for name in ("hole", "lost"):
        (w.base / f"{name}.rclone_chunk.002").unlink()
    w.mount.start()
    assert {at.name for at in w.path.iterdir()} == {"hole", "lost", "sound"}
    for name in ("hole", "lost"):
        with pytest.raises(OSError) as refused:
            (w.path / name).read_bytes()
        assert refused.value.errno == errno.EIO
    (w.path / "lost").unlink()
    (w.path / "hole").write_bytes(body(2 * SIZE, 3))
    w.mount.flush()
    assert w.agree() == {"hole": body(2 * SIZE, 3), "sound": b"x"}
    w.mount.umount()
