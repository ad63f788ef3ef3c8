"""`mountsync config`, `doctor` and `version`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mountsync.cli import configuring
from mountsync.cli.doctor import CHECKS
from mountsync.storage.options import Option
from mountsync.storage.registry import StorageType
from tests.parts.shell import Shell


def test_remote_is_made_shown_listed_and_deleted(shell: Shell) -> None:
    assert shell.here("config", "create", "work", "local", "root=/tmp").code == 0
    assert shell.config.stat().st_mode & 0o777 == 0o600
    assert shell.here("config", "list").out == "work: local\n"
    assert shell.here("config", "show", "work").out == '[remote.work]\ntype = "local"\nroot = "/tmp"\n'
    assert shell.here("config", "check").out.endswith(": ok: 1 remotes, 0 mounts, 0 jobs\n")
    assert shell.here("config", "delete", "work").code == 0
    assert shell.here("config", "list").out == ""


def test_wrong_option_is_not_written(shell: Shell) -> None:
    outcome = shell.here("config", "create", "work", "local", "rot=/tmp")
    assert outcome.code == 2
    assert "did you mean 'root'?" in outcome.error_line
    assert not shell.config.exists()


def test_remote_is_not_replaced_by_accident(shell: Shell) -> None:
    shell.here("config", "create", "work", "local", "root=/tmp")
    assert "--replace" in shell.here("config", "create", "work", "local").error_line
    assert shell.here("config", "create", "work", "local", "root=/usr", "--replace").code == 0
    assert '"/usr"' in shell.here("config", "show").out


def test_unknown_remote_has_a_suggestion(shell: Shell) -> None:
    shell.here("config", "create", "work", "local")
    assert "did you mean 'work'?" in shell.here("config", "delete", "wrok").error_line


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def factory(*_: object) -> object:
        raise AssertionError

    kind = StorageType("x", (Option("host"), Option("password", secret=True)), factory)  # type: ignore[arg-type]
    monkeypatch.setattr(configuring, "load_type", lambda _: kind)
    given = {"type": "x", "host": "h", "password": "hunter2", "misspelt_pasword": "hunter2"}
    shown = configuring._without_secrets(given)
    assert shown == {"type": "x", "host": "h", "password": "***", "misspelt_pasword": "***"}


def test_show_as_json(shell: Shell) -> None:
    shell.here("config", "create", "work", "local", "root=/tmp")
    found = json.loads(shell.here("config", "show", "--json").out)
    assert found["remotes"] == {"work": {"type": "local", "root": "/tmp"}}


def test_types_name_their_options(shell: Shell) -> None:
    outcome = shell.here("config", "types")
    assert "local\n  root: text;" in outcome.out


def test_doctor_tells_of_each_check(shell: Shell) -> None:
    found = json.loads(shell.here("doctor", "--json").out)
    assert len(found["findings"]) == len(CHECKS)
    assert all(each["fix"] for each in found["findings"] if each["level"] != "ok")


def test_doctor_names_the_package_of_a_missing_helper(shell: Shell, tmp_path: Path) -> None:
    outcome = shell.run("doctor", PATH=str(tmp_path))
    assert outcome.code == 4
    assert "wrong fusermount3: missing; sudo apt-get install fuse3\n" in outcome.out


def test_doctor_reports_a_broken_configuration(shell: Shell) -> None:
    shell.config.write_text("[mount.x]\nfoo = 1\n")
    assert "wrong configuration:" in shell.here("doctor").out


def test_version_names_all_parts(shell: Shell) -> None:
    found = json.loads(shell.here("version", "--json").out)["versions"]
    assert {"mountsync", "python", "pyfuse3", "kernel"} <= set(found)
    assert shell.here("--version").out == shell.here("version").out
