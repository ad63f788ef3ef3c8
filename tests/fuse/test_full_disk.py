"""The disk of the cache is full: copies of what the remote has make room; nothing that is only here goes."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountsync.errors import Unreachable
from tests.parts.bodies import body
from tests.parts.real_mount import Mounted

MIB = 1 << 20
SIZE = 40
"""MiB of the disk."""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}m", "tmpfs", place], check=False)
    if made.returncode:
        pytest.skip("a small disk cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.fixture
def mount(small_disk: Path, tmp_path: Path) -> Iterator[Mounted]:
    mount = Mounted(tmp_path / "home")
    mount.cache = small_disk / "cache"
    mount.start()
    yield mount
    mount.end()


def keep(mount: Mounted, name: str, size: int) -> bytes:
    data = body(size, len(name))
    (mount.path / name).write_bytes(data)
    return data


def test_what_the_remote_has_makes_room(mount: Mounted) -> None:
    """Twice as much as the disk holds, one after the other, without waiting for anything but uploads."""
    written = {}
    for number in range(8):
        written[f"f{number}"] = keep(mount, f"f{number}", 10 * MIB)
        mount.flush()
    for name, data in written.items():
        assert (mount.remote / name).read_bytes() == data
        assert (mount.path / name).read_bytes() == data
    mount.agree()


def test_what_is_only_here_stays_and_the_writer_is_told(mount: Mounted) -> None:
    mount.tell("pause")
    kept = keep(mount, "only here", 25 * MIB)
    with pytest.raises(OSError, match="No space") as refused:
        keep(mount, "too much", 30 * MIB)
    assert refused.value.errno == errno.ENOSPC
    (mount.path / "too much").unlink()
    assert (mount.path / "only here").read_bytes() == kept
    mount.tell("resume")
    mount.flush()
    assert (mount.remote / "only here").read_bytes() == kept
    more = keep(mount, "more", 30 * MIB)
    mount.flush()
    assert (mount.remote / "more").read_bytes() == more


def test_reading_more_than_fits(mount: Mounted) -> None:
    contents = {f"theirs{number}": body(15 * MIB, number) for number in range(4)}
    for name, data in contents.items():
        (mount.remote / name).write_bytes(data)
    mount.flush()
    for name, data in contents.items():
        assert (mount.path / name).read_bytes() == data


def test_what_is_pinned_stays(mount: Mounted) -> None:
    pinned = keep(mount, "pinned", 15 * MIB)
    mount.flush()
    mount.run("pin", str(mount.path / "pinned"))
    for number in range(4):
        keep(mount, f"f{number}", 10 * MIB)
        mount.flush()
    assert os.getxattr(mount.path / "pinned", "user.mountsync.state") == b"synced"
    assert (mount.path / "pinned").read_bytes() == pinned


def test_offline_nothing_that_is_here_goes(mount: Mounted) -> None:
    here = keep(mount, "here", 25 * MIB)
    mount.flush()
    gone = mount.remote.with_name("gone")
    mount.remote.rename(gone)
    with pytest.raises(Unreachable):
        mount.tell("flush")
    with pytest.raises(OSError, match="No space"):
        keep(mount, "new", 30 * MIB)
    assert (mount.path / "here").read_bytes() == here
    gone.rename(mount.remote)
