"""Completion of command lines, by the answers and by real shells."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from mountsync.cli.completion import KINDS, SOURCES, answer
from mountsync.cli.completion_scripts import SCRIPTS, SHIPPED
from mountsync.cli.main import COMMANDS
from tests.parts.shell import Shell
from tests.parts.terminal import Terminal

ROOT = Path(__file__).parents[2]
CONFIG = """
[remote.archive]
type = "local"
[remote.attic]
type = "local"
[remote."my photos"]
type = "local"
[mount.pictures]
remote = "archive:"
[job.notes]
a = "archive:x"
b = "/tmp"
"""


@pytest.fixture
def user(tmp_path: Path) -> Shell:
    (tmp_path / "home").mkdir()
    shell = Shell(tmp_path / "home")
    shell.config.write_text(CONFIG)
    (shell.home / "folder with space").mkdir()
    tools = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    shell.environment |= {"PATH": tools, "XDG_CONFIG_HOME": str(shell.home / "config")}
    return shell


def answers(user: Shell, line: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("MOUNTSYNC_CONFIG", str(user.config))
    monkeypatch.setenv("XDG_STATE_HOME", str(user.home / "state"))
    rows = [row.split("\t") for row in answer(line).splitlines()]
    assert rows[0][0] == "typed"
    return [row[1] if row[0] == "plain" else f"<{row[0]}>" for row in rows[1:]]


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("mountsync um", ["umount"]),
        ("mountsync nothing ", []),
        ("mountsync ls a", ["archive:", "attic:"]),
        ("mountsync ls my\\ ", ["my photos:"]),
        ("mountsync ls ./", ["<file>"]),
        ("mountsync ls :ch", [":chunker:"]),
        ("mountsync lsl --json at", ["attic:"]),
        ("mountsync cat archive:x at", ["attic:"]),
        ("mountsync bisync archive: at", ["attic:"]),
        ("mountsync mount p", ["pictures"]),
        ("mountsync mount archive: ", ["<dir>"]),
        ("mountsync mount --cache-dir ", ["<dir>"]),
        ("mountsync mount --log-file ", ["<file>"]),
        ("mountsync mount --durability ", ["fsync", "close"]),
        ("mountsync mount --conflict=ne", ["--conflict=newer"]),
        ("mountsync mount --thumbn", ["--thumbnails"]),
        ("mountsync mount --write-delay ", []),
        ("mountsync config show ar", ["archive"]),
        ("mountsync config create x chunker chunk", ["chunk_size="]),
        ("mountsync config create x loc", ["local"]),
        ("mountsync start ", ["notes"]),
        ("mountsync status n", ["notes"]),
        ("mountsync umount ", ["<dir>"]),
        ("mountsync resolve --keep r", ["remote"]),
        ("mountsync hashsum sha2", ["sha256"]),
        ("mountsync hashsum sha256 at", ["attic:"]),
        ("mountsync completion z", ["zsh"]),
        ("mountsync ls 'ar", ["archive:"]),
        ("mountsync --config x l", ["ls", "lsd", "lsl", "lsf"]),
    ],
)
def test_answers(user: Shell, line: str, wanted: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert answers(user, line, monkeypatch) == wanted


def test_a_damaged_configuration_completes_nothing(user: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    user.config.write_text("[remote")
    assert answers(user, "mountsync ls ", monkeypatch) == []


def test_kinds_are_known() -> None:
    plain = {"remote", "file", "dir", "option"} | set(SOURCES)
    assert [kind for kind in KINDS.values() if kind not in plain and "|" not in kind] == []


def test_every_argument_that_is_a_remote_is_completed() -> None:
    for name, later in COMMANDS.items():
        command = later.load()
        for param in () if isinstance(command, click.Group) else command.params:
            if isinstance(param, click.Argument) and "REMOTE" in param.make_metavar(click.Context(command)):
                assert f"{name} {param.name}" in KINDS or param.name in KINDS, f"{name} {param.name}"


def test_answers_come_at_once(user: Shell) -> None:
    """An answer imports neither the engine nor the kernel's room."""
    code = (
        "import sys; from mountsync.cli.completion import answer; answer('mountsync ls a');"
        "slow = ('mountsync.engine.session', 'pyfuse3', 'rich');"
        "print([name for name in sys.modules if name.startswith(slow)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=user.environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("shell", sorted(SCRIPTS))
def test_printed_and_shipped_scripts_are_the_same(user: Shell, shell: str) -> None:
    assert user.here("completion", shell).out == SCRIPTS[shell]
    assert (ROOT / "share" / SHIPPED[shell]).read_text() == SCRIPTS[shell], "run scripts/gen-reference"


def needed(shell: str) -> str:
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"{shell} is not installed (Debian: {shell})")
    return found


TYPED = [
    ("mountsync um", "mountsync umount "),
    ("mountsync ls arch", "mountsync ls archive:"),
    ("mountsync copy archive:x att", "mountsync copy archive:x attic:"),
    ("mountsync mount --conflict=keep", "mountsync mount --conflict=keep-both"),
    ("mountsync ls my", "mountsync ls my\\ photos:"),
]


@pytest.mark.parametrize(("typed", "wanted"), TYPED)
def test_bash(user: Shell, typed: str, wanted: str) -> None:
    words = [needed("bash"), "--norc", "--noprofile", "-i"]
    with Terminal(words, user.environment, user.home) as terminal:
        terminal.type('eval "$(mountsync completion bash)"; echo re""ady\n')
        at = terminal.until("ready")
        terminal.type(typed + "\t")
        terminal.until(wanted, after=at)


@pytest.mark.parametrize(("typed", "wanted"), TYPED)
def test_zsh(user: Shell, typed: str, wanted: str) -> None:
    words = [needed("zsh"), "-f", "-i"]
    with Terminal(words, user.environment | {"TERM": "dumb"}, user.home) as terminal:
        terminal.type("autoload -U compinit; compinit -D -u; zstyle ':completion:*' menu no\n")
        terminal.type('eval "$(mountsync completion zsh)"; echo re""ady\n')
        at = terminal.until("ready")
        terminal.type(typed + "\t")
        terminal.until(wanted.removesuffix(" "), after=at)


@pytest.mark.parametrize(("typed", "wanted"), TYPED[:4])
def test_fish(user: Shell, typed: str, wanted: str) -> None:
    fish = needed("fish")
    asked = f"mountsync completion fish | source; complete -C '{typed}'"
    done = subprocess.run(
        [fish, "--no-config", "-c", asked],
        env=user.environment,
        cwd=user.home,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    values = [line.split("\t")[0] for line in done.stdout.splitlines()]
    assert values == [wanted.rsplit(maxsplit=1)[-1]], done.stderr
