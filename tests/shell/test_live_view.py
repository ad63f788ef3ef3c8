"""`status --watch`: what a person sees, drawn and on a real terminal."""

from __future__ import annotations

import io
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from mountsync.cli.live import History, sparkline, view
from mountsync.control.directory import MountRecord
from mountsync.control.overview import Overview, Seen
from mountsync.errors import Unreachable
from mountsync.model.status import (
    CacheStatus,
    ConflictStatus,
    CycleStatus,
    ProblemStatus,
    SessionState,
    Status,
    Totals,
    Transfer,
)
from tests.parts.real_mount import Mounted
from tests.parts.statuses import status_of
from tests.parts.terminal import Terminal

NOW = 1_800_000_000.0


def status(**changes: object) -> Status:
    given: dict[str, object] = {
        "name": "photos",
        "remote": "archive:",
        "mountpoint": "/home/me/Photos",
        "pid": 7,
        "state": SessionState.APPLYING,
        "pending": 3,
        "pending_bytes": 5 << 20,
        "cache": CacheStatus(used=3 << 20, dirty=1 << 20, limit=4 << 20, pinned=2),
        "last_cycle": CycleStatus(finished_at=NOW - 5, to_local=1, to_remote=2, problems=0, conflicts=0),
        "entries": 12_345,
    }
    return status_of(**(given | changes))  # type: ignore[arg-type]


def drawn(*statuses: Status, history: History | None = None, silent: bool = False, width: int = 100) -> str:
    records = [_record(str(s.mountpoint)) for s in statuses if s.mountpoint]
    mounts = [Seen(r, status=s) for r, s in zip(records, [s for s in statuses if s.mountpoint], strict=True)]
    if silent:
        mounts.append(Seen(_record("/mnt"), error=Unreachable("process 9 does not answer")))
    found = Overview(tuple(mounts), tuple(s for s in statuses if not s.mountpoint))
    console = Console(file=io.StringIO(), width=width, force_terminal=False, record=True)
    console.print(view(found, history or History(), NOW))
    return console.export_text()


def _record(place: str) -> MountRecord:
    return MountRecord(
        name="", remote="archive:", mountpoint=place, pid=9, started="", socket="", state_dir=""
    )


def test_everything_is_in_the_picture() -> None:
    text = drawn(
        status(
            transfers=[
                Transfer(
                    path="2026/film.mkv", direction="up", done=3 << 20, size=4 << 20, rate=float(1 << 20)
                ),
                Transfer(path="cold\x1b[2J.bin", direction="down", done=0, size=1 << 20, rate=0.0),
            ],
            conflicts=[
                ConflictStatus(
                    path="notes.txt",
                    reason="both changed",
                    local_size=10,
                    local_mtime_ns=0,
                    remote_size=None,
                    remote_mtime_ns=None,
                )
            ],
            problems=[ProblemStatus(path="bad", reason="no room", error="NoSpace", retry_at=NOW + 30)],
        ),
        status(
            mountpoint=None,
            name="backup",
            state=SessionState.HALTED_DELETES,
            reason="would delete 40 entries",
        ),
        silent=True,
    )
    for wanted in (
        "/home/me/Photos  archive:",
        "3 changes (5.0 MiB) not on the remote yet",
        "75 %",
        "1.0 MiB/s",
        "2026/film.mkv",
        "cold\\x1b[2J.bin",
        "conflict notes.txt  local 10 B, remote absent",
        "mountsync resolve PATH --keep local|remote|both",
        "problem bad: no room  again in 30 s",
        "3.0 MiB of 4.0 MiB, 1.0 MiB of it not replicated, 2 pins",
        "12,345 entries",
        "5 s ago: 2 up, 1 down",
        "job backup",
        "would delete 40 entries",
        "process 9 does not answer",
    ):
        assert wanted in text, text


def test_long_lists_are_counted_and_lines_fit() -> None:
    problems = [ProblemStatus(path=f"p{n}", reason="x", error="Busy", retry_at=None) for n in range(50)]
    text = drawn(status(problems=problems), width=60)
    assert "and 44 problems more" in text
    assert max(map(len, text.splitlines())) <= 60


def test_nothing_runs() -> None:
    assert "nothing is mounted, and no job runs" in drawn()


def test_traffic_comes_from_what_has_travelled() -> None:
    history = History()
    for second, moved in enumerate((0, 0, 1 << 20, 3 << 20)):
        totals = Totals(
            since=0.0,
            bytes_up=moved,
            bytes_down=0,
            files_up=0,
            files_down=0,
            failures=0,
            cycles=0,
            cycle_seconds=0.0,
            cycles_within=[],
        )
        one = status(totals=totals)
        history.note(Overview((Seen(_record("/home/me/Photos"), status=one),)), float(second))
    assert history.rates(one) == [0.0, float(1 << 20), float(2 << 20)]
    assert "▁▅█  2.0 MiB/s" in drawn(one, history=history)


def test_sparklines() -> None:
    assert sparkline([]) == ""
    assert sparkline([0, 0]) == "▁▁"
    assert sparkline([1, 4, 8]) == "▂▅█"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    if not os.path.exists("/dev/fuse"):
        pytest.skip("/dev/fuse does not exist")
    mount = Mounted(tmp_path, "--conflict", "manual", "--write-delay", "1h")
    yield mount.start()
    mount.end()


def test_a_terminal_follows_what_happens(mounted: Mounted) -> None:
    with Terminal(mounted.command("status", "--watch"), mounted.environment, mounted.home) as terminal:
        at = terminal.until("nothing waits for upload")
        (mounted.path / "news.txt").write_text("news")
        at = terminal.until("1 change (4 B) not on the remote yet", after=at)
        mounted.flush()
        at = terminal.until("nothing waits for upload", after=at)
        assert terminal.interrupt() == 130
        assert "\x1b[?1049l" in terminal.raw  # the screen is given back
    assert "Traceback" not in terminal.raw


def test_plain_lines_without_a_terminal(mounted: Mounted) -> None:
    process = subprocess.Popen(
        mounted.command("status", str(mounted.path), "--watch"),
        env=mounted.environment,
        cwd=mounted.home,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == f"{mounted.remote} on {mounted.path}\n"
        (mounted.path / "news.txt").write_text("news")
        end = time.monotonic() + 60
        while "1 change (4 B)" not in process.stdout.readline():
            assert time.monotonic() < end
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_a_target_that_is_not_there(mounted: Mounted) -> None:
    done = mounted.run("status", "/nowhere", "--watch", code=4)
    assert "no mount of mountsync is there" in done.stderr
