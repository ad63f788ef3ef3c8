"""What a mount says when it cannot be: one line, an exit code, the next step; and nothing is touched."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parts.real_mount import PATIENCE_S, Mounted
from tests.parts.trees import tree


def refused(mount: Mounted, *around: str, code: int = 4, **environment: str) -> str:
    """The one line on standard error of a mount that does not come to be."""
    done = subprocess.run(
        [*around, *mount.mount_command()],
        env=mount.environment | environment,
        cwd=mount.home,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == code, (done.returncode, done.stderr)
    (line,) = done.stderr.splitlines()
    assert done.stdout == ""
    assert not os.path.ismount(mount.path)
    return line.removeprefix("mountsync: ")


@pytest.fixture
def mount(new_mount: Callable[..., Mounted]) -> Mounted:
    made = new_mount()
    (made.remote / "file").write_text("on the remote")
    return made


def test_mount_point_is_missing(mount: Mounted) -> None:
    mount.path.rmdir()
    assert refused(mount) == f"{mount.path}: the mount point does not exist; make the folder"


def test_mount_point_is_a_file(mount: Mounted) -> None:
    mount.path.rmdir()
    mount.path.write_text("mine")
    assert refused(mount).startswith(f"{mount.path}: the mount point is not a folder")
    assert mount.path.read_text() == "mine"


def test_mount_point_is_not_empty(mount: Mounted) -> None:
    (mount.path / "mine").write_text("mine")
    before = tree(mount.remote)
    assert refused(mount).startswith(f"{mount.path}: the mount point is not empty; ")
    assert (mount.path / "mine").read_text() == "mine"
    assert tree(mount.remote) == before


def test_mount_point_is_in_use(mount: Mounted, new_mount: Callable[..., Mounted]) -> None:
    mount.start()
    second = new_mount()
    second.path = mount.path
    done = second.run(*second.mount_command()[3:], code=4)
    assert done.stderr.startswith(f"mountsync: {mount.path}: something is mounted there already; ")
    assert (mount.path / "file").read_text() == "on the remote"
    mount.umount()


def test_state_in_use_names_the_process(mount: Mounted) -> None:
    mount.start()
    assert mount.process is not None
    other = mount.home / "other"
    other.mkdir()
    words = [str(other) if word == str(mount.path) else word for word in mount.mount_command()[3:]]
    done = mount.run(*words, code=4)
    assert f"is in use by process {mount.process.pid};" in done.stderr
    mount.umount()


def test_dead_mount_point_is_repaired(mount: Mounted) -> None:
    mount.start().kill9()
    with pytest.raises(OSError, match="not connected"):
        os.listdir(mount.path)
    mount.start()
    assert (mount.path / "file").read_text() == "on the remote"
    mount.umount()


def test_state_of_another_version(mount: Mounted) -> None:
    mount.start().umount()
    state = mount.cache / "state.db"
    run_sql(state, "PRAGMA user_version = 99")
    before = state.read_bytes()
    line = refused(mount)
    assert "has format 99, this mountsync needs" in line
    assert state.read_bytes() == before


def test_damaged_state(mount: Mounted) -> None:
    mount.start().umount()
    state = mount.cache / "state.db"
    damaged = bytearray(state.read_bytes())
    damaged[0:4096] = os.urandom(4096)
    state.write_bytes(damaged)
    assert str(state) in refused(mount)
    assert state.read_bytes() == damaged
    assert (mount.remote / "file").read_text() == "on the remote"


def test_state_of_another_remote(mount: Mounted) -> None:
    mount.start().umount()
    mount.spec = str(mount.home / "elsewhere")
    Path(mount.spec).mkdir()
    assert "belongs to another remote" in refused(mount)


def run_sql(state: Path, statement: str) -> None:
    import apsw  # noqa: PLC0415 - for two tests only

    with apsw.Connection(str(state)) as connection:
        connection.execute(statement)


BARE_DEV = """
mount -t tmpfs none /dev
mknod -m 666 /dev/null c 1 3; mknod -m 666 /dev/urandom c 1 9; mknod -m 666 /dev/zero c 1 5
exec "$@"
"""


def can(*words: str) -> bool:
    return subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0


def test_no_fuse_device_says_which_package(mount: Mounted) -> None:
    if not can("unshare", "-m"):
        pytest.skip("a mount namespace may not be made here")
    around = ("unshare", "-m", "bash", "-euc", BARE_DEV, "bash")
    line = refused(mount, *around)
    assert line.startswith("/dev/fuse does not exist; install the Debian package fuse3")


def test_no_fusermount_says_which_package(mount: Mounted, tmp_path: Path) -> None:
    around = ("unshare", "--user", "--map-user=1000", "--map-group=1000")
    if not can(*around):
        pytest.skip("a user namespace may not be made here")
    line = refused(mount, "/usr/bin/" + around[0], *around[1:], PATH=str(tmp_path))
    assert line == "fusermount3 is missing; install the Debian package fuse3"
