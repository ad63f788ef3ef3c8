"""`config create` asks its questions on a terminal."""

from __future__ import annotations

import sys
import tomllib
from pathlib import Path

import pytest

from tests.parts.shell import Shell
from tests.parts.terminal import Terminal

PLUG_IN = '''
"""Boxes behind a password."""
from mountsync.storage.memory import open_storage as _open
from mountsync.storage.options import Option, OptionKind

OPTIONS = (
    Option("host", required=True, help="where it is"),
    Option("password", secret=True, help="its password"),
    Option("part", OptionKind.SIZE, default=1 << 20, help="size of parts"),
    Option("mode", OptionKind.CHOICE, default="fast", choices=("fast", "safe"), help="how"),
    Option("checked", OptionKind.BOOL, default=True, help="whether"),
)

async def open_storage(options, path, context):
    return await _open({}, path, context)
'''


@pytest.fixture
def user(tmp_path: Path) -> Shell:
    """A user who has installed a plug-in with a secret option."""
    (tmp_path / "home").mkdir()
    shell = Shell(tmp_path / "home")
    place = tmp_path / "plug-ins"
    (place / "boxes-1.0.dist-info").mkdir(parents=True)
    (place / "boxes.py").write_text(PLUG_IN)
    (place / "boxes-1.0.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: boxes\nVersion: 1.0\n")
    (place / "boxes-1.0.dist-info/entry_points.txt").write_text("[mountsync.storage]\nbox = boxes\n")
    shell.environment |= {"PYTHONPATH": str(place)}
    return shell


def asked(user: Shell, *words: str) -> Terminal:
    command = [sys.executable, "-m", "mountsync", "config", "create", *words]
    return Terminal(command, user.environment, user.home)


def remotes(user: Shell) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = tomllib.loads(user.config.read_text())["remote"]
    return found


def answer(terminal: Terminal, at: int, *pairs: tuple[str, str]) -> int:
    for question, text in pairs:
        at = terminal.until(question, after=at)
        terminal.type(text + "\n")
    return at


def test_everything_is_asked_checked_and_written(user: Shell) -> None:
    with asked(user) as terminal:
        at = answer(
            terminal,
            0,
            ("Name of the remote", "-x"),
            ("a name is made of letters", ""),
            ("Name of the remote", "vault"),
            ("Boxes behind a password.", "nothing"),
            ("there is no type 'nothing'", "box"),
            ("host: where it is", ""),
            ("it is needed", "example.org"),
            ("(not shown)", "hunter2"),
            ("[1Mi]", "huge"),
            ("part: ", "8M"),
            ("one of fast, safe", ""),
            ("[yes]", "no"),
            ("watcher_interval", ""),
        )
        at = terminal.until("password = ***", after=at)
        at = answer(terminal, at, ("Look at it now?", ""), ("it works: 0 entries at its top", ""))
        assert terminal.end() == 0
        assert "hunter2" not in terminal.raw
    assert remotes(user) == {
        "vault": {"type": "box", "host": "example.org", "password": "hunter2", "part": "8M", "checked": "no"}
    }
    assert user.config.stat().st_mode & 0o777 == 0o600
    assert "hunter2" not in user.here("config", "show").out


def test_a_remote_that_does_not_work_can_be_left(user: Shell) -> None:
    with asked(user, "work") as terminal:
        at = answer(
            terminal,
            0,
            ("Type, or its number", "local"),
            ("root: ", "/nowhere/at/all"),
            ("watcher_interval", ""),
            ("Look at it now?", "y"),
        )
        at = terminal.until("it cannot be used as it is: ", after=at)
        answer(terminal, at, ("Write it to", "n"))
        assert terminal.end() == 1
    assert not user.config.exists()


def test_an_existing_remote_is_replaced_only_when_wanted(user: Shell) -> None:
    user.here("config", "create", "work", "local", "root=/tmp")
    with asked(user, "work") as terminal:
        answer(
            terminal,
            0,
            ("work exists. Replace it?", ""),
            ("Name of the remote", "other"),
            ("Type, or its number", ""),
            ("root: ", ""),
            ("watcher_interval", ""),
            ("Look at it now?", "n"),
            ("Write it to", "y"),
        )
        assert terminal.end() == 0
    assert remotes(user) == {"work": {"type": "local", "root": "/tmp"}, "other": {"type": "local"}}


def test_interrupted_nothing_is_written(user: Shell) -> None:
    with asked(user) as terminal:
        terminal.until("Name of the remote")
        assert terminal.interrupt() == 130
    assert not user.config.exists()


def test_without_a_terminal_nothing_is_asked(user: Shell) -> None:
    assert "missing argument 'NAME'" in user.run("config", "create").error_line
    assert "missing argument 'TYPE'" in user.run("config", "create", "x").error_line
