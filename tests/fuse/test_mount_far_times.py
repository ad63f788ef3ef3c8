"""Times that 64 bits of nanoseconds cannot hold: after the year 2262."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountsync.model.entry import LAST_NS
from tests.parts.real_mount import Mounted

FAR_S = 13_000_000_000
"""In the year 2381; ext4 holds it."""


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mounted]:
    mount = Mounted(tmp_path)
    (mount.remote / "far").write_bytes(b"x")
    (mount.remote / "near").write_bytes(b"y")
    os.utime(mount.remote / "far", (FAR_S, FAR_S))
    yield mount.start()
    mount.end()


def test_a_remote_that_has_one(mount: Mounted) -> None:
    assert sorted(os.listdir(mount.path)) == ["far", "near"]
    assert (mount.path / "far").stat().st_mtime_ns == LAST_NS
    assert (mount.path / "far").read_bytes() == b"x"
    (mount.path / "far").write_bytes(b"now")
    mount.flush()
    assert (mount.remote / "far").stat().st_mtime < FAR_S


def test_a_program_that_sets_one(mount: Mounted) -> None:
    os.utime(mount.path / "near", (FAR_S, FAR_S))
    mount.flush()
    assert (mount.remote / "near").stat().st_mtime_ns == LAST_NS
    mount.umount()


def test_a_copy_settles(mount: Mounted, tmp_path: Path) -> None:
    target = tmp_path / "target"
    assert "2 new" in mount.run("copy", str(mount.remote), str(target)).stdout
    assert "Nothing to do" in mount.run("copy", str(mount.remote), str(target)).stdout
