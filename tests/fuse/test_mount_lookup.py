"""lookup and getattr through the kernel."""

import errno
import os
from pathlib import Path


def test_missing_name_then_made(folder: Path, raises) -> None:
    with raises(errno.ENOENT):
        os.stat(folder / "x")
    with raises(errno.ENOENT):
        os.stat(folder / "x")  # the kernel remembers the absence
    (folder / "x").write_text("1")
    assert (folder / "x").read_text() == "1"
    (folder / "x").unlink()
    with raises(errno.ENOENT):
        os.stat(folder / "x")


def test_long_names(folder: Path, raises) -> None:
    (folder / ("n" * 255)).write_text("long")
    assert os.listdir(folder) == ["n" * 255]
    for name in ("n" * 256, "n" * 1000):
        with raises(errno.ENAMETOOLONG):
            os.stat(folder / name)
        with raises(errno.ENAMETOOLONG):
            (folder / name).write_text("x")


def test_names_of_any_bytes(folder: Path) -> None:
    names = [b"\xff\xfe", b"new\nline", b"\xc3\xa4", b"a b", b"\\", b"\x01"]
    for name in names:
        with open(os.path.join(os.fsencode(folder), name), "wb") as file:
            file.write(name)
    assert sorted(os.listdir(os.fsencode(folder))) == sorted(names)
    for name in names:
        with open(os.path.join(os.fsencode(folder), name), "rb") as file:
            assert file.read() == name


def test_attributes(folder: Path) -> None:
    file = folder / "f"
    file.write_bytes(b"x" * 5000)
    found = file.stat()
    assert found.st_size == 5000
    assert found.st_nlink == 1
    assert found.st_blocks * 512 >= 5000
    assert (folder.stat().st_mode & 0o170000) == 0o040000
    assert found.st_ino == file.stat().st_ino


def test_component_is_no_directory(folder: Path, raises) -> None:
    (folder / "f").write_text("")
    with raises(errno.ENOTDIR):
        os.stat(folder / "f" / "x")


def test_ours_is_hidden(shared_mount, raises) -> None:
    with raises(errno.ENOENT):
        os.stat(shared_mount.path / ".mountsync")
    with raises(errno.EACCES):
        os.mkdir(shared_mount.path / ".mountsync")
