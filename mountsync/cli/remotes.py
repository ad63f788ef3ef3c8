"""From the text that a user types to an open storage: configuration, flags of remote types, paths."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any, Final

import click

from mountsync.config import Config, config_path, load_config
from mountsync.errors import NotFound, PathError, UsageError
from mountsync.formats.remote_spec import format_spec, parse_spec
from mountsync.formats.suggest import suggestion
from mountsync.model.entry import Entry, Kind
from mountsync.paths import RelPath, join, rel_path
from mountsync.settings import MOUNT_OPTIONS, storage_state_root
from mountsync.storage.api import Storage
from mountsync.storage.environment import take_credentials, with_environment
from mountsync.storage.options import Option, OptionKind
from mountsync.storage.registry import Remotes, load_type, loadable_types, type_names

MOUNT_KEYS: Final = frozenset({"remote", "mountpoint", *(option.name for option in MOUNT_OPTIONS)})
"""Keys of a `[mount.NAME]` section."""
JOB_KEYS: Final = frozenset(
    {
        "a", "b", "backups", "bwlimit", "compare", "conflict", "fallback", "filter", "filter_from",
        "keep_backups", "keep_runs", "max_delete", "one_way", "policies", "renames", "transfers",
        "watcher_interval", "write_delay",
    }
)  # fmt: skip
"""Keys of a `[job.NAME]` section."""
DEFAULT_KEYS: Final = MOUNT_KEYS - {"remote", "mountpoint", "cache_dir"}
"""Keys at the top level: defaults of every mount."""

BackendOptions = dict[str, dict[str, str]]
"""Options that flags gave for remote types: `{"chunker": {"chunk_size": "4M"}}`."""


def configuration() -> Config:
    """The configuration, its keys checked, with the remotes of the environment.

    Raises ConfigError: file, key, the nearest known one.
    """
    take_credentials(os.environ)
    config = with_environment(load_config(config_path()), os.environ)
    config.refuse_unknown(mount_keys=MOUNT_KEYS, job_keys=JOB_KEYS, defaults=DEFAULT_KEYS)
    return config


def known_remotes(flags: BackendOptions) -> Remotes:
    """What remote specs mean for this user, with these flags."""
    return Remotes(configuration().remotes, storage_state_root(), flags, lasting=False)


def absolute_spec(text: str) -> str:
    """The spec in one form whatever the current folder is.

    Raises UsageError when it is none, NameRefused for a path with `..` or an empty part.
    """
    spec = parse_spec(text)
    if spec.is_local_path:
        spec = replace(spec, path=os.path.abspath(os.path.expanduser(spec.path)))
    else:
        rel_path(spec.path.strip("/"))
    return format_spec(spec)


@asynccontextmanager
async def opened(spec: str, flags: BackendOptions) -> AsyncIterator[Storage]:
    """The storage that a spec names, closed at the end."""
    async with aclosing(await known_remotes(flags).open(absolute_spec(spec))) as storage:
        yield storage


@dataclass(frozen=True, slots=True)
class Place:
    """One object: the spec of a folder above it, and its path from there."""

    folder: str
    path: RelPath


def places(spec_text: str) -> list[Place]:
    """Every way to name the object from a folder above it, the nearest folder first.

    Empty when the spec names the root of a remote. Raises UsageError for a path with `..` or the like.
    """
    spec = parse_spec(absolute_spec(spec_text))
    below, above, found = RelPath(""), spec.path.rstrip("/"), []
    while above and above not in (".", "~"):
        above, slash, name = above.rpartition("/")
        below = join(rel_path(name), below) if below else rel_path(name)
        folder = "/" if slash and not above and spec.is_local_path else above
        found.append(Place(format_spec(replace(spec, path=folder)), below))
        if spec.is_local_path and not above:
            break
    return found


@asynccontextmanager
async def opened_above(spec: str, flags: BackendOptions) -> AsyncIterator[tuple[Storage, RelPath]]:
    """The nearest existing folder above the object that `spec` names, and the object's path in it.

    Raises UsageError when the spec names a whole remote, NotFound when nothing above exists.
    """
    place, storage = await _open_nearest(spec, flags)
    async with aclosing(storage):
        yield storage, place.path


async def _open_nearest(spec: str, flags: BackendOptions) -> tuple[Place, Storage]:
    options = places(spec)
    if not options:
        raise UsageError(f"{spec}: this is a whole remote", hint="name something in it")
    for place in options[:-1]:
        with suppress(NotFound):
            return place, await known_remotes(flags).open(place.folder)
    return options[-1], await known_remotes(flags).open(options[-1].folder)


async def single_file(spec: str, flags: BackendOptions) -> tuple[Place, Entry] | None:
    """The one file or link that a spec names, None when it names none."""
    try:
        place, storage = await _open_nearest(spec, flags)
        async with aclosing(storage):
            entry = await storage.stat(place.path)
    except (PathError, UsageError):
        return None
    return None if entry is None or entry.kind is Kind.DIRECTORY else (place, entry)


class RemoteCommand(click.Command):
    """A command that opens remotes: it takes the options of every remote type as flags.

    They reach the callback as `backend_options`. A type is imported only when one of its flags is
    there, or for the help.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {name for param in self.params for name in (*param.opts, *param.secondary_opts)}
        rest, flags = _split_flags(args, own)
        ctx.params["backend_options"] = flags
        return super().parse_args(ctx, rest)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        super().format_options(ctx, formatter)
        rows = [
            (f"{option.flag(kind.name)}{_value_form(option)}", option.help)
            for kind in loadable_types()[0]
            for option in kind.options
        ]
        if rows:
            with formatter.section(
                "Options of remote types (also MOUNTSYNC_TYPE_OPTION; bare sizes are KiB)"
            ):
                formatter.write_dl(rows)


def _value_form(option: Option) -> str:
    return "[=BOOL]" if option.kind is OptionKind.BOOL else f" {option.kind.name}"


def remote_command(**settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """`click.command` for a command that opens remotes."""
    return click.command(cls=RemoteCommand, **settings)


def _split_flags(args: list[str], own: set[str]) -> tuple[list[str], BackendOptions]:
    """Takes the flags of remote types out of `args`."""
    rest: list[str] = []
    flags: BackendOptions = {}
    waiting = list(args)
    while waiting:
        arg = waiting.pop(0)
        if arg == "--":
            return [*rest, arg, *waiting], flags
        name, equals, value = arg.partition("=")
        kind = None if name in own else _type_of(name)
        if kind is None:
            rest.append(arg)
            continue
        option = _declared(kind, name)
        if not equals:
            value = _next_value(option, name, waiting)
        option.convert(value, name)
        flags.setdefault(kind, {})[option.name] = value
    return rest, flags


def _next_value(option: Option, flag: str, waiting: list[str]) -> str:
    if option.kind is OptionKind.BOOL:
        return "true"
    if not waiting:
        raise UsageError(f"{flag} needs a value")
    return waiting.pop(0)


def _type_of(flag: str) -> str | None:
    if not flag.startswith("--"):
        return None
    return next((name for name in type_names() if flag.startswith(f"--{name}-")), None)


def _declared(kind: str, flag: str) -> Option:
    options: Mapping[str, Option] = {option.flag(kind): option for option in load_type(kind).options}
    if flag not in options:
        raise UsageError(f"no such option {flag!r}", hint=suggestion(flag, options))
    return options[flag]
