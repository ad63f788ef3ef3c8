"""Manual pages, made from the commands themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import click

import mountsync
from mountsync.cli.completion_scripts import SCRIPTS, SHIPPED
from mountsync.cli.main import COMMANDS, EXIT_CODES, root
from mountsync.cli.remotes import RemoteCommand
from mountsync.settings import MOUNT_OPTIONS
from mountsync.storage.registry import BUILT_IN

DATE = "2026-11-20"
"""Of the pages' form; the text follows the code."""


def shipped() -> dict[str, str]:
    """Every generated file by its name in `share/`."""
    pages = {f"man/man1/{name}.1": "\n".join(lines) + "\n" for name, lines in manual()}
    return pages | {SHIPPED[shell]: text for shell, text in SCRIPTS.items()}


def manual() -> Iterator[tuple[str, Iterable[str]]]:
    """Each page's name and lines."""
    yield "mountsync", overview()
    for name, later in COMMANDS.items():
        yield f"mountsync-{name}", page(name, later.load(), later.line)


def overview() -> Iterator[str]:
    yield from head("mountsync", "use remote storage as an ordinary folder")
    yield from section("SYNOPSIS")
    yield ".B mountsync"
    yield "[\\fB\\-\\-config\\fR \\fIFILE\\fR] \\fICOMMAND\\fR ..."
    yield from section("DESCRIPTION")
    yield from paragraphs(root.help or "")
    yield from section("COMMANDS")
    for name, later in COMMANDS.items():
        yield ".TP"
        yield f"\\fB{text(f'mountsync-{name}')}\\fR(1)"
        yield text(later.line)
    yield from section("FILES")
    yield from item("$MOUNTSYNC_CONFIG, ~/.config/mountsync/config.toml", "Remotes, mounts and jobs.")
    yield from item("~/.local/state/mountsync/", "State and cache, one folder per remote.")
    yield from section("EXIT STATUS")
    for code, meaning in EXIT_CODES.items():
        yield from item(str(code), f"{meaning[:1].upper()}{meaning[1:]}.")
    yield from section("EXAMPLES")
    yield ".nf"
    yield text("mountsync config create photos chunker remote=/srv/photos chunk_size=100M")
    yield text("mountsync mount photos: ~/Photos --daemon")
    yield text("mountsync umount ~/Photos")
    yield ".fi"


def page(name: str, command: click.Command, line: str) -> Iterator[str]:
    yield from head(f"mountsync-{name}", line[:1].lower() + line[1:].rstrip("."))
    yield from section("SYNOPSIS")
    if isinstance(command, click.Group):
        for number, inner in enumerate(sorted(command.commands)):
            yield from [".PP"] if number else []
            yield from synopsis(f"{name} {inner}", command.commands[inner])
        yield from section("DESCRIPTION")
        yield from paragraphs(command.help or "")
        yield from section("COMMANDS")
        for inner in sorted(command.commands):
            yield f'.SS "{text(f"mountsync {name} {inner}")}"'
            yield from paragraphs(command.commands[inner].help or "")
            yield from options(command.commands[inner])
    else:
        yield from synopsis(name, command)
        yield from section("DESCRIPTION")
        yield from paragraphs(command.help or "")
        rows = list(options(command))
        if rows:
            yield from section("OPTIONS")
            yield from rows
    if isinstance(command, RemoteCommand):
        yield from section("OPTIONS OF REMOTE TYPES")
        types = ", ".join(BUILT_IN)
        yield text(
            f"Every option of a remote type ({types}) is also a flag, --TYPE-OPTION, and an environment "
            "variable, MOUNTSYNC_TYPE_OPTION; `mountsync config types` lists them."
        )
    if name == "mount":
        yield from section("ENVIRONMENT")
        for option in MOUNT_OPTIONS:
            yield from item(option.variable, f"As {option.flag}.")
    yield from section("SEE ALSO")
    yield ".BR mountsync (1)"


def head(name: str, line: str) -> Iterator[str]:
    yield '.\\" Made by scripts/gen-reference from the code; a test compares. Do not edit.'
    yield f'.TH {name.upper()} 1 {DATE} "mountsync {mountsync.__version__}" "User Commands"'
    yield from section("NAME")
    yield f"{text(name)} \\- {text(line)}"


def section(title: str) -> Iterator[str]:
    yield f".SH {title}" if " " not in title else f'.SH "{title}"'


def synopsis(name: str, command: click.Command) -> Iterator[str]:
    pieces = command.collect_usage_pieces(click.Context(command, info_name=name))
    yield f"\\fB{text(f'mountsync {name}')}\\fR {text(' '.join(pieces))}"


def options(command: click.Command) -> Iterator[str]:
    ctx = click.Context(command)
    for param in command.get_params(ctx):
        record = param.get_help_record(ctx)
        if record is not None and isinstance(param, click.Option) and "--help" not in param.opts:
            yield ".TP"
            yield f"\\fB{text(record[0])}\\fR"
            yield text(record[1] or "See the description.")


def item(term: str, meaning: str) -> Iterator[str]:
    yield ".TP"
    yield f"\\fB{text(term)}\\fR"
    yield text(meaning)


def paragraphs(help_text: str) -> Iterator[str]:
    """The help of a command; what stands behind a \\b keeps its lines."""
    first = True
    for block in re.split(r"\n\s*\n", help_text.strip()):
        lines = [line.strip() for line in block.strip("\n").splitlines() if line.strip()]
        if not first:
            yield ".PP"
        first = False
        if lines and lines[0] == "\b":
            yield ".nf"
            yield from (text(line) for line in lines[1:])
            yield ".fi"
        else:
            yield text(" ".join(lines))


def text(plain: str) -> str:
    """Plain text as roff takes it; hyphens stay what they are when they are copied."""
    escaped = plain.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("`", "\\(ga")
    escaped = escaped.replace("…", "...").replace("~", "\\(ti").replace("^", "\\(ha")
    return f"\\&{escaped}" if escaped.startswith(".") else escaped
