"""A request whose program is killed before it was read does not stop the mount."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.readable import readable_within
from tests.parts.real_mount import Mounted

_DELAY_S = 1
_ASK = "import os, sys\nprint('asking', flush=True)\nos.path.exists(sys.argv[1])\n"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path)
    yield made.start()
    made.end()


def test_background_work_goes_on_after_a_withdrawn_request(mounted: Mounted, tmp_path: Path) -> None:
    assert mounted.process is not None
    log = tmp_path / "reads"
    slow = ["-P", "/dev/fuse", "-e", "trace=read", "-e", f"inject=read:delay_enter={_DELAY_S}s"]
    command = ["strace", "-f", *slow, "-o", str(log), "-p", str(mounted.process.pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        assert readable_within(tracer.stderr, 30)
        assert "attached" in tracer.stderr.readline()
        ask = [sys.executable, "-c", _ASK, str(mounted.path / "no such name")]
        with subprocess.Popen(ask, stdout=subprocess.PIPE) as asking:
            assert asking.stdout is not None
            asking.stdout.readline()
            # The mount is about to read the request, and is held back.
            mounted.until(lambda: "read(" in log.read_text())
            asking.kill()
        # Nobody asks any more; the read waits in vain until the kernel's timer interrupts it.
        mounted.until(lambda: "SIGALRM" in log.read_text())
        tracer.send_signal(signal.SIGINT)
    assert mounted.status().state in ("settled", "watching")
    assert os.listdir(mounted.path) == []
    mounted.umount()
