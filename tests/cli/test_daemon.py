"""The daemon: jobs that come back, side by side, steered by commands."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.shell import Shell


class Daemon:
    """A user's daemon, with two jobs in the configuration."""

    def __init__(self, shell: Shell, root: Path) -> None:
        self.shell = shell
        self.root = root
        sections = []
        for name in ("one", "two"):
            for side in "ab":
                (root / name / side).mkdir(parents=True)
            sections.append(
                f'[job.{name}]\na = "{root}/{name}/a"\nb = "{root}/{name}/b"\nwrite_delay = "50ms"\n'
            )
        sections.append('[job.broken]\na = "nowhere:"\nb = "/nowhere"\n')
        shell.config.write_text("\n".join(sections))
        self.process: subprocess.Popen[bytes] | None = None

    def run(self, **environment: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mountsync", "daemon"],
            env=self.shell.environment | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.until(self.socket.exists)

    @property
    def socket(self) -> Path:
        return self.shell.home / "state/mountsync/daemon/control.sock"

    def end(self, how: int = signal.SIGTERM) -> int:
        assert self.process is not None
        self.process.send_signal(how)
        code = self.process.wait(60)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self.process = None
        return code

    def until(self, holds, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, "it did not come to be"
            time.sleep(0.05)

    def jobs(self) -> dict[str, dict]:
        found = json.loads(self.shell.here("status", "--json").out)
        return {job["name"]: job for job in found["jobs"]}


@pytest.fixture
def daemon(shell: Shell, tmp_path: Path) -> Iterator[Daemon]:
    made = Daemon(shell, tmp_path / "sides")
    yield made
    if made.process is not None:
        made.end()


def test_w17_jobs_sync_and_come_back(daemon: Daemon) -> None:
    daemon.run()
    shell, root = daemon.shell, daemon.root
    assert shell.here("start", "one").code == 0
    assert shell.here("start", "two").code == 0
    (root / "one/a/x").write_text("1")
    (root / "two/b/y").write_text("2")
    daemon.until(lambda: (root / "one/b/x").exists() and (root / "two/a/y").exists())
    assert shell.here("stop", "two").code == 0
    assert shell.here("pause", "one").code == 0
    assert daemon.end(signal.SIGKILL) == -signal.SIGKILL
    (root / "one/a/x").unlink()
    (root / "one/a/z").write_text("3")
    daemon.run()
    daemon.until(lambda: list(daemon.jobs()) == ["one"])
    assert daemon.jobs()["one"]["state"] == "paused"
    assert shell.here("resume", "one").code == 0
    assert shell.here("flush", "one").code == 0
    assert [path.name for path in (root / "one/b").iterdir() if path.name != ".mountsync"] == ["z"]


def test_conflicts_are_settled_by_a_command(daemon: Daemon) -> None:
    shell, root = daemon.shell, daemon.root
    (root / "one/a/x").write_text("from a")
    (root / "one/b/x").write_text("from b!")
    daemon.run()
    shell.here("start", "one")
    assert shell.here("flush", "one").code == 1
    said = shell.here("conflicts", "one")
    assert said.code == 1
    assert said.out.startswith("x: ")
    assert shell.here("resolve", "x", "--job", "one", "--keep", "local").code == 0
    assert shell.here("conflicts", "one").code == 0
    assert (root / "one/b/x").read_text() == "from a"
    assert shell.here("resolve", "x", "--job", "one", "--keep", "local").code == 3


def test_a_broken_job_says_so_and_harms_no_other(daemon: Daemon) -> None:
    daemon.run()
    shell, root = daemon.shell, daemon.root
    shell.here("start", "one")
    assert shell.here("start", "broken").code == 0
    daemon.until(lambda: daemon.jobs()["broken"]["state"] == "failed")
    assert "nowhere" in daemon.jobs()["broken"]["reason"]
    (root / "one/a/x").write_text("1")
    daemon.until((root / "one/b/x").exists)
    assert shell.here("start", "none").code == 2
    assert shell.here("stop", "none").code == 3
    assert shell.here("stop", "--all").code == 0
    assert daemon.jobs() == {}


def test_w16_only_one_daemon_runs(daemon: Daemon) -> None:
    daemon.run()
    second = daemon.shell.run("daemon")
    assert second.code == 4
    assert "runs already" in second.err
    assert daemon.socket.exists()
    assert daemon.end() == 0
    assert not daemon.socket.exists()


def test_systemd_is_told(daemon: Daemon, tmp_path: Path) -> None:
    with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as told:
        told.bind(str(tmp_path / "notify"))
        told.settimeout(20)
        daemon.run(NOTIFY_SOCKET=str(tmp_path / "notify"))
        assert told.recv(100).startswith(b"READY=1\n")
        daemon.end()
        assert told.recv(100).startswith(b"STOPPING=1\n")


def test_start_brings_the_daemon_with_it(daemon: Daemon) -> None:
    shell, root = daemon.shell, daemon.root
    assert shell.here("stop", "one").code == 4
    try:
        assert shell.run("start", "one").code == 0
        (root / "one/a/x").write_text("1")
        daemon.until((root / "one/b/x").exists)
    finally:
        assert shell.here("stop", "--daemon").code == 0
    daemon.until(lambda: not daemon.socket.exists())


def test_the_socket_is_private_and_refuses_nonsense(daemon: Daemon) -> None:
    daemon.run()
    assert daemon.socket.stat().st_mode & 0o777 == 0o600
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as talk:
        folder = os.open(daemon.socket.parent, os.O_PATH)
        talk.connect(f"/proc/self/fd/{folder}/control.sock")
        os.close(folder)
        file = talk.makefile("rwb")
        for line, word in (
            (b"nonsense", b"not a request"),
            (b'{"id":0,"cmd":"start","args":{"job":"one","more":1}}', b"more"),
            (b'{"id":0,"cmd":"explode"}', b"no command"),
            (b'{"id":0,"cmd":"job-state","args":{"job":"a|b"}}', b"does not run"),
            (b'{"id":0,"cmd":"status"}', b'"id":0,"result"'),
        ):
            file.write(line + b"\n")
            file.flush()
            assert word in file.readline()
        file.close()


def test_every_client_hears_events_that_it_asked_for(daemon: Daemon) -> None:
    daemon.run()
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as talk:
        folder = os.open(daemon.socket.parent, os.O_PATH)
        talk.connect(f"/proc/self/fd/{folder}/control.sock")
        os.close(folder)
        talk.settimeout(20)
        file = talk.makefile("rwb")
        file.write(b'{"id":1,"cmd":"subscribe","args":{"jobs":["one"],"types":["cycle"]}}\n')
        file.flush()
        assert b"result" in file.readline()
        (daemon.root / 'one/a/"quoted" \n').write_text("1")
        daemon.shell.here("start", "two")
        daemon.shell.here("start", "one")
        event = json.loads(file.readline())["event"]
        assert (event["type"], event["job"], event["cycle"]["to_remote"]) == ("cycle", "one", 1)
        file.close()
