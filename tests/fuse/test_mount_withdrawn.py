"""What happens between the look for a request and the read that takes it: a tracer lets it happen."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mountsync.fuse.mountpoint import unmount
from tests.parts.real_mount import READY_S, Mounted
from tests.parts.tracing import traced

_DELAY_S = 1
_ASK = "import os, sys\nprint('asking', flush=True)\nos.path.exists(sys.argv[1])\n"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path)
    yield made.start()
    made.end()


@contextmanager
def _held_back(mounted: Mounted, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that asks for something; the mount knows of it and is held back before it reads it."""
    assert mounted.process is not None
    slow = ("-P", "/dev/fuse", "-e", "trace=read", "-e", f"inject=read:delay_enter={_DELAY_S}s")
    ask = [sys.executable, "-c", _ASK, str(mounted.path / "no such name")]
    with traced(mounted.process.pid, log, *slow), subprocess.Popen(ask, stdout=subprocess.PIPE) as asking:
        assert asking.stdout is not None
        try:
            asking.stdout.readline()
            mounted.until(lambda: "read(" in log.read_text())
            yield asking
        finally:
            asking.kill()


def test_background_work_goes_on_after_a_withdrawn_request(mounted: Mounted, tmp_path: Path) -> None:
    log = tmp_path / "reads"
    with _held_back(mounted, log) as asking:
        asking.kill()
        # Nobody asks any more; the read waits in vain until the kernel's timer interrupts it.
        mounted.until(lambda: "SIGALRM" in log.read_text())
    mounted.until(lambda: mounted.status().state in ("settled", "watching"))
    assert os.listdir(mounted.path) == []
    mounted.umount()


def test_a_mount_ends_when_it_is_unmounted_just_before_it_reads(mounted: Mounted, tmp_path: Path) -> None:
    assert mounted.process is not None
    with _held_back(mounted, tmp_path / "reads"):
        assert unmount(str(mounted.path), lazy=True)
    assert mounted.process.wait(READY_S) == 0
