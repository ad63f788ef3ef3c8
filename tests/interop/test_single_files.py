"""`copy`, `sync` and `check` of one file, from and to every remote."""

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
from tests.parts.shell import Outcome, Shell

RCLONE = pytest.param("rclone", marks=pytest.mark.skipif(BINARY is None, reason="no rclone"))
ODD = "a !b ü.txt"


class User:
    """Somebody with a folder of three files, and a remote."""

    def __init__(self, home: Path) -> None:
        home.mkdir()
        self.shell = Shell(home)
        self.folder, self.far = home / "folder", ""
        for name in (ODD, "other", "sub/deep"):
            (self.folder / name).parent.mkdir(exist_ok=True)
            (self.folder / name).write_text(name)

    def here(self, *words: object) -> Outcome:
        return self.shell.here(*map(str, words))

    def listed(self, remote: object) -> list[str]:
        done = self.here("lsf", "-R", remote)
        assert done.code == 0, done
        return sorted(line for line in done.out.splitlines() if not line.endswith("/"))


@pytest.fixture(params=["local", "modal", "modal-chunker", "s3", "s3-chunker", RCLONE])
def user(request, server: ModalServer, s3_server, tmp_path: Path) -> User:  # noqa: F811
    kind, _, more = request.param.partition("-")
    user = User(tmp_path / "home")
    (user.shell.home / "disk").mkdir()
    user.shell.environment.update(server.environment())
    user.shell.environment |= {"AWS_ACCESS_KEY_ID": ACCESS, "AWS_SECRET_ACCESS_KEY": SECRET}
    above = {
        "local": f"{user.shell.home}/disk",
        "modal": ":modal:data",
        "s3": f':s3,endpoint="{s3_server.endpoint}",create_bucket=true:{new_bucket()}',
        "rclone": f":rclone:{user.shell.home}/disk",
    }[kind]
    user.far = f"{above}/far"
    if more == "chunker":
        user.shell.environment |= {
            "MOUNTSYNC_REMOTE_R_TYPE": "chunker",
            "MOUNTSYNC_REMOTE_R_REMOTE": above,
            "MOUNTSYNC_REMOTE_R_CHUNK_SIZE": "5B",
        }
        user.far = "r:far"
    return user


def test_one_file_goes_and_comes_back(user: User) -> None:
    assert user.here("copy", user.folder / ODD, user.far).code == 0
    assert user.listed(user.far) == [ODD]
    again = user.here("copy", user.folder / ODD, user.far)
    assert (again.code, again.out.splitlines()[0]) == (0, "Nothing to do.")
    back = user.shell.home / "back"
    assert user.here("copy", f"{user.far}/{ODD}", back).code == 0
    assert [path.name for path in back.iterdir()] == [ODD]
    assert (back / ODD).read_text() == ODD


def test_nothing_else_is_touched(user: User) -> None:
    assert user.here("copy", user.folder, user.far).code == 0
    (user.folder / "other").write_text("another")
    (user.folder / "new").write_text("new")
    assert user.here("sync", user.folder / "other", user.far).code == 0
    assert user.here("cat", f"{user.far}/other").out == "another"
    assert [name for name in user.listed(user.far) if ".mountsync" not in name] == [ODD, "other", "sub/deep"]
    assert user.here("check", user.folder / "other", user.far, "--download").code == 0
    assert user.here("check", user.folder / "new", user.far).code == 1
    assert user.here("sync", f"{user.far}/sub/deep", user.folder).code == 0
    assert sorted(path.name for path in user.folder.iterdir()) == [ODD, "deep", "new", "other", "sub"]


def test_a_typo_in_the_name_is_an_error(user: User) -> None:
    assert user.here("copy", user.folder, user.far).code == 0
    for command in ("copy", "sync", "check"):
        done = user.here(command, f"{user.far}/{ODD}x", user.folder)
        assert (done.code, done.out) == (3, ""), done
    assert sorted(path.name for path in user.folder.iterdir()) == [ODD, "other", "sub"]


def test_two_ways_takes_folders_that_exist(user: User) -> None:
    if "s3" in user.far or "s3" in user.shell.environment.get("MOUNTSYNC_REMOTE_R_REMOTE", ""):
        pytest.skip("a name is an empty folder there too")
    assert user.here("copy", user.folder, user.far).code == 0
    done = user.here("bisync", f"{user.far}/other", user.folder)
    assert (done.code, "it is a file; name its folder" in done.err) == (3, True), done


@pytest.mark.skipif(BINARY is None, reason="no rclone")
def test_the_side_that_is_missing_is_named(tmp_path: Path) -> None:
    user = User(tmp_path / "home")
    done = user.here("bisync", user.folder, f":rclone:{tmp_path}/none")
    assert (done.code, "side B does not exist; make it first" in done.err) == (3, True), done
    assert user.here("copy", user.folder, f":rclone:{tmp_path}/none").code == 0
    assert (tmp_path / "none/sub/deep").read_text() == "sub/deep"
