"""Mount points that cannot be used, and the end of a mount."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mountsync.errors import MountError
from mountsync.fuse import mountpoint


def test_missing_and_in_use(tmp_path: Path, new_mount) -> None:
    with pytest.raises(MountError, match="does not exist"):
        mountpoint.make_ready(str(tmp_path / "missing"))
    (tmp_path / "file").write_text("")
    with pytest.raises(MountError, match="not a folder"):
        mountpoint.make_ready(str(tmp_path / "file"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("")
    with pytest.raises(MountError, match="not empty"):
        mountpoint.make_ready(str(tmp_path / "full"))
    mount = new_mount()
    with pytest.raises(MountError, match="mounted there already"):
        mountpoint.make_ready(str(mount.path))
    assert mountpoint.mounted_at(str(mount.path))[0] == "fuse.mountsync"
    mount.stop()
    assert mountpoint.mounted_at(str(mount.path)) is None


def test_dead_one_is_repaired(new_mount) -> None:
    mount = new_mount()
    mount.kill()
    mountpoint.make_ready(str(mount.path))
    assert mountpoint.mounted_at(str(mount.path)) is None


def test_unmounted_by_somebody_else(new_mount) -> None:
    mount = new_mount()
    (mount.path / "f").write_text("kept")
    subprocess.run(["umount", str(mount.path)], check=True)
    assert mount.process.wait(60) == 0
    mount._wait()
    mount = new_mount()
    assert (mount.path / "f").read_text() == "kept"
    mount.stop()


def test_name_with_a_space(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    mountpoint.make_ready(str(tmp_path / "a b"))
    assert mountpoint.mounted_at(str(tmp_path / "a b")) is None
