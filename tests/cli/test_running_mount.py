"""The commands that talk to a running mount, against real ones."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.parts.shell import Outcome, Shell


class Place:
    """A local remote, a mount point, and the user who mounts one on the other."""

    def __init__(self, shell: Shell, tmp_path: Path) -> None:
        self.shell = shell
        self.remote = tmp_path / "far"
        self.folder = tmp_path / "mnt"
        self.remote.mkdir()
        self.folder.mkdir()

    def mount(self, *options: str) -> Outcome:
        return self.shell.run("mount", str(self.remote), str(self.folder), "--daemon", *options)

    def run(self, *args: str) -> Outcome:
        return self.shell.run(*args)

    def status(self) -> dict[str, object]:
        found: dict[str, object] = json.loads(self.shell.here("status", str(self.folder), "--json").out)
        return found

    def end(self) -> None:
        if os.path.ismount(self.folder):
            found = self.shell.here("status", "--json").out
            pids = [each["pid"] for each in json.loads(found)["mounts"]]
            subprocess.run(["fusermount3", "-uz", self.folder], check=False, capture_output=True)
            for pid in pids:
                wait_until(lambda pid=pid: not Path(f"/proc/{pid}").exists())  # type: ignore[misc]


def wait_until(condition: Callable[[], bool], limit: float = 60) -> None:
    """For what other processes do; fails after `limit` seconds."""
    end = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.fixture
def place(shell: Shell, tmp_path: Path) -> Iterator[Place]:
    made = Place(shell, tmp_path)
    yield made
    made.end()


def test_daemon_returns_when_the_folder_is_ready(place: Place) -> None:
    (place.remote / "a").write_text("far")
    outcome = place.mount()
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"mounted {place.remote} on {place.folder}\n"
    assert (place.folder / "a").read_text() == "far"


def test_flush_and_status_agree(place: Place) -> None:
    place.mount("--write-delay", "1h")
    (place.folder / "a").write_text("near")
    assert place.status()["pending"] == 1
    assert "1 change (4 B) not on the remote yet" in place.run("status").out
    assert place.run("flush").code == 0
    assert (place.remote / "a").read_text() == "near"
    assert place.status()["pending"] == 0
    everything = json.loads(place.run("status", "--json").out)
    assert [each["mountpoint"] for each in everything["mounts"]] == [str(place.folder)]


def test_umount_waits_for_replication(place: Place) -> None:
    place.mount("--write-delay", "1h")
    (place.folder / "a").write_text("near")
    outcome = place.run("umount", str(place.folder))
    assert outcome.code == 0
    assert (place.remote / "a").read_text() == "near"
    assert not os.path.ismount(place.folder)
    assert place.run("status").out == "nothing is mounted, and no job runs\n"


def test_umount_now_keeps_the_rest_for_later_and_fsck_says_what(place: Place) -> None:
    place.mount("--write-delay", "1h")
    (place.folder / "a").write_text("near")
    assert place.run("umount", "--now", str(place.folder)).code == 0
    assert not (place.remote / "a").exists()
    checked = place.run("fsck", str(place.remote))
    assert checked.code == 0
    assert "1 change not on the remote yet" in checked.out
    assert "not on the remote: a (4 B)" in checked.out
    place.mount()
    assert place.run("flush").code == 0
    assert (place.remote / "a").read_text() == "near"


def test_damaged_state_is_refused_untouched_and_surveyed(place: Place) -> None:
    place.mount("--write-delay", "1h")
    (place.folder / "large").write_bytes(os.urandom(200_000))
    place.run("umount", "--now", str(place.folder))
    [database] = place.shell.home.glob("state/mountsync/*/state.db")
    damaged = b"not a database" + database.read_bytes()[14:]
    database.write_bytes(damaged)
    outcome = place.mount()
    assert outcome.code == 4
    assert "is not a sound database" in outcome.error_line
    assert database.read_bytes() == damaged
    checked = place.run("fsck", str(place.remote))
    assert checked.code == 3
    assert "1 content file of 195.3 KiB" in checked.out


def test_state_of_another_version_is_refused(place: Place) -> None:
    place.mount()
    place.run("umount", str(place.folder))
    [database] = place.shell.home.glob("state/mountsync/*/state.db")
    raw = bytearray(database.read_bytes())
    raw[60:64] = (99).to_bytes(4, "big")  # user_version, at this place of every SQLite file
    database.write_bytes(raw)
    outcome = place.mount()
    assert outcome.code == 4
    assert "has format 99" in outcome.error_line


def test_second_mount_of_one_state_names_the_process(place: Place, tmp_path: Path) -> None:
    place.mount()
    other = tmp_path / "other"
    other.mkdir()
    outcome = place.run("mount", str(place.remote), str(other))
    assert outcome.code == 4
    assert f"in use by process {place.status()['pid']}" in outcome.error_line


def test_mount_point_that_cannot_be_used(place: Place, tmp_path: Path) -> None:
    outcome = place.run("mount", str(place.remote), str(tmp_path / "none"))
    assert (outcome.code, "does not exist" in outcome.error_line) == (4, True)
    (place.folder / "x").touch()
    outcome = place.run("mount", str(place.remote), str(place.folder))
    assert (outcome.code, "not empty" in outcome.error_line) == (4, True)


def test_missing_remote_folder(place: Place) -> None:
    outcome = place.run("mount", f"{place.remote}/none", str(place.folder))
    assert outcome.code == 3
    assert "the folder does not exist; make it first" in outcome.error_line


def test_dead_mount_is_cleaned_up(place: Place) -> None:
    place.mount()
    os.kill(int(str(place.status()["pid"])), signal.SIGKILL)
    wait_until(lambda: place.shell.here("status").out == "nothing is mounted, and no job runs\n")
    assert f"{place.folder} is dead" in place.run("doctor").out
    assert place.run("umount", str(place.folder)).code == 0
    assert not os.path.ismount(place.folder)
    assert place.mount().code == 0


def test_sigterm_unmounts_in_order(place: Place) -> None:
    place.mount()
    pid = int(str(place.status()["pid"]))
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    assert not os.path.ismount(place.folder)


def test_pause_and_resume(place: Place) -> None:
    place.mount("--write-delay", "10ms")
    assert place.run("pause").code == 0
    assert place.status()["state"] == "paused"
    (place.folder / "a").write_text("near")
    assert place.run("resume").code == 0
    assert place.run("flush").code == 0
    assert (place.remote / "a").exists()


def test_manual_conflict_is_listed_and_resolved(place: Place) -> None:
    (place.remote / "a").write_text("first")
    place.mount("--conflict", "manual", "--write-delay", "1h", "--poll-interval", "1h")
    assert (place.folder / "a").read_text() == "first"
    place.run("pause")
    (place.folder / "a").write_text("near side")
    (place.remote / "a").write_text("far")
    place.run("resume")
    assert place.run("flush").code == 1
    listed = place.run("conflicts")
    assert listed.code == 1
    assert f"{place.folder}/a: " in listed.out
    assert place.run("conflicts", "--json").code == 1
    assert place.run("resolve", f"{place.folder}/a", "--keep", "local").code == 0
    assert place.run("flush").code == 0
    assert (place.remote / "a").read_text() == "near side"


def test_pin_evict_and_their_refusals(place: Place) -> None:
    (place.remote / "a").write_bytes(b"x" * 300_000)
    place.mount()
    (place.folder / "a").read_bytes()
    assert place.run("evict", f"{place.folder}/a").out == "293.0 KiB freed\n"
    assert place.run("pin", f"{place.folder}/a").code == 0
    assert place.run("unpin", f"{place.folder}/a").code == 0
    outcome = place.run("pin", f"{place.folder}/none")
    assert (outcome.code, "none" in outcome.error_line) == (3, True)


def test_stopped_process_is_told_not_waited_for(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.mount()
    pid = int(str(place.status()["pid"]))
    os.kill(pid, signal.SIGSTOP)
    try:
        outcome = place.run("status", str(place.folder))
    finally:
        os.kill(pid, signal.SIGCONT)
    assert outcome.code == 4
    assert f"process {pid} does not answer" in outcome.error_line


def test_named_mount_takes_its_section(place: Place) -> None:
    place.shell.config.write_text(
        "transfers = 2\n[mount.notes]\nread_only = true\n"
        f'remote = "{place.remote}"\nmountpoint = "{place.folder}"\n'
    )
    assert place.run("mount", "notes", "--daemon").code == 0
    assert place.status()["name"] == "notes"
    with pytest.raises(OSError, match="Read-only"):
        (place.folder / "a").touch()
