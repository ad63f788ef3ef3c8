"""Permission bits over Modal, which has none itself: kept beside the files, seen from another state."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from mountsync.storage.local import LocalStorage
from tests.modal_server import ModalServer
from tests.parts.failing import failing
from tests.parts.modal import modal_storage
from tests.parts.pairs import Pair
from tests.parts.real_mount import Mounted
from tests.parts.shell import Shell

MODES = {"script": 0o755, "secret": 0o600, "odd": 0o4711, "plain": 0o644, "d/deep": 0o750, "own": 0o700}
OLD_NS = 1_600_000_000_000_000_000


def make(folder: Path) -> None:
    for name, mode in MODES.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        if name == "own":
            path.mkdir()
        else:
            path.write_bytes(name.encode())
            os.utime(path, ns=(OLD_NS, OLD_NS))
        path.chmod(mode)


def modes(folder: Path) -> dict[str, int]:
    return {name: stat.S_IMODE((folder / name).stat().st_mode) for name in MODES}


class User:
    """Somebody with a folder and a state of their own."""

    def __init__(self, home: Path, server: ModalServer) -> None:
        self.folder = home / "folder"
        self.folder.mkdir(parents=True)
        self.shell = Shell(home)
        self.shell.environment.update(server.environment())

    def do(self, *words: object) -> str:
        done = self.shell.here(*map(str, words))
        assert done.code == 0, done
        return done.out


@pytest.fixture
def one(server: ModalServer, tmp_path: Path) -> User:
    return User(tmp_path / "one", server)


@pytest.fixture
def other(server: ModalServer, tmp_path: Path) -> User:
    return User(tmp_path / "other", server)


@pytest.fixture
def mount(server: ModalServer, tmp_path: Path):
    mount = Mounted(tmp_path / "home", "--poll-interval", "1s", spec=":modal:data")
    mount.more = server.environment()
    mount.start()
    yield mount
    mount.end()


def test_a_mount_keeps_them(mount: Mounted, other: User) -> None:
    make(mount.path)
    mount.flush()
    other.do("copy", ":modal:data", other.folder)
    assert modes(other.folder) == MODES
    (mount.path / "plain").chmod(0o755)
    (mount.path / "script").chmod(0o644)
    mount.flush()
    wanted = MODES | {"plain": 0o755, "script": 0o644}
    other.do("copy", ":modal:data", other.folder)
    assert modes(other.folder) == wanted
    (mount.path / "secret").write_bytes(b"written again")
    mount.flush()
    mount.umount()
    mount.forget_cache()
    mount.start()
    assert modes(mount.path) == wanted
    assert mount.status().pending == 0


def test_a_mount_sees_what_another_sets(mount: Mounted, other: User) -> None:
    (mount.path / "plain").write_bytes(b"1")
    mount.flush()
    other.do("bisync", other.folder, ":modal:data")
    (other.folder / "plain").chmod(0o755)
    other.do("bisync", other.folder, ":modal:data")
    mount.until(lambda: stat.S_IMODE((mount.path / "plain").stat().st_mode) == 0o755)


@pytest.mark.parametrize("command", ["copy", "bisync"])
@pytest.mark.parametrize("remote", [":modal:data", ":modal:data/below"])
def test_a_sync_keeps_them(one: User, other: User, command: str, remote: str) -> None:
    make(one.folder)
    one.do(command, one.folder, remote)
    other.do("copy", remote, other.folder)
    assert modes(other.folder) == MODES
    (one.folder / "plain").chmod(0o755)
    (one.folder / "d").chmod(0o700)
    one.do(command, one.folder, remote)
    other.do("copy", remote, other.folder)
    assert modes(other.folder) == MODES | {"plain": 0o755}
    assert stat.S_IMODE((other.folder / "d").stat().st_mode) == 0o700
    assert "Nothing to do" in one.do(command, one.folder, remote)


def test_a_copy_brings_what_is_missing(one: User, other: User, server: ModalServer) -> None:
    """Files that were sent without their modes."""
    make(one.folder)
    one.folder.joinpath("script").chmod(0o644)
    one.do("copy", one.folder, ":modal:data")
    one.folder.joinpath("script").chmod(0o755)
    one.do("copy", one.folder, ":modal:data")
    other.do("copy", ":modal:data", other.folder)
    assert modes(other.folder) == MODES


async def test_the_usual_ones_cost_nothing(one: User, server: ModalServer, tmp_path: Path) -> None:
    make(one.folder)
    here = LocalStorage(str(one.folder), state_dir=tmp_path / "local")
    async with modal_storage(server, tmp_path / "modal") as storage:
        there = failing(storage)
        pair = Pair(tmp_path / "pair", here, there)
        await pair.sync()
        asked = there.faults.calls["stat"]
        assert sorted(path for call, path in there.faults.log if call == "set_mode") == sorted(
            name for name, mode in MODES.items() if name != "plain"
        )
        (one.folder / "usual").write_bytes(b"2")
        (one.folder / "usual").chmod(0o644)
        await pair.sync()
        assert there.faults.calls["set_mode"] == len(MODES) - 1
        assert there.faults.calls["stat"] == asked
