"""What a mount costs while nothing happens, and that waiting requests do not stop the others."""

from __future__ import annotations

import os
import time

import pytest


def cpu_s(pid: int) -> float:
    with open(f"/proc/{pid}/stat") as file:
        fields = file.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def work_of(pid: int, seconds: float) -> float:
    """Seconds of a processor that it takes in that time."""
    before = cpu_s(pid)
    time.sleep(seconds)
    return cpu_s(pid) - before


def resident_mib(pid: int) -> float:
    with open(f"/proc/{pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


def test_idle_costs_nothing(new_mount) -> None:
    mount = new_mount("quick-barrier")
    for number in range(300):
        (mount.path / f"f{number}").write_text("x")
    end = time.monotonic() + 60
    while work_of(mount.process.pid, 1.5) > 0.03:  # it may still be at what was written
        assert time.monotonic() < end, "it never rests"
    assert resident_mib(mount.process.pid) < 120
    assert mount.stop() == ""


def test_a_bug_is_an_error_and_not_the_end(new_mount) -> None:
    """A handler that fails in a way nobody foresaw gives EIO, says so, and the mount goes on."""
    mount = new_mount("broken-symlink")
    with pytest.raises(OSError, match="Input/output error"):
        os.symlink("a", mount.path / "b")
    (mount.path / "f").write_text("still here")
    assert (mount.path / "f").read_text() == "still here"
    assert "ZeroDivisionError" in mount.stop()
