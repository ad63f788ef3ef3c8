"""A word that no command has is a usage error with the nearest one, in every group."""

from __future__ import annotations

import click
import pytest

from mountsync.cli.main import COMMANDS
from tests.parts.shell import Shell

GROUPS = [name for name, later in COMMANDS.items() if isinstance(later.load(), click.Group)]


def test_there_are_groups() -> None:
    assert {"config", "backups", "service"} <= set(GROUPS)


@pytest.mark.parametrize("group", GROUPS)
def test_an_unknown_subcommand(shell: Shell, group: str) -> None:
    done = shell.here(group, "xyzzy")
    assert (done.code, done.out) == (2, "")
    said = f"{group}: there is no command 'xyzzy'; see `mountsync {group} --help`"
    assert done.error_line == said


@pytest.mark.parametrize("group", GROUPS)
def test_a_misspelt_one_gets_a_suggestion(shell: Shell, group: str) -> None:
    command = COMMANDS[group].load()
    assert isinstance(command, click.Group)
    for name in command.commands:
        done = shell.here(group, f"{name}x")
        assert (done.code, done.out) == (2, "")
        assert done.error_line == f"{group}: there is no command '{name}x'; did you mean '{name}'?"


def test_a_misspelt_command_and_option(shell: Shell) -> None:
    assert shell.here("stauts").error_line == "there is no command 'stauts'; did you mean 'status'?"
    said = shell.here("config", "show", "--jsno").error_line
    assert said == "config show: no such option '--jsno'; did you mean '--json'?"


def test_the_help_shows_the_form_of_a_switch_that_works(shell: Shell) -> None:
    assert "--modal-create-volumes[=BOOL]" in shell.here("ls", "--help").out
    assert shell.here("ls", "--modal-create-volumes=false", str(shell.home)).code == 0
