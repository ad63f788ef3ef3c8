"""The directory of running mounts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mountsync.control import directory
from mountsync.errors import MountError


@pytest.fixture(autouse=True)
def private_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def announce(mountpoint: Path) -> directory.MountRecord:
    return directory.announce(
        name="r:", remote="r:", mountpoint=mountpoint, state_dir=mountpoint, socket=mountpoint / "c"
    )


def test_announced_mount_is_found_and_withdrawn_again(tmp_path: Path) -> None:
    record = announce(tmp_path / "mnt")
    assert directory.running() == [record]
    directory.withdraw(record)
    assert directory.running() == []


def test_path_below_a_mount_finds_the_nearest_one(tmp_path: Path) -> None:
    outer = announce(tmp_path / "mnt")
    inner = announce(tmp_path / "mnt/sub")
    assert directory.holder_of(tmp_path / "mnt") == (outer, "")
    assert directory.holder_of(tmp_path / "mnt/a/b") == (outer, "a/b")
    assert directory.holder_of(tmp_path / "mnt/sub/c") == (inner, "c")


def test_similar_name_is_not_inside(tmp_path: Path) -> None:
    announce(tmp_path / "mnt")
    with pytest.raises(MountError, match="no mount of mountsync is there"):
        directory.holder_of(tmp_path / "mnt2")


def test_record_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    record = announce(tmp_path / "mnt")
    [file] = (tmp_path / "state/mountsync/running").iterdir()
    file.write_bytes(file.read_bytes().replace(f'"pid":{record.pid}'.encode(), b'"pid":4194304'))
    assert directory.running() == []
    assert not file.exists()


def test_reused_pid_is_not_taken_for_the_mount(tmp_path: Path) -> None:
    record = announce(tmp_path / "mnt")
    [file] = (tmp_path / "state/mountsync/running").iterdir()
    file.write_bytes(file.read_bytes().replace(record.started.encode(), b"1"))
    assert directory.running() == []


def test_damaged_record_is_removed(tmp_path: Path) -> None:
    folder = tmp_path / "state/mountsync/running"
    folder.mkdir(parents=True)
    (folder / "x.json").write_bytes(b"{")
    assert directory.running() == []
    assert list(folder.iterdir()) == []


def test_mount_point_that_is_not_unicode(tmp_path: Path) -> None:
    place = tmp_path / os.fsdecode(b"caf\xe9")
    record = announce(place)
    assert directory.running() == [record]
    assert directory.holder_of(place / "x")[1] == "x"
