"""Mount options: every converter, and where the state of a mount lies."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest

from mountsync.errors import ConfigError, UsageError
from mountsync.formats.sizes import Bandwidth
from mountsync.model.plan import ConflictPolicy
from mountsync.settings import (
    MOUNT_OPTIONS,
    NO_DELETE_LIMIT,
    Durability,
    MountSettings,
    mount_settings,
    state_folder,
    state_root,
)

OPTIONS = {option.name: option for option in MOUNT_OPTIONS}


@pytest.mark.parametrize(
    ("name", "given", "wanted"),
    [
        ("cache_size", "20G", 20 << 30),
        ("cache_size", 100, 100 << 10),
        ("cache_size", "off", None),
        ("poll_interval", "1m30s", 90.0),
        ("poll_interval", 5, 5.0),
        ("write_delay", "250ms", 0.25),
        ("durability", "close", Durability.CLOSE),
        ("conflict", "keep-both", ConflictPolicy.KEEP_BOTH),
        ("conflict", "local", ConflictPolicy.A),
        ("conflict", "remote", ConflictPolicy.B),
        ("read_only", True, True),
        ("read_only", "no", False),
        ("uid", "0", 0),
        ("umask", "022", 0o022),
        ("umask", "0o77", 0o077),
        ("transfers", 8, 8),
        ("bwlimit", "1M:off", Bandwidth(up=1 << 20, down=None)),
        ("max_delete", "0", 0),
        ("max_delete", "off", NO_DELETE_LIMIT),
        ("filter_from", "/etc/x", Path("/etc/x")),
        ("log_format", "json", "json"),
    ],
)
def test_converted(name: str, given: object, wanted: object) -> None:
    assert OPTIONS[name].value(given, name) == wanted


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("cache_size", "x"),
        ("cache_size", True),
        ("poll_interval", [1]),
        ("poll_interval", "-1"),
        ("durability", "often"),
        ("conflict", "mine"),
        ("read_only", "maybe"),
        ("uid", "-1"),
        ("uid", str((1 << 32) - 1)),
        ("umask", "8"),
        ("transfers", 0),
        ("transfers", "1e3"),
        ("max_delete", "-1"),
        ("filter_from", ""),
        ("local_only", "a/b"),
        ("local_only", [1]),
    ],
)
def test_refused_with_the_place_named(name: str, given: object) -> None:
    with pytest.raises(ConfigError, match=r"^here: "):
        OPTIONS[name].value(given, "here")


def test_local_only_adds_to_the_usual_names() -> None:
    names = OPTIONS["local_only"].convert("*.part,core")
    assert names.holds_name("x.part")  # type: ignore[attr-defined]
    assert names.holds_name(".~lock.x#")  # type: ignore[attr-defined]
    assert not names.holds_name("x.txt")  # type: ignore[attr-defined]


def test_every_option_is_a_field_of_the_settings() -> None:
    fields = {field.name for field in dataclasses.fields(MountSettings)}
    assert {option.name for option in MOUNT_OPTIONS} - {"cache_dir"} <= fields


def test_state_is_found_by_the_remote_alone(tmp_path: Path) -> None:
    one = state_folder("/srv/photos", tmp_path)
    assert one == state_folder("/srv/photos", tmp_path)
    assert one != state_folder("/srv/photos2", tmp_path)
    assert one.name.startswith("srv-photos-")
    assert len(os.fsencode(state_folder("/" + "é" * 500, tmp_path).name)) < 100


def test_cache_dir_moves_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    common = {"name": "x", "remote": "x:", "mountpoint": tmp_path, "config_path": tmp_path / "c"}
    usual = mount_settings(**common, values={})  # type: ignore[arg-type]
    moved = mount_settings(**common, values={"cache_dir": tmp_path / "elsewhere"})  # type: ignore[arg-type]
    assert usual.state_dir.parent == tmp_path / "state/mountsync"
    assert moved.control_socket == tmp_path / "elsewhere/control.sock"


def test_state_home_must_be_absolute() -> None:
    assert state_root({"XDG_STATE_HOME": "relative"}) == Path.home() / ".local/state/mountsync"


def test_readiness_is_one_line_and_closes_a_pipe(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    settings = mount_settings(
        name="x", remote="x:", mountpoint=tmp_path, values={}, config_path=tmp_path, ready_fd=writing
    )
    settings.announce_ready()
    with open(reading, "rb") as pipe:
        assert pipe.read() == f"mounted x: on {tmp_path}\n".encode()


def test_wrong_values_are_usage_errors() -> None:
    for option in MOUNT_OPTIONS:
        with pytest.raises(UsageError):
            option.convert({"a": "table"})
