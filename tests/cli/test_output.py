"""How a status reads, what exit code it means, and what a spec names."""

from __future__ import annotations

from pathlib import Path

import pytest

from mountsync.cli.output import ago, counted, exit_code_of_status, status_lines
from mountsync.cli.remotes import absolute_spec, places
from mountsync.control.mounts import mountsync_mounts
from mountsync.errors import NameRefused
from mountsync.model.status import (
    CacheStatus,
    ConflictStatus,
    CycleStatus,
    ProblemStatus,
    SessionState,
    Status,
    Transfer,
)
from tests.parts.statuses import status_of as status

CONFLICT = ConflictStatus(
    path="c", reason="both changed", local_size=1, local_mtime_ns=0, remote_size=None, remote_mtime_ns=None
)
PROBLEM = ProblemStatus(path="p", reason="no space left", error="NoSpace", retry_at=None)


@pytest.mark.parametrize(
    ("found", "looking", "finished"),
    [
        (status(), 0, 0),
        (status(pending=3), 0, 1),
        (status(conflicts=[CONFLICT]), 1, 1),
        (status(problems=[PROBLEM], conflicts=[CONFLICT]), 3, 3),
        (status(SessionState.OFFLINE), 0, 0),
        (status(SessionState.OFFLINE, pending=1), 0, 4),
        (status(SessionState.FAILED), 4, 4),
        (status(SessionState.HALTED_DELETES, pending=9), 5, 5),
        (status(SessionState.HALTED_EMPTIED), 5, 5),
        (status(SessionState.PAUSED, pending=1), 0, 1),
    ],
)
def test_exit_code_of_a_status(found: Status, looking: int, finished: int) -> None:
    assert exit_code_of_status(found, finished=False) == looking
    assert exit_code_of_status(found, finished=True) == finished


def test_status_in_words() -> None:
    found = status(
        SessionState.APPLYING,
        reason="2 of 3",
        pending=2,
        pending_bytes=3 << 20,
        transfers=[Transfer(path="big\x1b", direction="up", done=50, size=100, rate=2048.0)],
        conflicts=[CONFLICT],
        problems=[PROBLEM],
        cache=CacheStatus(used=1 << 30, dirty=3 << 20, limit=2 << 30, pinned=1),
        last_cycle=CycleStatus(finished_at=100.0, to_local=1, to_remote=2, problems=0, conflicts=0),
        entries=1234,
    )
    assert status_lines(found, now=112.0) == [
        "r: on /m",
        "  transferring: 2 of 3",
        "  2 changes (3.0 MiB) not on the remote yet",
        "  up    50 % of 100 B, 2.0 KiB/s: big\\x1b",
        "  conflict: c (both changed)",
        "  problem: p: no space left",
        "  cache: 1.0 GiB of 2.0 GiB, 3.0 MiB of it not replicated, 1 pin; 1,234 entries known",
        "  last look 12 s ago: 2 up, 1 down",
    ]


def test_in_sync_is_said_only_when_it_is() -> None:
    assert "  in sync" in status_lines(status())
    assert "  in sync" not in status_lines(status(pending=1))


def test_every_state_has_words() -> None:
    for state in SessionState:
        assert len(status_lines(status(state))[1]) > 4


def test_counts_and_spans() -> None:
    assert [counted(1, "entry"), counted(2, "entry"), counted(1000, "file")] == [
        "1 entry",
        "2 entries",
        "1,000 files",
    ]
    assert [ago(-1), ago(59), ago(300), ago(10_000), ago(400_000)] == [
        "0 s",
        "59 s",
        "5 min",
        "2 h",
        "4 days",
    ]


def test_places_from_the_nearest_folder_up() -> None:
    assert [(place.folder, place.path) for place in places("r:a/b/c")] == [
        ("r:a/b", "c"),
        ("r:a", "b/c"),
        ("r:", "a/b/c"),
    ]
    assert [(place.folder, place.path) for place in places("/a/b")] == [("/a", "b"), ("/", "a/b")]
    assert places("r:") == []
    assert places("/") == []


def test_specs_become_independent_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute_spec("./x/../y") == str(tmp_path / "y")
    assert absolute_spec("r,chunk_size=4M:a/b") == "r,chunk_size=4M:a/b"
    with pytest.raises(NameRefused):
        absolute_spec("r:a/../b")


def test_mounts_of_ours_are_read_from_the_kernels_table(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "36 35 98:0 / /mnt rw,noatime master:1 - ext4 /dev/root rw\n"
        "40 35 0:50 / /home/me/My\\040Files rw - fuse.mountsync r: rw,user_id=0\n"
        "41 35 0:51 / /x rw - fuse.rclone r: rw\n"
    )
    assert mountsync_mounts(str(table)) == ["/home/me/My Files"]
