"""Each option of a mount does what the manual says, on a real mount."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.real_mount import Mounted
from tests.parts.tracing import traced


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path)
    yield made
    made.end()


@pytest.mark.parametrize("size", [100, 1 << 20], ids=["in the database", "in a file"])
def test_durability_close_waits_for_the_disk(mounted: Mounted, tmp_path: Path, size: int) -> None:
    mounted.start("--durability", "close")
    log = tmp_path / "calls"
    assert mounted.process is not None
    with traced(mounted.process.pid, log, "-e", "trace=fsync,fdatasync,openat"):
        (mounted.path / "file").write_bytes(bytes(size))
        (mounted.path / "closed").touch()  # whatever was called for the close was called before this
    before = log.read_text().partition("closed")[0]
    wanted = {"fdatasync"} if size == 100 else {"fsync", "fdatasync"}
    called = {line.split("(")[0].split()[-1] for line in before.splitlines() if "sync(" in line}
    assert called & wanted, before
    mounted.umount()


def test_uid_and_gid_are_of_what_comes_from_the_remote(mounted: Mounted) -> None:
    (mounted.remote / "theirs").write_text("x")
    (mounted.remote / "folder").mkdir()
    mounted.start("--uid", "1234", "--gid", "2345")
    for name in ("theirs", "folder"):
        found = (mounted.path / name).stat()
        assert (found.st_uid, found.st_gid) == (1234, 2345)
    (mounted.path / "ours").write_text("y")
    assert (mounted.path / "ours").stat().st_uid == os.getuid()
    mounted.flush()
    assert (mounted.path / "ours").stat().st_uid == os.getuid()
    assert (mounted.remote / "ours").stat().st_uid == os.getuid()
    mounted.umount()


def test_umask_clears_bits_of_modes_that_the_remote_lacks(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path, spec=f":rclone:{tmp_path / 'remote'}")
    try:
        (mounted.remote / "folder").mkdir()
        (mounted.remote / "folder" / "file").write_text("x")
        mounted.start("--umask", "027")
        modes = [stat.S_IMODE((mounted.path / name).stat().st_mode) for name in ("folder", "folder/file")]
        assert [oct(mode) for mode in modes] == ["0o750", "0o640"]
        mounted.umount()
    finally:
        mounted.end()


def test_filter_from_keeps_out_in_both_directions(mounted: Mounted, tmp_path: Path) -> None:
    rules = tmp_path / "rules"
    rules.write_text("*.o\n/build/\n!keep.o\n")
    (mounted.remote / "build").mkdir()
    for name in ("there.c", "there.o", "keep.o", "build/x"):
        (mounted.remote / name).write_text("remote")
    mounted.start("--filter-from", str(rules))
    assert sorted(os.listdir(mounted.path)) == ["keep.o", "there.c"]
    (mounted.path / "build").mkdir()
    for name in ("here.c", "here.o", "there.o", "build/y"):
        (mounted.path / name).write_text("local")
    mounted.flush()
    found = {
        str(p.relative_to(mounted.remote)): p.read_text() for p in mounted.remote.rglob("*") if p.is_file()
    }
    assert found == {
        "there.c": "remote",
        "there.o": "remote",
        "keep.o": "remote",
        "build/x": "remote",
        "here.c": "local",
    }
    assert (mounted.path / "here.o").read_text() == "local"
    mounted.umount()
    # What was kept out is still here after a start, and may travel once no rule keeps it.
    mounted.start("--filter-from", str(rules))
    assert (mounted.path / "here.o").read_text() == "local"
    mounted.umount()


def test_local_only_names_stay_here(mounted: Mounted) -> None:
    mounted.start("--local-only", "*.scratch")
    (mounted.path / "a.scratch").write_text("x")
    (mounted.path / "a.txt").write_text("x")
    mounted.flush()
    assert os.listdir(mounted.remote) == ["a.txt"]
    mounted.umount()


def test_without_exec_programs_are_not_run(mounted: Mounted) -> None:
    mounted.start("--no-exec")
    script = mounted.path / "run"
    script.write_text("#!/bin/sh\nexit 0\n")
    script.chmod(0o755)
    with pytest.raises(PermissionError):
        subprocess.run([str(script)], check=True)
    mounted.umount()


def test_read_only_refuses_every_change(mounted: Mounted) -> None:
    (mounted.remote / "file").write_text("x")
    mounted.start("--read-only")
    assert (mounted.path / "file").read_text() == "x"
    for change in (
        (mounted.path / "new").touch,
        (mounted.path / "file").unlink,
        lambda: (mounted.path / "file").chmod(0o600),
        lambda: os.truncate(mounted.path / "file", 0),
        lambda: (mounted.path / "file").rename(mounted.path / "other"),
    ):
        with pytest.raises(OSError, match="Read-only file system"):
            change()
    mounted.umount()
