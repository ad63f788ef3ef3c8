"""What came from the remote shows at once, whatever the kernel remembers, and watchers hear of it."""

from __future__ import annotations

import ctypes
import os
import struct
import time
from pathlib import Path

import pytest

IN_CLOSE_WRITE, IN_CREATE, IN_DELETE = 0x8, 0x100, 0x200
PATIENCE_S = 60
libc = ctypes.CDLL(None, use_errno=True)


class Watch:
    """inotify on one folder."""

    def __init__(self, folder: Path) -> None:
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        mask = IN_CLOSE_WRITE | IN_CREATE | IN_DELETE
        assert libc.inotify_add_watch(self.fd, os.fsencode(folder), mask) >= 0
        self.heard: set[tuple[int, bytes]] = set()

    def hears(self, mask: int, name: bytes) -> bool:
        """Whether such an event comes; the patience is long, for a machine that is busy."""
        end = time.monotonic() + PATIENCE_S
        while (mask, name) not in self.heard:
            if time.monotonic() > end:
                return False
            self._listen()
            time.sleep(0.005)
        return True

    def _listen(self) -> None:
        try:
            data = os.read(self.fd, 65_536)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            _, mask, _, length = struct.unpack_from("iIII", data, at)
            name = data[at + 16 : at + 16 + length].rstrip(b"\0")
            self.heard.add((mask & 0xFFF, name))
            at += 16 + length


@pytest.fixture
def driven(new_mount):
    """A mount whose tree changes behind the kernel's back: see `remote-changes` in standalone_mount."""
    mount = new_mount("remote-changes")
    yield mount
    assert mount.stop() == ""
    assert mount.check() == []


def remotely(mount, deed: str) -> None:
    """Asks the process of the mount to change the tree as the engine does."""
    fifo = mount.state / "deeds"
    fifo.write_text(deed)
    assert eventually(lambda: not fifo.exists()), "the mount did not take the order"


def eventually(check) -> bool:
    end = time.monotonic() + PATIENCE_S
    while not check():
        if time.monotonic() > end:
            return False
        time.sleep(0.005)
    return True


def test_new_changed_and_gone(driven) -> None:
    root = driven.path
    watch = Watch(root)
    try:
        assert not (root / "f").exists()  # the kernel remembers the absence
        remotely(driven, "plant f one")
        assert watch.hears(IN_CREATE, b"f")
        assert eventually(lambda: (root / "f").read_text() == "one")
        first = (root / "f").stat().st_ino
        with open(root / "f") as reader:
            remotely(driven, "plant f another")
            assert watch.hears(IN_CLOSE_WRITE, b"f")
            assert eventually(lambda: (root / "f").read_text() == "another")
            assert reader.read() == "one"  # an open handle keeps what it opened
        assert (root / "f").stat().st_ino != first
        remotely(driven, "drop f")
        assert watch.hears(IN_DELETE, b"f")
        assert eventually(lambda: not (root / "f").exists())
        assert os.listdir(root) == []
    finally:
        os.close(watch.fd)


def test_directories_and_links(driven) -> None:
    root = driven.path
    watch = Watch(root)
    try:
        remotely(driven, "folder d")
        assert watch.hears(IN_CREATE, b"d")
        assert eventually((root / "d").is_dir)
        assert (root / "d").stat().st_mode & 0o777 == 0o750  # as the remote has it, not as it was announced
        assert root.stat().st_nlink == 3
        (root / "d" / "inside").write_text("kept")
        remotely(driven, "move d e")
        assert watch.hears(IN_CREATE, b"e")
        assert eventually(lambda: os.listdir(root) == ["e"])
        assert (root / "e" / "inside").read_text() == "kept"
        (root / "e" / "more").write_text("a moved directory is alive")
        assert root.stat().st_nlink == 3
    finally:
        os.close(watch.fd)
