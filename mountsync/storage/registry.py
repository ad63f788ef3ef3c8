"""Remote types by name, and the one way from a remote spec to an open storage.

Options are taken, the first that has one wins, from the connection string in the spec, from flags,
from the environment (`MOUNTSYNC_<TYPE>_<OPTION>`), from the configuration, from the type's default.
All are checked here, whatever they come from. A type's module is imported when it is first used.
"""

from __future__ import annotations

import hashlib
import importlib
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mountsync.errors import ConfigError
from mountsync.formats.remote_spec import LOCAL, RemoteSpec, format_spec, parse_spec
from mountsync.formats.suggest import suggestion
from mountsync.storage.api import Storage
from mountsync.storage.options import COMMON_OPTIONS, OpenContext, Option, checked_options

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP: Final = "mountsync.storage"
"""The entry point group of plug-ins: each names a module, or object, with OPTIONS and open_storage."""


@dataclass(frozen=True, slots=True)
class BuiltIn:
    """Where a type of our own lives, and the extra that its libraries come with."""

    module: str
    extra: str | None = None


BUILT_IN: Final[Mapping[str, BuiltIn]] = {
    "local": BuiltIn("mountsync.storage.local"),
    "alias": BuiltIn("mountsync.storage.alias"),
    "memory": BuiltIn("mountsync.storage.memory"),
    "chunker": BuiltIn("mountsync.storage.chunker"),
    "modal": BuiltIn("mountsync.storage.modal", "modal"),
    "s3": BuiltIn("mountsync.storage.s3", "s3"),
    "rclone": BuiltIn("mountsync.storage.rclone", "rclone"),
}

Factory = Callable[[Mapping[str, object], str, OpenContext], Awaitable[Storage]]


@dataclass(frozen=True, slots=True)
class StorageType:
    """A remote type that was loaded."""

    name: str
    options: tuple[Option, ...]
    """Its own; `COMMON_OPTIONS` come in addition."""
    factory: Factory


def type_names() -> list[str]:
    """All types that can be asked for: ours, and those that plug-ins announce."""
    return sorted({*BUILT_IN, *(point.name for point in _plug_ins())})


def load_type(name: str) -> StorageType:
    """The type of this name. Raises ConfigError: unknown (with the nearest name), or cannot be loaded."""
    if name in BUILT_IN:
        return _checked(name, _load_built_in(name, BUILT_IN[name]))
    point = next((point for point in _plug_ins() if point.name == name), None)
    if point is None:
        raise ConfigError(f"there is no remote type {name!r}", hint=suggestion(name, type_names()))
    return _checked(name, _load_plug_in(point))


def loadable_types() -> tuple[list[StorageType], dict[str, str]]:
    """Every type that can be loaded, and for the others the reason; none of them is fatal."""
    types, refused = [], {}
    for name in type_names():
        try:
            types.append(load_type(name))
        except ConfigError as error:
            refused[name] = str(error)
    return types, refused


def _plug_ins() -> Iterable[EntryPoint]:
    from importlib.metadata import entry_points  # noqa: PLC0415 - slow to load, and only for plug-ins

    return entry_points(group=GROUP)


def _load_built_in(name: str, built_in: BuiltIn) -> object:
    try:
        return importlib.import_module(built_in.module)
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("mountsync") or built_in.extra is None:
            raise ConfigError(f"this mountsync has no remote type {name!r}") from error
        raise ConfigError(
            f"remote type {name} needs the Python module {error.name!r}",
            hint=f"pip install 'mountsync[{built_in.extra}]'",
        ) from error


def _load_plug_in(point: EntryPoint) -> object:
    try:
        return point.load()
    except Exception as error:  # foreign code may raise anything, and must not stop us
        raise ConfigError(
            f"the plug-in for remote type {point.name!r} ({point.value}) cannot be loaded: "
            f"{type(error).__name__}: {error}",
            hint="update or remove it",
        ) from error


def _checked(name: str, module: object) -> StorageType:
    options, factory = getattr(module, "OPTIONS", None), getattr(module, "open_storage", None)
    if not isinstance(options, tuple) or not all(isinstance(option, Option) for option in options):
        raise _unfit(name, "OPTIONS, a tuple of Option")
    if not callable(factory):
        raise _unfit(name, "open_storage")
    return StorageType(name, options, factory)


def _unfit(name: str, lack: str) -> ConfigError:
    return ConfigError(f"the module for remote type {name!r} has no {lack}", hint="update or remove it")


@dataclass(frozen=True, slots=True)
class ResolvedRemote:
    """A spec with all that is known about it, its options checked. Nothing is open."""

    spec: RemoteSpec
    type: StorageType
    options: Mapping[str, object]
    common: Mapping[str, object]
    """Values of `COMMON_OPTIONS`."""


@dataclass(frozen=True, slots=True)
class Remotes:
    """What remote specs mean here."""

    configured: Mapping[str, Mapping[str, Any]]
    """Remotes of the configuration by name, each with a `type`."""
    state_root: Path
    """Each storage gets a folder in here for its own state."""
    flags: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    """Options given as flags, by type: `{"chunker": {"chunk_size": "4M"}}`."""
    environment: Mapping[str, str] = field(default_factory=lambda: os.environ)
    lasting: bool = True
    """As in `OpenContext`."""

    def resolve(self, spec_text: str) -> ResolvedRemote:
        """Reads a spec and checks its options. Raises UsageError or ConfigError."""
        spec = parse_spec(spec_text)
        section = self._section(spec)
        kind = load_type(str(section.pop("type")))
        declared = (*kind.options, *(o for o in COMMON_OPTIONS if o.name not in _names(kind.options)))
        given = section | self._from_environment(kind.name, declared) | self._from_flags(kind.name, declared)
        checked = checked_options(kind.name, declared, given | dict(spec.options))
        own = {option.name: checked[option.name] for option in kind.options}
        common = {option.name: checked[option.name] for option in COMMON_OPTIONS}
        return ResolvedRemote(spec, kind, own, common)

    def _section(self, spec: RemoteSpec) -> dict[str, Any]:
        if spec.name is None:
            return {"type": spec.type}
        section = self.configured.get(spec.name)
        if section is None:
            raise ConfigError(
                f"there is no remote {spec.name!r}",
                hint=suggestion(spec.name, self.configured) or "make it with `mountsync config create`",
            )
        return dict(section)

    def _from_environment(self, name: str, declared: Iterable[Option]) -> dict[str, object]:
        variables = {option.name: option.variable(name) for option in declared}
        return {
            option: self.environment[variable]
            for option, variable in variables.items()
            if variable in self.environment
        }

    def _from_flags(self, name: str, declared: Iterable[Option]) -> dict[str, object]:
        flags = self.flags.get(name, {})
        checked_options(name, (_optional(option) for option in declared), flags)  # their own words first
        return dict(flags)

    async def open(self, spec_text: str) -> Storage:
        """Opens the storage that a spec names; the caller closes it. Raises ConfigError, NotFound, …"""
        return await self._open(spec_text, ())

    async def _open(self, spec_text: str, above: tuple[str, ...]) -> Storage:
        remote = self.resolve(spec_text)
        name = remote.spec.name
        if name is not None and name in above:
            raise ConfigError(f"remote {name!r} leads back to itself through {' and '.join(above)}")
        chain = (*above, name) if name is not None else above

        async def open_below(text: str) -> Storage:
            return await self._open(text, chain)

        state_dir = self.state_root / state_name(remote.spec)
        context = OpenContext(state_dir, open_below, name, self.lasting)
        return await remote.type.factory(remote.options, remote.spec.path, context)


def state_name(spec: RemoteSpec) -> str:
    """The name of the folder for a storage's own state: the same on each start, and without secrets.

    It tells specs apart, not what they mean: where variables decide that, the storage has to tell.
    """
    if spec.is_local_path:
        spec = RemoteSpec(type=LOCAL, path=os.path.abspath(os.path.expanduser(spec.path)))
    head = spec.name or spec.type or ""
    readable = "".join(c for c in head if c.isascii() and c.isalnum())
    digest = hashlib.sha256(format_spec(spec).encode("utf-8", "surrogateescape")).hexdigest()
    return f"{readable}-{digest[:16]}"


def _names(options: Iterable[Option]) -> set[str]:
    return {option.name for option in options}


def _optional(option: Option) -> Option:
    return Option(option.name, option.kind, choices=option.choices, minimum=option.minimum)
