"""A mistyped source is an error on every remote, and an empty target is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.modal_server import ModalServer
from tests.parts.rclone import BINARY
from tests.parts.s3_server import (  # noqa: F401 - fixtures
    ACCESS,
    SECRET,
    _running_server,
    new_bucket,
    s3_credentials,
    s3_server,
)
from tests.parts.shell import Shell

RCLONE = pytest.param("rclone", marks=pytest.mark.skipif(BINARY is None, reason="no rclone"))
REMOTES = ["local", "modal", "modal-volume", "modal-chunker", "s3", "s3-chunker", RCLONE]
READERS = ["copy", "sync", "check", "ls", "lsd", "lsl", "lsf", "cat", "hashsum"]


class User:
    """Somebody with a folder, and a name that means nothing yet on some remote."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.shell = Shell(home)
        self.folder = home / "folder"
        self.folder.mkdir()
        (self.folder / "kept").write_bytes(b"1")
        self.typo = str(home / "typo")

    def remote(self, kind: str, **options: str) -> None:
        names = {"type": kind} | options
        self.shell.environment |= {f"MOUNTSYNC_REMOTE_R_{name.upper()}": text for name, text in names.items()}


@pytest.fixture(params=REMOTES)
def user(request, server: ModalServer, s3_server, tmp_path: Path) -> User:  # noqa: F811
    kind, _, more = request.param.partition("-")
    user = User(tmp_path / "home")
    user.shell.environment.update(server.environment())
    user.shell.environment |= {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
    below = {
        "local": user.typo,
        "modal": ":modal:data/typo",
        "s3": f':s3,endpoint="{s3_server.endpoint}",create_bucket=true:{new_bucket()}/typo',
        "rclone": ":rclone::memory:bucket/typo",
    }[kind]
    user.typo = below
    if more == "volume":
        user.shell.environment["MOUNTSYNC_MODAL_CREATE_VOLUMES"] = "true"
        user.typo = ":modal:typo"
    if more == "chunker":
        user.remote("chunker", remote=below.removesuffix("/typo"))
        user.typo = "r:typo"
    return user


@pytest.mark.parametrize("command", READERS)
def test_a_source_that_does_not_exist_is_an_error(user: User, command: str) -> None:
    more = {"copy": [user.folder], "sync": [user.folder], "check": [user.folder]}.get(command, [])
    words = [command, *(["sha256"] if command == "hashsum" else []), user.typo, *map(str, more)]
    done = user.shell.here(*words)
    assert done.code == 3, done
    assert done.out == ""
    assert [path.name for path in user.folder.iterdir()] == ["kept"]


@pytest.mark.parametrize("command", ["copy", "sync"])
def test_no_target_is_made_for_a_source_that_does_not_exist(user: User, command: str) -> None:
    target = user.shell.home / "new/target"
    done = user.shell.here(command, user.typo, str(target))
    assert done.code == 3, done
    assert "does not exist" in done.err or "there is no" in done.err
    assert not target.parent.exists()


def test_a_target_may_begin(user: User) -> None:
    if ":rclone:" in user.typo:
        pytest.skip("the memory of an rclone that ended holds nothing")
    assert user.shell.here("sync", str(user.folder), user.typo).code == 0
    listed = user.shell.here("ls", user.typo)
    assert (listed.code, listed.out.split()) == (0, ["1", "kept"])
    assert user.shell.here("check", str(user.folder), user.typo, "--download").code == 0
