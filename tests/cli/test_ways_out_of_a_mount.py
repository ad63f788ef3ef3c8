"""`umount`, `export` and `rm` say what is true of the thing that they meet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.real_mount import Mounted
from tests.parts.shell import Shell, run_here


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path / "place", "--poll-interval", "1s")
    yield made
    made.end()


def test_export_takes_a_mount_point_as_status_and_flush_do(place: Mounted) -> None:
    place.start()
    (place.path / "f").write_bytes(b"text")
    for number, name in enumerate(("mnt", "./mnt", str(place.path))):
        done = run_here(["export", name, f"out{number}"], place.environment, place.home)
        assert done.code == 0, done
        assert (place.home / f"out{number}/f").read_bytes() == b"text"


def test_a_halted_mount_promises_no_upload(place: Mounted) -> None:
    (place.remote / "d").mkdir()
    for number in range(30):  # more than what may go at once, however it is noticed
        (place.remote / "d" / f"{number}").write_bytes(b"1")
    place.start().flush()
    (place.remote / "d").rename(place.home / "gone")  # all are gone at the same time
    place.until(lambda: place.status().state.startswith("halted"))
    (place.path / "mine").write_bytes(b"2")
    done = run_here(["umount", str(place.path)], place.environment, place.home)
    assert done.code == 5
    assert "uploaded after the next mount" not in done.err
    assert f"`mountsync export {place.path} DIR` copies it out" in done.err
    assert os.path.ismount(place.path)


def test_rm_says_what_is_in_the_way(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "far/folder"
    folder.mkdir(parents=True)
    (folder / "f").write_bytes(b"1")
    (folder / ".0123456789ab.mountsync-tmp-00000001").write_bytes(b"hidden")
    done = shell.here("rm", "-r", str(folder))
    assert done.code == 3
    assert done.error_line == (
        "folder: what is left in it is not shown, for it is of the storage or of mountsync (`.mountsync`)"
    )
