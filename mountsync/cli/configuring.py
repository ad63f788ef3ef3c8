"""`mountsync config`: make, show, check and delete what the configuration file holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import click

from mountsync.cli import config_asking
from mountsync.cli.config_import import import_rclone
from mountsync.cli.forms import Configured
from mountsync.cli.mounting import option_values
from mountsync.cli.output import emit_json
from mountsync.cli.remotes import configuration, known_remotes
from mountsync.cli.voice import say
from mountsync.config import Config, config_path, delete_remote, load_config, set_remote
from mountsync.errors import ConfigError, MountsyncError, UsageError
from mountsync.storage.options import COMMON_OPTIONS, Option, checked_options
from mountsync.storage.registry import load_type, loadable_types

STARS: Final = "***"


@click.group()
def config() -> None:
    """Make, show, check and delete remotes. The file is $MOUNTSYNC_CONFIG, by default
    ~/.config/mountsync/config.toml, and yours to edit.
    """


config.add_command(import_rclone)


@config.command()
@click.argument("name", required=False)
@click.argument("kind", metavar="[TYPE]", required=False)
@click.argument("values", metavar="[OPTION=VALUE]...", nargs=-1)
@click.option("--replace", is_flag=True, help="Replace a remote of that name.")
def create(*, name: str | None, kind: str | None, values: tuple[str, ...], replace: bool) -> int:
    """Make the remote NAME of TYPE; `mountsync config types` lists types and their options.

    On a terminal, without TYPE, it asks for everything, looks at the remote and writes it when you say so.
    """
    if name is None or kind is None:
        if not config_asking.can_ask():
            raise click.UsageError(f"missing argument {'NAME' if name is None else 'TYPE'!r}")
        return config_asking.ask(name)
    given = dict(_pair(text) for text in values)
    declared = {option.name: option for option in (*load_type(kind).options, *COMMON_OPTIONS)}
    checked_options(kind, declared.values(), given)
    if name in load_config(config_path()).remotes and not replace:
        raise ConfigError(f"the remote {name!r} exists", hint="use --replace, or another name")
    set_remote(config_path(), name, {"type": kind, **given})
    return 0


def _pair(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise UsageError(f"{text!r} is not OPTION=VALUE")
    return key.replace("-", "_"), value


@config.command("list")
def list_remotes() -> None:
    """List the names of all remotes."""
    for name, remote in sorted(configuration().remotes.items()):
        click.echo(f"{name}: {remote['type']}")


@config.command()
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def show(*, name: str | None, as_json: bool) -> None:
    """Show the configuration, or one remote; secrets are never printed."""
    loaded = configuration()
    remotes = {name: loaded.remote(name)} if name is not None else loaded.remotes
    clean = {each: _without_secrets(remote) for each, remote in sorted(remotes.items())}
    mounts = {} if name is not None else dict(loaded.mounts)
    jobs = {} if name is not None else dict(loaded.jobs)
    if as_json:
        emit_json(Configured(file=str(loaded.path), remotes=clean, mounts=mounts, jobs=jobs))
        return
    for kind, sections in (("remote", clean), ("mount", mounts), ("job", jobs)):
        for each, section in sections.items():
            click.echo(f"[{kind}.{each}]")
            for key, value in section.items():
                click.echo(f"{key} = {_toml(value)}")


def _toml(value: object) -> str:
    import json  # noqa: PLC0415 - a JSON text, number or list reads the same in TOML

    return json.dumps(value, ensure_ascii=False, default=str)


def _without_secrets(remote: Mapping[str, Any]) -> dict[str, Any]:
    """Values that the type declares harmless; of a type that cannot be loaded, none."""
    try:
        open_ones = {option.name for option in load_type(str(remote["type"])).options if not option.secret}
    except ConfigError:
        open_ones = set()
    open_ones |= {"type", *(option.name for option in COMMON_OPTIONS)}
    return {key: value if key in open_ones else STARS for key, value in remote.items()}


@config.command()
@click.argument("name")
def delete(*, name: str) -> None:
    """Delete the remote NAME from the configuration; what it holds stays where it is."""
    delete_remote(config_path(), name)


@config.command()
def check() -> int:
    """Check the whole file: keys, types, values. Nothing is opened. Exit code 2 when something is wrong."""
    loaded = configuration()
    wrong = list(_wrong(loaded))
    for line in wrong:
        say(line)
    if not wrong:
        counts = f"{len(loaded.remotes)} remotes, {len(loaded.mounts)} mounts, {len(loaded.jobs)} jobs"
        click.echo(f"{loaded.path}: ok: {counts}")
    return 2 if wrong else 0


def _wrong(loaded: Config) -> Iterator[str]:
    remotes = known_remotes({})
    for name in loaded.remotes:
        yield from _refusal(f"[remote.{name}]", loaded, lambda name=name: remotes.resolve(f"{name}:"))
    for name, section in loaded.mounts.items():
        where = f"[mount.{name}]"
        yield from _refusal(where, loaded, lambda section=section: option_values(section, ""))
        if "remote" in section:
            spec = str(section["remote"])
            yield from _refusal(where, loaded, lambda spec=spec: remotes.resolve(spec))
    for name, section in loaded.jobs.items():
        for side in ("a", "b"):
            spec = str(section.get(side, ""))
            yield from _refusal(f"[job.{name}] {side}", loaded, lambda spec=spec: remotes.resolve(spec))


def _refusal(where: str, loaded: Config, work: Any) -> Iterator[str]:
    try:
        work()
    except MountsyncError as error:
        yield f"{loaded.path}: {where}: {error}"


@config.command()
def types() -> None:
    """List the types of remotes that can be used here, and the options of each."""
    found, refused = loadable_types()
    for kind in found:
        click.echo(kind.name)
        for option in kind.options:
            click.echo(f"  {option.name}: {_about(option)}")
    for name, reason in refused.items():
        say(f"{name}: {reason}")


def _about(option: Option) -> str:
    default = "" if option.default in (None, "") else f" [default: {option.default}]"
    return f"{option.kind.value}; {option.help}{default}"
