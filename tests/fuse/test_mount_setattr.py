"""chmod, chown, utimens and truncate through the kernel."""

import errno
import os
import stat
import time
from pathlib import Path

import pytest


def test_chmod(folder: Path) -> None:
    for path in (folder / "f", folder / "d"):
        path.mkdir() if path.name == "d" else path.write_text("")
        for mode in (0o600, 0o755, 0o7777, 0):
            before = path.stat().st_ctime_ns
            time.sleep(0.02)  # the kernel's own times come from a clock of coarse ticks
            os.chmod(path, mode)
            assert stat.S_IMODE(path.stat().st_mode) == mode
            assert path.stat().st_ctime_ns > before


def test_fchmod_of_an_open_dirty_file(folder: Path) -> None:
    with open(folder / "f", "wb") as file:
        file.write(b"x" * 100)
        file.flush()
        os.fchmod(file.fileno(), 0o640)
        file.write(b"y" * 100)
    found = (folder / "f").stat()
    assert (stat.S_IMODE(found.st_mode), found.st_size) == (0o640, 200)


def test_chown_strips_privileges(folder: Path) -> None:
    file = folder / "f"
    file.write_text("x")
    os.chmod(file, 0o6755)
    os.chown(file, 1234, 2345)
    found = file.stat()
    assert (found.st_uid, found.st_gid, stat.S_IMODE(found.st_mode)) == (1234, 2345, 0o755)
    os.chown(file, -1, 77)
    assert (file.stat().st_uid, file.stat().st_gid) == (1234, 77)


@pytest.mark.parametrize("ns", [0, 1, 1_234_567_890_123_456_789, 4_000_000_000_000_000_001])
def test_utimens(folder: Path, ns: int) -> None:
    for name in ("f", "d", "l"):
        path = folder / name
        if name == "f":
            path.write_text("x")
        elif name == "d":
            path.mkdir()
        else:
            path.symlink_to("f")
        os.utime(path, ns=(ns + 5, ns), follow_symlinks=False)
        found = path.lstat()
        assert (found.st_atime_ns, found.st_mtime_ns) == (ns + 5, ns)


def test_utimens_of_an_open_file_stays_after_close(folder: Path) -> None:
    with open(folder / "f", "wb") as file:
        file.write(b"abc")
        file.flush()
        os.utime(file.fileno(), ns=(1_000_000_007, 2_000_000_009))
    found = (folder / "f").stat()
    assert (found.st_atime_ns, found.st_mtime_ns, found.st_size) == (1_000_000_007, 2_000_000_009, 3)


def test_writing_moves_mtime(folder: Path) -> None:
    file = folder / "f"
    file.write_text("x")
    os.utime(file, ns=(1, 1))
    with open(file, "ab") as opened:
        opened.write(b"y")
    assert abs(file.stat().st_mtime - time.time()) < 10


@pytest.mark.parametrize("size", [0, 1, 100, 65_536, 65_537, 1_000_000])
@pytest.mark.parametrize("start", [0, 10, 65_536, 300_000])
def test_truncate(folder: Path, start: int, size: int) -> None:
    data = os.urandom(start)
    wanted = (data + bytes(max(0, size - start)))[:size]
    by_path, by_handle = folder / "p", folder / "h"
    by_path.write_bytes(data)
    os.truncate(by_path, size)
    assert by_path.read_bytes() == wanted
    with open(by_handle, "w+b") as file:
        file.write(data)
        file.flush()
        os.ftruncate(file.fileno(), size)
        assert os.fstat(file.fileno()).st_size == size
        assert os.pread(file.fileno(), size + 10, 0) == wanted
    assert by_handle.read_bytes() == wanted


def test_truncate_right_after_close(folder: Path) -> None:
    file = folder / "f"
    file.write_bytes(b"x" * 100)
    os.truncate(file, 10)
    assert file.read_bytes() == b"x" * 10


def test_truncate_of_a_directory(folder: Path, raises) -> None:
    with raises(errno.EISDIR):
        os.truncate(folder, 0)


def test_only_the_owner_changes(folder: Path, nobody) -> None:
    file = folder / "f"
    file.write_text("secret")
    os.chmod(file, 0o600)

    def read() -> int:
        file.read_text()
        return 0

    def change() -> int:
        os.chmod(file, 0o777)
        return 0

    assert nobody(read) == 100 + errno.EACCES
    assert nobody(change) == 100 + errno.EPERM
    os.chmod(file, 0o644)
    assert nobody(read) == 0


def test_write_by_a_user_strips_privileges(folder: Path, nobody) -> None:
    file = folder / "f"
    file.write_text("x")
    os.chmod(file, 0o6777)

    def write() -> int:
        fd = os.open(file, os.O_WRONLY)
        os.write(fd, b"y")
        os.close(fd)
        return 0 if stat.S_IMODE(os.stat(file).st_mode) == 0o777 else 1

    assert nobody(write) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o777
    os.chmod(file, 0o4755)
    with open(file, "ab") as opened:  # root keeps them
        opened.write(b"z")
    assert stat.S_IMODE(file.stat().st_mode) == 0o4755


def test_truncate_by_a_user_strips_privileges(folder: Path, nobody) -> None:
    file = folder / "f"
    file.write_text("xyz")
    os.chmod(file, 0o4777)

    def cut() -> int:
        os.truncate(file, 1)
        return 0

    assert nobody(cut) == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o777
