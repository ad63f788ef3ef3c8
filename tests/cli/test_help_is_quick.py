"""`mountsync --help` answers before a person notices."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from mountsync.cli.main import COMMANDS, root

HEAVY = ("pyfuse3", "apsw", "trio", "msgspec", "rich", "structlog", "watchfiles", "httpx", "tomlkit")


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from mountsync.cli.main import run; code = run(['--help']);"
        f"print('LOADED', [name for name in {HEAVY!r} if name in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "LOADED [] 0"


def test_help_takes_under_a_quarter_second() -> None:
    """Of work: how long a busy machine lets it wait for a processor is not ours."""
    took = []
    for _ in range(3):
        began = work_of_children_s()
        subprocess.run([sys.executable, "-m", "mountsync", "--help"], capture_output=True, check=True)
        took.append(work_of_children_s() - began)
    assert min(took) < 0.25, took


def work_of_children_s() -> float:
    """What the processors did for children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_each_command_loads_and_has_help(name: str) -> None:
    command = COMMANDS[name].load()
    assert command.help
    assert command.name == name or name == "list"
    assert COMMANDS[name].line.endswith(".")


def test_all_commands_of_the_first_release_are_there() -> None:
    wanted = (
        "mount umount status flush conflicts resolve pause resume pin unpin evict config ls lsd lsl lsf cat"
    )
    assert set(f"{wanted} mkdir rm hashsum fsck doctor version".split()) <= set(root.later)  # type: ignore[attr-defined]
