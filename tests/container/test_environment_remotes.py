"""Remotes and secrets from the environment and from files, as containers get them."""

from __future__ import annotations

from pathlib import Path

import pytest

from mountsync.config import Config
from mountsync.errors import ConfigError
from mountsync.storage.environment import take_credentials, with_environment
from tests.parts.real_mount import Mounted
from tests.parts.shell import Shell


def config(**remotes: dict[str, object]) -> Config:
    return Config(Path("/config.toml"), remotes, {}, {}, {})


def test_a_remote_is_made() -> None:
    given = {"MOUNTSYNC_REMOTE_WORK_TYPE": "chunker", "MOUNTSYNC_REMOTE_WORK_CHUNK_SIZE": "4M", "HOME": "/"}
    assert with_environment(config(), given).remotes == {"work": {"type": "chunker", "chunk_size": "4M"}}


def test_options_of_configured_remotes_are_replaced() -> None:
    before = config(**{"my-work": {"type": "chunker", "remote": "/a"}, "my": {"type": "local"}})
    found = with_environment(before, {"MOUNTSYNC_REMOTE_MY_WORK_REMOTE": "/b"})
    assert found.remotes == {"my-work": {"type": "chunker", "remote": "/b"}, "my": {"type": "local"}}
    assert before.remotes["my-work"] == {"type": "chunker", "remote": "/a"}


def test_values_come_from_files(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3:bucket/ä\n")
    given = {
        "MOUNTSYNC_REMOTE_A_TYPE": "chunker",
        "MOUNTSYNC_REMOTE_A_REMOTE_FILE": str(tmp_path / "secret"),
    }
    assert with_environment(config(), given).remotes["a"] == {"type": "chunker", "remote": "s3:bucket/ä"}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"MOUNTSYNC_REMOTE_WROK_REMOTE": "x", "MOUNTSYNC_REMOTE_WORK_TYPE": "s3"}, "no remote of this name"),
        ({"MOUNTSYNC_REMOTE_A_TYPE": "s3", "MOUNTSYNC_REMOTE_A_X_FILE": "/none"}, "/none: no such file"),
        (
            {
                "MOUNTSYNC_REMOTE_A_TYPE": "s3",
                "MOUNTSYNC_REMOTE_A_X_FILE": "/dev/null",
                "MOUNTSYNC_REMOTE_A_X": "",
            },
            "MOUNTSYNC_REMOTE_A_X is given too",
        ),
        ({"MOUNTSYNC_REMOTE_A_TYPE": "s3", "MOUNTSYNC_REMOTE_A_X_FILE": "/dev/zero"}, "too large"),
    ],
)
def test_what_is_wrong_is_named(given: dict[str, str], reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        with_environment(config(), given)


def test_credentials_come_from_files_and_never_into_messages(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("hunter2\n")
    given = {"AWS_SECRET_ACCESS_KEY_FILE": str(tmp_path / "key"), "AWS_ACCESS_KEY_ID": "kept"}
    given["AWS_ACCESS_KEY_ID_FILE"] = "/none"
    take_credentials(given)
    assert (given["AWS_SECRET_ACCESS_KEY"], given["AWS_ACCESS_KEY_ID"]) == ("hunter2", "kept")
    (tmp_path / "key").write_bytes(b"hunter2\xff")
    with pytest.raises(ConfigError) as failed:
        take_credentials({"MODAL_TOKEN_SECRET_FILE": str(tmp_path / "key")})
    assert "hunter2" not in str(failed.value)


def test_commands_use_them(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "far").mkdir()
    (tmp_path / "far/a").write_text("far")
    (tmp_path / "where").write_text(f"{tmp_path}/far\n")
    shell = Shell(tmp_path / "home")
    given = {
        "MOUNTSYNC_REMOTE_SHARED_TYPE": "chunker",
        "MOUNTSYNC_REMOTE_SHARED_REMOTE_FILE": str(tmp_path / "where"),
    }
    assert shell.run("cat", "shared:a", **given).out == "far"
    assert "shared: chunker" in shell.here("config", "list", **given).out
    wrong = shell.here("ls", "shared:", **given | {"MOUNTSYNC_REMOTE_SHARED_CHUNK_SISE": "1"})
    assert (wrong.code, "did you mean 'chunk_size'" in wrong.error_line) == (2, True)


def test_a_mount_uses_them(tmp_path: Path) -> None:
    place = Mounted(tmp_path / "place", spec="shared:")
    place.more = {
        "MOUNTSYNC_REMOTE_SHARED_TYPE": "chunker",
        "MOUNTSYNC_REMOTE_SHARED_REMOTE": str(place.remote),
    }
    try:
        place.start()
        (place.path / "a").write_text("near")
        place.umount()
    finally:
        place.end()
    assert (place.remote / "a").read_text() == "near"
