"""`config create` without arguments: asks for a remote, checks it, and writes it when all is right."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import aclosing
from typing import Final

import click
import trio

from mountsync.cli.output import counted
from mountsync.config import Config, config_path, load_config, set_remote
from mountsync.errors import ConfigError, MountsyncError, Unreachable, printable
from mountsync.formats.remote_spec import is_remote_name
from mountsync.formats.sizes import format_size
from mountsync.paths import ROOT
from mountsync.settings import storage_state_root
from mountsync.storage.options import COMMON_OPTIONS, Option, OptionKind, checked_options
from mountsync.storage.registry import Remotes, StorageType, loadable_types

_LOOK_S: Final = 20.0
"""How long a look at the new remote may take."""
_STARS: Final = "***"


def can_ask() -> bool:
    """Whether a person sits at a terminal."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def ask(name: str | None) -> int:
    """Asks and writes; nothing is written before the last answer. Exit code 1 when the person said no."""
    loaded = load_config(config_path())
    name = _ask_name(loaded, name)
    kind = _ask_type()
    given = _ask_options(kind)
    click.echo(f"\n[remote.{name}]\ntype = {kind.name}")
    for key, value in given.items():
        click.echo(f"{key} = {_STARS if _is_secret(kind, key) else printable(value)}")
    values = {"type": kind.name, **given}
    click.echo()
    if click.confirm("Look at it now?", default=True):
        _look(loaded, name, values)
    if not click.confirm(f"Write it to {config_path()}?", default=True):
        click.echo("nothing was written")
        return 1
    set_remote(config_path(), name, values)
    click.echo(f"written; `mountsync ls {name}:` lists it, `mountsync mount {name}: FOLDER` mounts it")
    return 0


def _ask_name(loaded: Config, name: str | None) -> str:
    while True:
        name = name or str(click.prompt("Name of the remote")).strip()
        if not is_remote_name(name):
            click.echo("a name is made of letters, digits, - and _")
        elif name in loaded.remotes and not click.confirm(f"{name} exists. Replace it?", default=False):
            click.echo("take another name")
        else:
            return name
        name = None


def _ask_type() -> StorageType:
    kinds, refused = loadable_types()
    click.echo("\nType:")
    for number, kind in enumerate(kinds, 1):
        click.echo(f"{number:3d}  {kind.name:8s} {_line_of(kind)}")
    for missing, reason in refused.items():
        click.echo(f"  -  {missing:8s} {reason}")
    names = [kind.name for kind in kinds]
    while True:
        answer = str(click.prompt("Type, or its number", default="local")).strip()
        place = int(answer) - 1 if answer.isdecimal() else names.index(answer) if answer in names else -1
        if 0 <= place < len(kinds):
            return kinds[place]
        click.echo(f"there is no type {answer!r}")


def _line_of(kind: StorageType) -> str:
    """What the module that implements a type says of itself in its first line."""
    module = sys.modules.get(kind.factory.__module__)
    lines = (module.__doc__ or "").strip().splitlines() if module is not None else []
    return lines[0].rstrip(":") if lines else ""


def _ask_options(kind: StorageType) -> dict[str, str]:
    options = (*kind.options, *COMMON_OPTIONS)
    click.echo("\nOptions; Enter leaves one as it is.")
    given: dict[str, str] = {}
    for option in options:
        value = _ask_option(option)
        if value:
            given[option.name] = value
    checked_options(kind.name, options, given)
    return given


def _ask_option(option: Option) -> str:
    """A value that is right for the option; empty to leave it out."""
    click.echo(f"\n{option.name}: {option.help or option.kind.value}")
    if option.choices:
        click.echo(f"  one of {', '.join(option.choices)}")
    while True:
        value = str(_prompt(option)).strip()
        if not value and option.required:
            click.echo("it is needed")
            continue
        try:
            if value:
                option.convert(value, option.name)
        except ConfigError as error:
            click.echo(str(error))
            continue
        return value


def _prompt(option: Option) -> object:
    if option.secret:
        return click.prompt("  (not shown)", default="", show_default=False, hide_input=True)
    shown = _default(option)
    text = f"  [{shown}]" if shown else "  "
    return click.prompt(text, default="", show_default=False, prompt_suffix=": ")


def _default(option: Option) -> str:
    if option.default in (None, ""):
        return "needed" if option.required else ""
    if isinstance(option.default, bool):
        return "yes" if option.default else "no"
    if option.kind is OptionKind.SIZE and isinstance(option.default, int):
        return format_size(option.default)
    return str(option.default)


def _is_secret(kind: StorageType, key: str) -> bool:
    return any(option.secret for option in kind.options if option.name == key)


def _look(loaded: Config, name: str, values: Mapping[str, str]) -> None:
    """Opens the remote as it would be and says what is there, or why that cannot be told."""
    remotes = Remotes(dict(loaded.remotes) | {name: values}, storage_state_root())
    try:
        count = trio.run(_count, remotes, name)
    except MountsyncError as error:
        click.echo(f"it cannot be used as it is: {error}")
    else:
        click.echo(f"it works: {counted(count, 'entry')} at its top")


async def _count(remotes: Remotes, name: str) -> int:
    with trio.move_on_after(_LOOK_S):
        async with (
            aclosing(await remotes.open(f"{name}:")) as storage,
            storage.list(ROOT, recursive=False) as batches,
        ):
            return sum([len(batch) async for batch in batches])
    raise Unreachable(f"it did not answer within {_LOOK_S:.0f} s")
