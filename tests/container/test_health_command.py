"""`mountsync health`: mounted, offline, halted and down are told apart."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.real_mount import Mounted
from tests.parts.shell import run_here


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path / "place", "--write-delay", "1h")
    yield made
    if made.process is not None:
        made.process.send_signal(signal.SIGCONT)
    made.end()


def health(place: Mounted, *words: str) -> tuple[int, str]:
    """In this process; `test_mounted_and_gone` tries it as one of its own."""
    done = run_here(["health", *words], place.environment, place.home)
    assert done.err == ""
    return done.code, done.out.strip()


def test_mounted_and_gone(place: Mounted) -> None:
    assert place.run("health", code=4).stdout == "nothing is mounted, and no job runs\n"
    place.start()
    done = place.run("health")
    assert (done.stdout.startswith(f"{place.path}: mounted: "), done.stderr) == (True, ""), done
    place.umount()
    assert place.run("health", str(place.path), code=4).stderr == ""


def test_mounted_paused_and_gone(place: Mounted) -> None:
    assert health(place) == (4, "nothing is mounted, and no job runs")
    place.start()
    code, said = health(place)
    assert (code, said.startswith(f"{place.path}: mounted: ")) == (0, True), said
    place.tell("pause")  # what stands still can be asked twice
    code, said = health(place)
    assert (code, "mounted: paused, 0 not replicated" in said) == (0, True), said
    assert health(place, str(place.path)) == (code, said)
    place.tell("resume")
    place.umount()
    assert health(place, str(place.path))[0] == 4


def test_offline(place: Mounted) -> None:
    (place.remote / "a").write_text("far")
    place.start()
    assert (place.path / "a").read_text() == "far"
    place.remote.rename(place.home / "elsewhere")
    (place.path / "b").write_text("near")
    place.run("flush", str(place.path), "--timeout", "5s", code=None)
    place.until(lambda: place.status().state == "offline")
    code, said = health(place)
    assert (code, f"{place.path}: offline: 1 not replicated: " in said) == (6, True), said
    assert health(place, "--accept", "offline")[0] == 0
    assert health(place, "--accept", "halted")[0] == 6


def test_halted(place: Mounted) -> None:
    (place.remote / "d").mkdir()
    for number in range(30):
        (place.remote / "d" / str(number)).write_text("far")
    place.start().flush()
    (place.remote / "d").rename(place.home / "gone")  # all are gone at the same time
    place.until(lambda: place.status().state.startswith("halted"))
    code, said = health(place)
    assert (code, f"{place.path}: halted: " in said) == (5, True), said
    assert health(place, "--accept", "halted", "--accept", "offline")[0] == 0


def test_a_process_that_hangs_is_down(place: Mounted) -> None:
    place.start()
    assert place.process is not None
    place.process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, place.process.pid, os.WSTOPPED | os.WNOWAIT)
    code, said = health(place)
    assert (code, said.split(": ")[1]) == (4, "down"), said


def test_a_dead_folder_is_down(place: Mounted) -> None:
    place.start().kill9()
    shutil.rmtree(place.home / "state/mountsync/running", ignore_errors=True)
    assert health(place)[0] == 4


def test_the_daemon_and_its_jobs(place: Mounted) -> None:
    for side in "ab":
        (place.home / side).mkdir()
    (place.home / "config.toml").write_text(f'[job.one]\na = "{place.home}/a"\nb = "{place.home}/b"\n')
    daemon = subprocess.Popen(
        place.command("daemon"), env=place.environment, cwd=place.home, stderr=subprocess.DEVNULL
    )
    try:
        place.until(lambda: health(place) == (0, "daemon: running: no job"))
        place.run("start", "one")
        code, said = health(place)
        assert (code, said.startswith("one: running: ")) == (0, True), said
        assert health(place, "one")[0] == 0
        daemon.kill()
        daemon.wait(60)
        code, said = health(place)
        assert (code, said.startswith("daemon: down: ")) == (4, True), said
    finally:
        daemon.kill()
        daemon.wait(60)
