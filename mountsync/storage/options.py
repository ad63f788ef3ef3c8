"""What a storage type tells about its options, and what it is given when it is opened.

A module that implements a type has, at its top level:

    OPTIONS: tuple[Option, ...]

    async def open_storage(options: Mapping[str, object], path: str, context: OpenContext) -> Storage

`options` holds every declared option, checked and converted (see `OptionKind`), defaults filled in.
`path` is the text after the colon of the remote spec, as the user wrote it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Protocol, TypeAlias

from mountsync.errors import ConfigError, UsageError
from mountsync.formats.sizes import parse_duration, parse_size
from mountsync.formats.suggest import suggestion
from mountsync.storage.api import Storage


class OptionKind(Enum):
    """The type of an option's value, and what a text for it may look like."""

    TEXT = "text"
    """`str`."""
    SIZE = "size"
    """`int` bytes, None for `off`; a bare number counts KiB, a TOML integer too."""
    BOOL = "bool"
    """`bool`: true, false, yes, no, on, off, 1, 0."""
    INT = "int"
    """`int`."""
    CHOICE = "choice"
    """`str`, one of `choices`."""
    SECONDS = "seconds"
    """`float`: `5s`, `1m30s`, or a number of seconds."""


_BOOLS = {
    "true": True,
    "yes": True,
    "on": True,
    "1": True,
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


@dataclass(frozen=True, slots=True)
class Option:
    """One option of a storage type. `name` has underscores; flags and variables derive from it."""

    name: str
    kind: OptionKind = OptionKind.TEXT
    default: object = None
    """Already converted; None means "not given"."""
    help: str = ""
    choices: tuple[str, ...] = ()
    required: bool = False
    minimum: int | None = None
    """For SIZE, INT and SECONDS."""
    secret: bool = False
    """Never shown; `config show` prints stars."""

    def convert(self, value: object, where: str) -> object:
        """`value`, text or of TOML's types, as this kind. Raises ConfigError that names `where`."""
        try:
            converted = _CONVERTERS[self.kind](self, value)
        except UsageError as error:
            raise ConfigError(f"{where}: {error.reason}", hint=error.hint) from error
        if self.minimum is not None and isinstance(converted, int | float) and converted < self.minimum:
            raise ConfigError(f"{where}: {value!r} is less than {self.minimum}")
        return converted

    def flag(self, type_name: str) -> str:
        """The command line flag: `--chunker-chunk-size`."""
        return f"--{type_name}-{self.name}".replace("_", "-")

    def variable(self, type_name: str) -> str:
        """The environment variable: `MOUNTSYNC_CHUNKER_CHUNK_SIZE`."""
        return f"MOUNTSYNC_{type_name}_{self.name}".upper().replace("-", "_")


COMMON_OPTIONS: tuple[Option, ...] = (
    Option(
        "watcher_interval",
        OptionKind.SECONDS,
        minimum=0,
        help="look for remote changes this often, for storages that cannot watch",
    ),
)
"""Options that every remote has; they are for the engine and do not reach a type's factory."""


@dataclass(frozen=True, slots=True)
class OpenContext:
    """What a storage is given besides its options."""

    state_dir: Path
    """A folder for the storage's own private state (journals); it may not exist yet, make it 0700."""
    opener: Callable[[str], Awaitable[Storage]]
    name: str | None = None
    """The remote's name in the configuration, None for one that is made on the fly."""
    lasting: bool = True
    """Whether a mount opens it, which takes an object for the same as before because its name is.

    Commands take what they find, and pairs leave marks of their own.
    """

    async def open_remote(self, spec_text: str) -> Storage:
        """Opens the remote below an overlay. The overlay owns it and closes it in its own `aclose`."""
        return await self.opener(spec_text)


class StorageModule(Protocol):
    """The module (or object) behind a type name."""

    @property
    def OPTIONS(self) -> tuple[Option, ...]: ...  # noqa: N802 - a module constant

    async def open_storage(
        self, options: Mapping[str, object], path: str, context: OpenContext
    ) -> Storage: ...


Values: TypeAlias = Mapping[str, object]


def checked_options(type_name: str, declared: Iterable[Option], values: Values) -> dict[str, object]:
    """`values` converted, with defaults for what is missing.

    Raises ConfigError for an unknown name (with the nearest known one), a wrong value, or a missing
    required option.
    """
    known = {option.name: option for option in declared}
    for name in values:
        if name not in known:
            raise ConfigError(f"remote type {type_name} has no option {name!r}", hint=suggestion(name, known))
    return {option.name: _value(type_name, option, values) for option in known.values()}


def _value(type_name: str, option: Option, values: Values) -> object:
    if option.name in values:
        return option.convert(values[option.name], f"{type_name} option {option.name}")
    if option.required:
        raise ConfigError(
            f"remote type {type_name} needs the option {option.name!r}", hint=option.help or None
        )
    return option.default


def _text(_: Option, value: object) -> str:
    if not isinstance(value, str):
        raise UsageError(f"{value!r} is not a text")
    return value


def _size(_: Option, value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise UsageError(f"{value!r} is not a size")
    return parse_size(str(value))


def _bool(_: Option, value: object) -> bool:
    known = _BOOLS.get(str(value).lower())
    if known is None:
        raise UsageError(f"{value!r} is neither true nor false")
    return known


def _int(_: Option, value: object) -> int:
    try:
        return int(str(value))
    except ValueError as error:
        raise UsageError(f"{value!r} is not a whole number") from error


def _choice(option: Option, value: object) -> str:
    if not isinstance(value, str) or value not in option.choices:
        raise UsageError(f"{value!r} is not one of {', '.join(option.choices)}")
    return value


def _seconds(_: Option, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise UsageError(f"{value!r} is not a duration")
    return parse_duration(str(value))


_CONVERTERS: dict[OptionKind, Callable[[Option, object], object]] = {
    OptionKind.TEXT: _text,
    OptionKind.SIZE: _size,
    OptionKind.BOOL: _bool,
    OptionKind.INT: _int,
    OptionKind.CHOICE: _choice,
    OptionKind.SECONDS: _seconds,
}
