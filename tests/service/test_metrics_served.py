"""Figures over HTTP, of a real mount and of the daemon."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.parts.real_mount import Mounted, readable_within
from tests.parts.shell import Shell


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path / "place", "--metrics", "127.0.0.1:0", "--log-format", "json")
    yield made
    made.end()


def lines(log: Path) -> list[dict[str, object]]:
    """Every line of a log in JSON; one that is no JSON fails."""
    return [json.loads(line) for line in log.read_text().splitlines()]


def port_of(log: Path) -> int:
    [found] = [line["port"] for line in lines(log) if line["event"] == "figures are served"]
    assert isinstance(found, int)
    return found


def get(port: int, path: str = "/metrics", method: str = "GET") -> tuple[int, str, str]:
    """Status, type and text."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as reply:
            return reply.status, reply.headers["Content-Type"], reply.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers["Content-Type"], error.read().decode()


def figures(port: int) -> dict[tuple[str, str | None], float]:
    """Values by name and, where there is one, direction or state."""
    status, kind, text = get(port)
    assert (status, kind) == (200, "text/plain; version=0.0.4; charset=utf-8")
    return {
        (sample.name, sample.labels.get("direction", sample.labels.get("state"))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_a_mount_counts_what_it_does(mounted: Mounted) -> None:
    (mounted.remote / "far").write_bytes(b"f" * 300_000)
    mounted.start()
    port = port_of(mounted.log)
    (mounted.path / "near").write_bytes(b"n" * 200_000)
    assert (mounted.path / "far").read_bytes() == b"f" * 300_000
    mounted.flush()
    found = figures(port)
    assert found["mountsync_transferred_bytes_total", "up"] == 200_000
    assert found["mountsync_transferred_bytes_total", "down"] == 300_000
    assert found["mountsync_transferred_files_total", "up"] == 1
    assert found["mountsync_pending_changes", None] == 0
    assert found["mountsync_cycle_seconds_count", None] >= 1
    assert found["mountsync_cache_bytes", None] == 500_000
    mounted.tell("pause")
    (mounted.path / "later").write_bytes(b"12345")
    found = figures(port)
    assert (found["mountsync_state", "paused"], found["mountsync_pending_bytes", None]) == (1, 5)
    mounted.tell("resume")
    mounted.flush()
    mounted.umount()


def test_only_figures_are_served(mounted: Mounted) -> None:
    mounted.start()
    port = port_of(mounted.log)
    assert get(port, "/")[0] == 404
    assert get(port, method="POST")[0] == 405
    assert get(port, method="HEAD")[::2] == (200, "")
    for nonsense in (b"nonsense\r\n\r\n", b"GET /metrics\r\n\r\n", b"x" * 40_000):
        with socket.create_connection(("127.0.0.1", port), timeout=60) as talk:
            talk.sendall(nonsense)
            talk.shutdown(socket.SHUT_WR)
            assert talk.recv(100).startswith(b"HTTP/1.1 400 ")
    assert get(port)[0] == 200
    mounted.umount()


def test_a_port_in_use_is_refused_before_anything_is_mounted(mounted: Mounted) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = f"127.0.0.1:{taken.getsockname()[1]}"
        done = mounted.run("mount", str(mounted.remote), str(mounted.path), "--metrics", where, code=4)
    assert f"figures cannot be served at {where} (address already in use)" in done.stderr
    assert list(mounted.path.iterdir()) == []


@pytest.mark.parametrize("where", ["here", "1.2.3.4:", "127.0.0.1:70000", "::1:80"])
def test_nonsense_is_no_address(mounted: Mounted, where: str) -> None:
    done = mounted.run("mount", str(mounted.remote), str(mounted.path), "--metrics", where, code=2)
    assert "is not HOST:PORT" in done.stderr


def test_the_daemon_serves_its_jobs(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    shell = Shell(tmp_path / "home")
    for side in "ab":
        (tmp_path / side).mkdir()
    shell.config.write_text(f'[job.one]\na = "{tmp_path}/a"\nb = "{tmp_path}/b"\nwrite_delay = "50ms"\n')
    process = subprocess.Popen(
        [sys.executable, "-m", "mountsync", "daemon", "--metrics", "0", "--log-format", "json"],
        env=shell.environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        assert readable_within(process.stderr, 60)
        port = int(re.findall(r'"port": (\d+)', process.stderr.readline())[0])
        end = time.monotonic() + 60
        while not (shell.home / "state/mountsync/daemon/control.sock").exists():
            assert time.monotonic() < end
            time.sleep(0.05)
        assert shell.here("start", "one").code == 0
        (tmp_path / "a/x").write_bytes(b"12345")
        shell.here("flush", "one")
        found = figures(port)
        assert found["mountsync_transferred_bytes_total", "up"] == 5
        assert found["mountsync_cycle_seconds_count", None] >= 1
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stderr.close()
    assert process.returncode == 0
