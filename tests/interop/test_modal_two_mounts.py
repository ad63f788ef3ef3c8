"""Two machines that have mounted the same Modal volume."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.modal_server import ModalServer
from tests.parts.real_mount import Mounted

T1 = 1_700_000_000_123_456_789


@pytest.fixture
def mounts(server: ModalServer, tmp_path: Path):
    made = [Mounted(tmp_path / name, "--poll-interval", "1s", spec=":modal:data") for name in ("1", "2")]
    for mount in made:
        mount.more = server.environment()
        mount.start()
    yield made
    for mount in made:
        mount.end()


def token(mount: Mounted) -> bytes:
    return os.getxattr(mount.path / "f", "user.mountsync.token")


def test_a_touch_reaches_the_other_machine(mounts: list[Mounted]) -> None:
    one, two = mounts
    (one.path / "f").write_bytes(b"text")
    one.flush()
    two.until((two.path / "f").exists)
    two.until(lambda: token(two) == token(one))  # it was in doubt while it was young
    assert (two.path / "f").read_bytes() == b"text"
    inode = (two.path / "f").stat().st_ino
    os.utime(one.path / "f", ns=(T1, T1))
    one.flush()
    two.until(lambda: (two.path / "f").stat().st_mtime_ns == T1)
    assert (two.path / "f").stat().st_ino == inode
    for mount in mounts:
        mount.flush()
        assert os.listdir(mount.path) == ["f"]
        assert (mount.path / "f").stat().st_mtime_ns == T1
