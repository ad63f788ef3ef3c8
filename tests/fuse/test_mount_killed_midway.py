"""`kill -9` while a thread of the mount's own waits for an answer of the mount: nothing is left hanging."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.parts.real_mount import Mounted
from tests.parts.tracing import traced

SLOW_READS = ("-P", "/dev/fuse", "-e", "trace=read", "-e", "inject=read:delay_exit=3s")


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mounted]:
    mount = Mounted(tmp_path)
    yield mount
    if mount.process is not None and os.geteuid() == 0:
        subprocess.run(["umount", "-f", mount.path], check=False)  # frees what waits for ever
    mount.end()


def waits_in(pid: int, where: str) -> bool:
    """Whether a thread of the process waits in that function of the kernel."""
    with suppress(FileNotFoundError):
        tasks = Path(f"/proc/{pid}/task").iterdir()
        return any((task / "wchan").read_text() == where for task in tasks)
    return False


@pytest.mark.skipif(os.geteuid() != 0, reason="where the kernel's control file system is not mounted")
def test_the_next_mount_cuts_off_one_that_cannot_die(mount: Mounted) -> None:
    script = Path(__file__).parent.parent / "parts" / "hanging_mount.py"
    command = [sys.executable, str(script), str(mount.cache), str(mount.path)]
    with subprocess.Popen(command, env=mount.environment, stdout=subprocess.PIPE, text=True) as hanging:
        assert hanging.stdout is not None
        assert hanging.stdout.readline() == "dies\n"
        mount.until(lambda: is_zombie(hanging.pid))
        with pytest.raises(subprocess.TimeoutExpired):
            hanging.wait(0.5)
        mount.start().flush()
        assert hanging.wait(10) == -signal.SIGKILL
    assert "it was cut off" in mount.log.read_text()
    (mount.path / "f").write_bytes(b"x")
    mount.umount()


def is_zombie(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_it_dies_while_it_writes_for_the_last_time(mount: Mounted, tmp_path: Path) -> None:
    mount.start().flush()
    assert mount.process is not None
    pid, log = mount.process.pid, tmp_path / "reads"
    with open(mount.path / "f", "wb") as file, traced(pid, log, *SLOW_READS):
        file.write(b"in the kernel")
        file.flush()
        mount.process.terminate()
        mount.until(lambda: "read(" in log.read_text() and waits_in(pid, "wb_wait_for_completion"))
        mount.kill9()
        with pytest.raises(OSError, match="not connected"):
            os.listdir(mount.path)
        with suppress(OSError):
            file.close()
    mount.remount().umount()


def test_it_dies_and_the_mount_point_with_it(mount: Mounted, tmp_path: Path) -> None:
    mount.start().flush()
    assert mount.process is not None
    pid, log = mount.process.pid, tmp_path / "reads"
    with traced(pid, log, *SLOW_READS):
        (mount.remote / "new").write_bytes(b"far")
        # It was taken by the read that does not return yet: the kernel waits for nothing but the answer.
        mount.until(lambda: "read(" in log.read_text() and waits_in(pid, "request_wait_answer"))
        mount.kill9()
    with pytest.raises(OSError) as caught:
        os.listdir(mount.path)
    assert caught.value.errno == errno.ENOTCONN
    mount.remount().flush()
    assert os.listdir(mount.path) == ["new"]
    mount.umount()
