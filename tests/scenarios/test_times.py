"""The remote gets the very times that the folder shows."""

from __future__ import annotations

import os
from pathlib import Path

from tests.parts.real_mount import Mounted


def test_written_again_within_one_tick_of_the_kernels_clock(programs_mount: Mounted, place: Path) -> None:
    """The kernel gives both the same mtime and so tells the second one to nobody."""
    for number in range(40):
        path = place / str(number)
        path.write_bytes(b"first")
        fd = os.open(path, os.O_WRONLY | os.O_TRUNC)
        os.write(fd, b"second")
        os.fsync(fd)
        os.write(fd, b"third")
        os.close(fd)
    programs_mount.flush()
    for number in range(40):
        here, there = (os.stat(root / place.name / str(number)) for root in both(programs_mount))
        assert here.st_mtime_ns == there.st_mtime_ns


def test_cut_to_the_same_length(programs_mount: Mounted, place: Path) -> None:
    path = place / "file"
    path.write_bytes(b"12345")
    os.utime(path, ns=(5, 1_700_000_000_123_456_789))
    os.truncate(path, 5)
    programs_mount.flush()
    here, there = (os.stat(root / place.name / "file") for root in both(programs_mount))
    assert here.st_mtime_ns == there.st_mtime_ns


def both(mount: Mounted) -> tuple[Path, Path]:
    return mount.path, mount.remote
