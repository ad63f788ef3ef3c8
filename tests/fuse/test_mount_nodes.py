"""mknod, mkdir, symlink, link, unlink and rmdir through the kernel."""

import errno
import os
import socket
import stat
import threading
from pathlib import Path


def test_fifo_carries_bytes(folder: Path) -> None:
    os.mkfifo(folder / "p", 0o640)
    assert stat.S_ISFIFO((folder / "p").stat().st_mode)
    assert stat.S_IMODE((folder / "p").stat().st_mode) == 0o640
    heard = []
    reader = threading.Thread(target=lambda: heard.append((folder / "p").read_bytes()))
    reader.start()
    (folder / "p").write_bytes(b"through")
    reader.join(10)
    assert heard == [b"through"]


def test_unix_socket(folder: Path) -> None:
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind("s")
            assert stat.S_ISSOCK(os.stat("s").st_mode)
            server.listen(1)
            client.connect("s")
            peer, _ = server.accept()
            with peer:
                client.send(b"hello")
                assert peer.recv(10) == b"hello"
    finally:
        os.chdir("/")


def test_mknod_of_a_file_and_a_device(folder: Path, raises) -> None:
    os.mknod(folder / "f", stat.S_IFREG | 0o600)
    assert (folder / "f").stat().st_size == 0
    with raises(errno.EEXIST):
        os.mknod(folder / "f", stat.S_IFREG | 0o600)
    os.mknod(folder / "c", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    assert (folder / "c").stat().st_rdev == os.makedev(1, 3)


def test_mkdir_and_links_of_directories(folder: Path, raises) -> None:
    before = folder.stat()
    (folder / "a").mkdir(0o750)
    assert stat.S_IMODE((folder / "a").stat().st_mode) == 0o750
    assert folder.stat().st_nlink == before.st_nlink + 1
    assert folder.stat().st_mtime_ns > before.st_mtime_ns
    (folder / "a" / "b").mkdir()
    assert (folder / "a").stat().st_nlink == 3
    with raises(errno.EEXIST):
        (folder / "a").mkdir()
    with raises(errno.ENOTEMPTY):
        (folder / "a").rmdir()
    (folder / "a" / "b").rmdir()
    assert (folder / "a").stat().st_nlink == 2
    (folder / "a").rmdir()
    assert folder.stat().st_nlink == before.st_nlink
    with raises(errno.ENOENT):
        (folder / "a").rmdir()


def test_setgid_directory_hands_its_group_on(folder: Path) -> None:
    os.chown(folder, 0, 4321)
    os.chmod(folder, 0o2775)
    (folder / "d").mkdir()
    (folder / "f").write_text("")
    assert (folder / "d").stat().st_gid == (folder / "f").stat().st_gid == 4321
    assert (folder / "d").stat().st_mode & stat.S_ISGID
    assert not (folder / "f").stat().st_mode & stat.S_ISGID


def test_umask_is_the_callers(folder: Path) -> None:
    old = os.umask(0o077)
    try:
        (folder / "f").write_text("")
        (folder / "d").mkdir()
    finally:
        os.umask(old)
    assert stat.S_IMODE((folder / "f").stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / "d").stat().st_mode) == 0o700


def test_symlinks(folder: Path, raises) -> None:
    (folder / "l").symlink_to("nowhere/\N{SNOWMAN}")
    assert os.readlink(folder / "l") == "nowhere/\N{SNOWMAN}"
    assert (folder / "l").lstat().st_size == len("nowhere/\N{SNOWMAN}".encode())
    with raises(errno.ENOENT):
        (folder / "l").read_text()
    with raises(errno.EEXIST):
        (folder / "l").symlink_to("x")
    long = "x/" * 2000
    (folder / "long").symlink_to(long)
    assert os.readlink(folder / "long") == long
    with raises(errno.EINVAL):
        os.readlink(folder)
    (folder / "self").symlink_to("self")
    with raises(errno.ELOOP):
        os.stat(folder / "self")


def test_hard_links_share_everything(folder: Path, raises) -> None:
    (folder / "a").write_text("one")
    os.link(folder / "a", folder / "b")
    assert (folder / "a").stat().st_ino == (folder / "b").stat().st_ino
    assert (folder / "a").stat().st_nlink == 2
    (folder / "b").write_text("two!")
    assert (folder / "a").read_text() == "two!"
    os.chmod(folder / "a", 0o600)
    assert stat.S_IMODE((folder / "b").stat().st_mode) == 0o600
    with raises(errno.EEXIST):
        os.link(folder / "a", folder / "b")
    (folder / "d").mkdir()
    with raises(errno.EPERM):
        os.link(folder / "d", folder / "e")
    (folder / "a").unlink()
    assert (folder / "b").stat().st_nlink == 1
    assert (folder / "b").read_text() == "two!"


def test_unlink_while_open(folder: Path) -> None:
    for size in (100, 200_000):
        path = folder / "f"
        data = os.urandom(size)
        path.write_bytes(data)
        with open(path, "r+b") as file:
            path.unlink()
            assert not path.exists()
            assert file.read() == data
            file.write(b"more" * 50_000)
            file.flush()
            assert os.fstat(file.fileno()).st_nlink == 0
            assert os.fstat(file.fileno()).st_size == size + 200_000
            os.fsync(file.fileno())
            path.write_bytes(b"another")
            file.seek(size)
            assert file.read(4) == b"more"
        assert path.read_bytes() == b"another"


def test_unlink_errors(folder: Path, raises) -> None:
    with raises(errno.ENOENT):
        (folder / "x").unlink()
    (folder / "d").mkdir()
    with raises(errno.EISDIR):
        (folder / "d").unlink()
    (folder / "f").write_text("")
    with raises(errno.ENOTDIR):
        (folder / "f").rmdir()


def test_sticky_directory(folder: Path, nobody) -> None:
    os.chmod(folder, 0o1777)
    (folder / "f").write_text("")

    def remove() -> int:
        os.unlink(folder / "f")
        return 0

    assert nobody(remove) == 100 + errno.EPERM
    os.chmod(folder, 0o777)
    assert nobody(remove) == 0


def test_removed_working_directory(folder: Path, raises) -> None:
    (folder / "d").mkdir()
    fd = os.open(folder / "d", os.O_RDONLY)
    try:
        (folder / "d").rmdir()
        assert os.fstat(fd).st_nlink == 0
        assert os.listdir(fd) == []
        with raises(errno.ENOENT):
            os.open("x", os.O_CREAT | os.O_WRONLY, dir_fd=fd)
    finally:
        os.close(fd)
