"""`mountsync export`: of a running mount, of a state that is not mounted, and after a kill."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.parts.bodies import body
from tests.parts.shell import Shell
from tests.parts.trees import differences

WHEN = 1_600_000_000_123_456_789
BIG = body(3 << 20)
PLAIN = ("setpriv", "--bounding-set=-dac_override,-dac_read_search") if os.geteuid() == 0 else ()
"""Before a command: the same user, who may read only what its modes allow."""


class Place:
    """A mount with files of all kinds that are here, and one that is only on the remote."""

    def __init__(self, shell: Shell, home: Path) -> None:
        self.shell = shell
        self.remote, self.folder, self.goal = home / "far", home / "mnt", home / "copy"
        self.remote.mkdir()
        self.folder.mkdir()
        (self.remote / "only there").write_bytes(BIG)
        shell.run("mount", str(self.remote), str(self.folder), "--daemon", "--write-delay", "1h")

    def fill(self) -> None:
        (self.folder / "sub/deep").mkdir(parents=True)
        (self.folder / "sub/deep/big").write_bytes(BIG)
        (self.folder / "sub/small").write_bytes(b"small")
        (self.folder / "sub/small").chmod(0o640)
        os.utime(self.folder / "sub/small", ns=(WHEN, WHEN))
        (self.folder / "sub/link").symlink_to("small")
        os.link(self.folder / "sub/small", self.folder / "sub/deep/again")
        (self.folder / "odd\nname").write_bytes(b"")
        os.mkfifo(self.folder / "fifo")

    @property
    def pid(self) -> int:
        return int(json.loads(self.shell.here("status", "--json").out)["mounts"][0]["pid"])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        subprocess.run(["fusermount3", "-uz", self.folder], check=True)

    def export(self, target: Path) -> dict[str, object]:
        found: dict[str, object] = json.loads(
            self.shell.run("export", str(target), str(self.goal), "--json").out
        )
        return found

    def right(self, told: dict[str, object], besides: Sequence[str] = ()) -> None:
        assert (told["missing"], told["failed"]) == (["only there"], [])
        assert (told["files"], told["bytes"]) == (3, len(BIG) + 5)
        goal = self.goal
        assert (goal / "sub/deep/big").read_bytes() == BIG
        assert (goal / "odd\nname").read_bytes() == b""
        assert (goal / "sub/link").readlink() == Path("small")
        found = (goal / "sub/deep/again").stat()
        assert (found.st_nlink, found.st_mode & 0o7777, found.st_mtime_ns) == (2, 0o640, WHEN)
        assert sorted(one.name for one in goal.iterdir()) == sorted(["odd\nname", "sub", *besides])


@pytest.fixture
def place(shell: Shell, tmp_path: Path) -> Iterator[Place]:
    made = Place(shell, tmp_path)
    yield made
    if os.path.ismount(made.folder):
        made.kill()


def test_of_a_running_mount_it_downloads_nothing(place: Place) -> None:
    place.fill()
    place.right(place.export(place.folder))
    assert os.getxattr(place.folder / "only there", "user.mountsync.state") == b"cloud"


def test_of_a_state_that_is_not_mounted(place: Place) -> None:
    place.fill()
    place.shell.run("umount", "--now", str(place.folder))
    place.right(place.export(place.remote))


def test_after_a_kill_without_the_remote(place: Place) -> None:
    place.fill()
    place.kill()
    place.remote.rename(place.remote.with_name("gone"))
    place.right(place.export(place.remote))


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may read everything")
def test_a_folder_that_cannot_be_read_is_told_and_the_rest_is_copied(place: Place) -> None:
    place.fill()
    (place.folder / "shut").mkdir()
    (place.folder / "shut/inside").write_bytes(b"inside")
    (place.folder / "shut").chmod(0)
    done = place.shell.run("export", str(place.folder), str(place.goal), "--json", before=PLAIN)
    told = json.loads(done.out)
    assert done.code == 3
    assert [(one["class"], one["path"]) for one in told["failed"]] == [("PermissionDenied", "shut")]
    place.right(told | {"failed": []}, besides=("shut",))


def test_what_it_refuses(place: Place, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    full = place.shell.run("export", str(place.folder), str(tmp_path / "full"))
    assert (full.code, full.error_line) == (2, f"{tmp_path}/full is not empty; name a new folder")
    unknown = place.shell.run("export", str(tmp_path / "full"), str(place.goal))
    assert unknown.code == 2
    assert "there is no state" in unknown.error_line


def test_what_is_copied_can_be_mounted_again(place: Place, tmp_path: Path) -> None:
    """The copy is an ordinary folder: put onto a remote it is the same tree."""
    place.fill()
    place.export(place.folder)
    again = tmp_path / "again"
    place.shell.run("copy", str(place.goal), str(again))
    assert differences(place.goal, again) == []
