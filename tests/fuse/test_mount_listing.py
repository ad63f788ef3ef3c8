"""readdir, statfs, access and extended attributes through the kernel."""

import errno
import os
import subprocess
from pathlib import Path

import pytest


def test_dots_and_kinds(folder: Path) -> None:
    (folder / "d").mkdir()
    (folder / "f").write_text("")
    (folder / "l").symlink_to("f")
    found = {
        entry.name: (entry.is_dir(follow_symlinks=False), entry.is_symlink()) for entry in os.scandir(folder)
    }
    assert found == {"d": (True, False), "f": (False, False), "l": (False, True)}
    assert subprocess.check_output(["ls", "-a", folder], text=True).split() == [".", "..", "d", "f", "l"]


@pytest.mark.parametrize("count", [0, 1, 39, 40, 41, 1000])
def test_every_entry_once(folder: Path, count: int) -> None:
    for number in range(count):
        os.mknod(folder / f"file-{number:04}")
    assert sorted(os.listdir(folder)) == [f"file-{n:04}" for n in range(count)]


def test_listing_while_entries_come_and_go(folder: Path) -> None:
    stay = {f"s{number:04}" for number in range(500)}
    for name in stay:
        os.mknod(folder / name)
        os.mknod(folder / f"g{name}")
    seen = []
    with os.scandir(folder) as entries:
        for number, entry in enumerate(entries):
            seen.append(entry.name)
            if number % 3 == 0 and number < 400:
                (folder / f"gs{number:04}").unlink(missing_ok=True)
                os.mknod(folder / f"n{number}")
    assert len(seen) == len(set(seen))
    assert stay <= set(seen)


def test_remove_while_listing(folder: Path) -> None:
    for number in range(800):
        os.mknod(folder / f"f{number}")
    for entry in os.scandir(folder):
        os.unlink(entry.path)
    assert os.listdir(folder) == []


def test_rewind(folder: Path) -> None:
    (folder / "a").write_text("")
    fd = os.open(folder, os.O_RDONLY)
    try:
        assert os.listdir(fd) == ["a"]
        (folder / "b").write_text("")
        assert sorted(os.listdir(fd)) == ["a", "b"]
    finally:
        os.close(fd)


def test_statfs(folder: Path) -> None:
    found = os.statvfs(folder)
    assert found.f_bsize == 4096
    assert 0 < found.f_bavail <= found.f_bfree <= found.f_blocks
    assert found.f_namemax == 255


def test_access(folder: Path) -> None:
    (folder / "f").write_text("")
    os.chmod(folder / "f", 0o644)
    assert os.access(folder / "f", os.R_OK | os.W_OK)
    assert not os.access(folder / "f", os.X_OK)


def test_xattrs(folder: Path, raises) -> None:
    file = folder / "f"
    file.write_text("x")
    assert os.listxattr(file) == []
    os.setxattr(file, "user.one", b"1")
    os.setxattr(file, "user.two", b"\0\xff" * 100)
    os.setxattr(file, "user.none", b"")
    assert sorted(os.listxattr(file)) == ["user.none", "user.one", "user.two"]
    assert os.getxattr(file, "user.two") == b"\0\xff" * 100
    assert os.getxattr(file, "user.none") == b""
    with raises(errno.EEXIST):
        os.setxattr(file, "user.one", b"2", os.XATTR_CREATE)
    with raises(errno.ENODATA):
        os.setxattr(file, "user.new", b"2", os.XATTR_REPLACE)
    os.setxattr(file, "user.one", b"2", os.XATTR_REPLACE)
    assert os.getxattr(file, "user.one") == b"2"
    os.removexattr(file, "user.one")
    with raises(errno.ENODATA):
        os.getxattr(file, "user.one")
    with raises(errno.ENODATA):
        os.removexattr(file, "user.one")
    os.setxattr(folder, "user.dir", b"d")
    assert os.getxattr(folder, "user.dir") == b"d"
    with raises(errno.EOPNOTSUPP):
        os.setxattr(file, "trusted.x", b"1")
    with raises(errno.EACCES):
        os.setxattr(file, "user.mountsync.state", b"1")
    os.setxattr(file, "user.big", b"x" * 65_536)
    assert len(os.getxattr(file, "user.big")) == 65_536
    with raises(errno.E2BIG):
        os.setxattr(file, "user.big", b"x" * 65_537)


def test_xattrs_go_with_the_file(folder: Path, raises) -> None:
    file = folder / "f"
    file.write_text("x")
    os.setxattr(file, "user.a", b"1")
    os.rename(file, folder / "g")
    assert os.getxattr(folder / "g", "user.a") == b"1"
    (folder / "g").unlink()
    (folder / "g").write_text("")
    assert os.listxattr(folder / "g") == []
