"""What file managers need of a volume: a trash of its own, free space, a name."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mountsync.errors import Unreachable
from tests.parts.real_mount import Mounted

NewMount = Callable[..., Mounted]
BODY = os.urandom(300_000)


def gio(mount: Mounted, *words: object) -> str:
    """GLib's own tool; the trash is made by GLib itself, without a daemon."""
    if shutil.which("gio") is None:
        pytest.skip("gio is not installed (Debian: libglib2.0-bin)")
    environment = mount.environment | {
        "GIO_USE_VFS": "local",
        "DBUS_SESSION_BUS_ADDRESS": "disabled:",
        "XDG_DATA_HOME": str(mount.home / "data"),
    }
    done = subprocess.run(
        ["gio", *map(str, words)],
        env=environment,
        cwd=mount.home,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def mounted(new_mount: NewMount) -> Iterator[Mounted]:
    mount = new_mount()
    (mount.remote / "sub").mkdir()
    (mount.remote / "cold.bin").write_bytes(BODY)
    (mount.remote / "sub/deep.bin").write_bytes(BODY[::-1])
    yield mount.start()
    assert mount.bugs() == ""


def trash_of(mount: Mounted) -> Path:
    return mount.path / f".Trash-{os.getuid()}"


def test_trash_is_made_at_the_top_of_the_mount(mounted: Mounted) -> None:
    (mounted.path / "sub/new.txt").write_text("new")
    mounted.flush()
    gio(mounted, "trash", mounted.path / "sub/new.txt")
    assert (trash_of(mounted) / "files/new.txt").read_text() == "new"
    assert "Path=sub/new.txt" in (trash_of(mounted) / "info/new.txt.trashinfo").read_text()
    assert not (mounted.home / "data/Trash").exists()
    mounted.flush()
    assert sorted(os.listdir(mounted.remote)) == ["cold.bin", "sub"]
    assert os.listdir(mounted.remote / "sub") == ["deep.bin"]


def test_a_cold_file_comes_back_whole_from_the_trash(mounted: Mounted) -> None:
    """Its bytes were on the remote alone, which it leaves."""
    path = mounted.path / "cold.bin"
    assert os.getxattr(path, "user.mountsync.state") == b"cloud"
    gio(mounted, "trash", path)
    mounted.flush()
    assert not (mounted.remote / "cold.bin").exists()
    assert (trash_of(mounted) / "files/cold.bin").read_bytes() == BODY
    (trash_of(mounted) / "files/cold.bin").rename(path)
    mounted.flush()
    assert (mounted.remote / "cold.bin").read_bytes() == BODY


def test_a_cold_folder_comes_back_whole_from_the_trash(mounted: Mounted) -> None:
    gio(mounted, "trash", mounted.path / "sub")
    mounted.flush()
    assert os.listdir(mounted.remote) == ["cold.bin"]
    (trash_of(mounted) / "files/sub").rename(mounted.path / "sub")
    mounted.flush()
    assert (mounted.remote / "sub/deep.bin").read_bytes() == BODY[::-1]


def test_a_folder_larger_than_the_cache_is_kept_in_the_trash(new_mount: NewMount) -> None:
    """Nothing of it is evicted between its arrival here and its end on the remote, nor later."""
    mount = new_mount("--cache-size", "200K")
    (mount.remote / "sub/deep").mkdir(parents=True)
    bodies = {f"sub/{name}": os.urandom(100_000) for name in ("a", "b", "c", "deep/d", "deep/e")}
    for name, body in bodies.items():
        (mount.remote / name).write_bytes(body)
    mount.start()
    assert (mount.path / "sub/a").read_bytes() == bodies["sub/a"]
    gio(mount, "trash", mount.path / "sub")
    mount.flush()
    assert os.listdir(mount.remote) == []
    mount.tell("evict", path="")
    for name, body in bodies.items():
        assert (trash_of(mount) / "files" / name).read_bytes() == body
    mount.umount()


def test_offline_nothing_leaves_the_remote_for_the_trash(new_mount: NewMount) -> None:
    """A content that cannot be brought here stays where it is, and so does its name on the remote."""
    mount = new_mount()
    (mount.remote / "cold.bin").write_bytes(BODY)
    mount.start()
    (mount.path / ".Trash-0").mkdir()
    away = mount.remote.rename(mount.home / "away")
    (mount.path / "cold.bin").rename(mount.path / ".Trash-0/cold.bin")
    with pytest.raises(Unreachable):
        mount.tell("flush", timeout=60.0)
    assert (away / "cold.bin").read_bytes() == BODY
    away.rename(mount.remote)
    mount.tell("resume", confirm=True)
    mount.until(lambda: not (mount.remote / "cold.bin").exists())
    assert (mount.path / ".Trash-0/cold.bin").read_bytes() == BODY


def test_emptied_trash_gives_its_room_back(mounted: Mounted) -> None:
    (mounted.path / "big.bin").write_bytes(BODY * 10)
    mounted.flush()
    gio(mounted, "trash", mounted.path / "big.bin")
    mounted.flush()
    before = mounted.status().cache
    shutil.rmtree(trash_of(mounted))
    mounted.flush()
    after = mounted.status().cache
    assert before is not None
    assert after is not None
    assert before.used - after.used >= len(BODY) * 10


def test_free_space_is_the_remotes(mounted: Mounted) -> None:
    there = os.statvfs(mounted.remote)
    mounted.until(lambda: _total(mounted.path) == there.f_blocks * there.f_frsize)
    free = os.statvfs(mounted.path)
    assert 0 < free.f_bavail * free.f_frsize <= there.f_blocks * there.f_frsize
    assert free.f_namemax == 255


def test_free_space_of_a_remote_that_does_not_tell_is_the_cache_disks(new_mount: NewMount) -> None:
    mount = new_mount()
    mount.spec = ":memory:"
    mount.start()
    assert _total(mount.path) == _total(mount.home)


def _total(path: Path) -> int:
    found = os.statvfs(path)
    return found.f_blocks * found.f_frsize


def test_mount_tables_show_the_remotes_name(new_mount: NewMount) -> None:
    mount = new_mount()
    (mount.home / "config.toml").write_text(f'[remote.archive]\ntype = "local"\nroot = "{mount.remote}"\n')
    mount.spec = "archive:"
    mount.start()
    done = subprocess.run(
        ["findmnt", "-no", "SOURCE,FSTYPE", mount.path], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["archive:", "fuse.mountsync"]
    assert gio(mount, "info", "-f", "-a", "filesystem::type", mount.path).split()[-1].startswith("fuse")


def test_names_that_the_user_adds_stay_here(new_mount: NewMount) -> None:
    mount = new_mount("--local-only", "*.part,core")
    mount.start()
    for name in ("film.part", "core", "film.mkv"):
        (mount.path / name).write_text(name)
    mount.flush()
    assert os.listdir(mount.remote) == ["film.mkv"]
    assert os.getxattr(mount.path / "core", "user.mountsync.state") == b"local-only"
