"""rename with all its flags and errors through the kernel."""

import ctypes
import errno
import os
import time
from pathlib import Path

import pytest

libc = ctypes.CDLL(None, use_errno=True)
NOREPLACE, EXCHANGE = 1, 2
TICK_S = 0.02
"""The kernel's own times come from a clock of coarse ticks."""


def renameat2(source: Path, target: Path, flags: int) -> None:
    if libc.renameat2(-100, os.fsencode(source), -100, os.fsencode(target), flags) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


def test_over_a_file(folder: Path) -> None:
    (folder / "a").write_text("new")
    (folder / "b").write_text("old")
    inode = (folder / "a").stat().st_ino
    with open(folder / "b") as reader:
        os.rename(folder / "a", folder / "b")
        assert reader.read() == "old"
    assert (folder / "b").read_text() == "new"
    assert (folder / "b").stat().st_ino == inode
    assert os.listdir(folder) == ["b"]


def test_between_directories_moves_links(folder: Path) -> None:
    for name in ("x", "y", "x/d", "x/d/e"):
        (folder / name).mkdir()
    (folder / "x/d/e/f").write_text("deep")
    os.rename(folder / "x/d", folder / "y/d")
    assert (folder / "x").stat().st_nlink == 2
    assert (folder / "y").stat().st_nlink == 3
    assert (folder / "y/d/e/f").read_text() == "deep"
    assert not (folder / "x/d").exists()


@pytest.mark.parametrize(
    ("source", "target", "number"),
    [
        ("file", "full", errno.EISDIR),
        ("file", "empty", errno.EISDIR),
        ("empty", "file", errno.ENOTDIR),
        ("empty", "full", errno.ENOTEMPTY),
        ("full", "full/inside/x", errno.EINVAL),
        ("missing", "file", errno.ENOENT),
        ("file", "missing/x", errno.ENOENT),
        ("file", "other/x", errno.ENOTDIR),
        ("file", "n" * 256, errno.ENAMETOOLONG),
    ],
)
def test_refusals(folder: Path, raises, source: str, target: str, number: int) -> None:
    (folder / "file").write_text("f")
    (folder / "other").write_text("o")
    (folder / "empty").mkdir()
    (folder / "full/inside").mkdir(parents=True)
    before = sorted(folder.rglob("*"))
    with raises(number):
        os.rename(folder / source, folder / target)
    assert sorted(folder.rglob("*")) == before


def test_directory_over_an_empty_one(folder: Path) -> None:
    (folder / "a/b").mkdir(parents=True)
    (folder / "e").mkdir()
    os.rename(folder / "a", folder / "e")
    assert os.listdir(folder) == ["e"]
    assert os.listdir(folder / "e") == ["b"]
    assert folder.stat().st_nlink == 3


def test_directory_over_an_empty_one_elsewhere(folder: Path) -> None:
    (folder / "from/a/inner").mkdir(parents=True)
    (folder / "to/e").mkdir(parents=True)
    os.rename(folder / "from/a", folder / "to/e")
    assert os.listdir(folder / "to/e") == ["inner"]
    assert (folder / "from").stat().st_nlink == 2
    assert (folder / "to").stat().st_nlink == 3


def test_two_names_of_one_file(folder: Path) -> None:
    (folder / "a").write_text("x")
    os.link(folder / "a", folder / "b")
    os.rename(folder / "a", folder / "b")
    assert sorted(os.listdir(folder)) == ["a", "b"]


def test_noreplace(folder: Path, raises) -> None:
    (folder / "a").write_text("a")
    (folder / "b").write_text("b")
    with raises(errno.EEXIST):
        renameat2(folder / "a", folder / "b", NOREPLACE)
    renameat2(folder / "a", folder / "c", NOREPLACE)
    assert (folder / "c").read_text() == "a"
    assert (folder / "b").read_text() == "b"


def test_exchange(folder: Path, raises) -> None:
    (folder / "f").write_text("file")
    (folder / "p/d").mkdir(parents=True)
    renameat2(folder / "f", folder / "p/d", EXCHANGE)
    assert (folder / "p/d").read_text() == "file"
    assert (folder / "f").is_dir()
    assert (folder / "p").stat().st_nlink == 2
    assert folder.stat().st_nlink == 4
    with raises(errno.ENOENT):
        renameat2(folder / "f", folder / "x", EXCHANGE)
    with raises(errno.EINVAL):
        renameat2(folder / "f", folder / "p", 4 | EXCHANGE)


def test_of_an_open_dirty_file(folder: Path) -> None:
    with open(folder / "a", "wb") as file:
        file.write(b"half")
        file.flush()
        os.rename(folder / "a", folder / "b")
        file.write(b"whole")
    assert (folder / "b").read_bytes() == b"halfwhole"
    assert os.listdir(folder) == ["b"]


def test_moves_ctime(folder: Path) -> None:
    (folder / "a").write_text("")
    before = (folder / "a").stat()
    time.sleep(TICK_S)
    os.rename(folder / "a", folder / "b")
    after = (folder / "b").stat()
    assert after.st_mtime_ns == before.st_mtime_ns
    assert after.st_ctime_ns > before.st_ctime_ns
