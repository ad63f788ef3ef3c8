"""rclone's configuration, read as remotes of ours. Pure.

The file is INI as rclone writes it: `[name]`, then `key = value` lines; lines that begin with `#` or `;`
are comments, and a value may stand in backquotes. An encrypted file begins with the line
`RCLONE_ENCRYPT_V0:`. Option names and their meaning are those of rclone's documentation.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mountsync.errors import ConfigError, UsageError
from mountsync.formats.remote_spec import is_local_path, is_remote_name, parse_spec

_ENCRYPTED: Final = "RCLONE_ENCRYPT_V0:"
_SECTION: Final = re.compile(r"\[(.+)\]")
_NEVER_SAID: Final = frozenset({"type", "description"})

Section = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Translated:
    """One remote. `credentials` are keys and values of a section in the form of ~/.aws/credentials."""

    name: str
    values: dict[str, str]
    left_out: tuple[str, ...] = ()
    """rclone's options that mean nothing here."""
    credentials: dict[str, str] = field(default_factory=dict, repr=False)
    needs: str | None = None
    """The name of the remote that it lies over."""


@dataclass(frozen=True, slots=True)
class Skipped:
    """One that cannot be had."""

    name: str
    type: str
    reason: str


def parse_rclone_config(text: str) -> dict[str, dict[str, str]]:
    """The sections of a file. Raises ConfigError for an encrypted one, and for what is no such file."""
    found: dict[str, dict[str, str]] = {}
    section: dict[str, str] | None = None
    for number, raw in enumerate(text.lstrip("\ufeff").splitlines(), 1):
        line = raw.strip()
        if not line or line[0] in "#;":
            continue
        if line.startswith(_ENCRYPTED):
            raise ConfigError(
                "this configuration of rclone is encrypted",
                hint="`rclone config show` prints it in the clear; give that as a file",
            )
        header = _SECTION.fullmatch(line)
        key, equals, value = line.partition("=")
        if header:
            section = found.setdefault(header[1], {})
        elif section is None or not equals:
            raise ConfigError(f"line {number} is neither a [name] nor a key = value")
        else:
            section[key.strip()] = _plain(value.strip())
    return found


def _plain(value: str) -> str:
    return value[1:-1] if len(value) >= 2 and value[0] == value[-1] == "`" else value


def translated(name: str, section: Section, *, file: str | None = None) -> Translated | Skipped:
    """One of rclone's remotes as one of ours; of another type, as one that goes through rclone itself.

    `file` is rclone's configuration where rclone would not find it by itself.
    """
    kind = section.get("type", "")
    make = _TYPES.get(kind)
    if not is_remote_name(name):
        return Skipped(name, kind, "a remote cannot have this name here")
    if not kind:
        return Skipped(name, kind, "it has no type")
    if make is None:
        values = {"type": "rclone", "remote": f"{name}:"}
        return Translated(name, values if file is None else values | {"config": file})
    try:
        return make(name, section)
    except UsageError as error:
        return Skipped(name, kind, str(error))


def _copied(name: str, section: Section, kept: Mapping[str, str], silent: frozenset[str]) -> Translated:
    """`kept` are rclone's names to ours; what is neither kept nor `silent` is left out aloud."""
    values = {"type": section["type"]}
    values |= {ours: section[theirs] for theirs, ours in kept.items() if section.get(theirs)}
    known = silent | _NEVER_SAID | set(kept)
    left = tuple(key for key, value in section.items() if key not in known and value)
    return Translated(name, values, left, needs=_below(values.get("remote")))


def _below(spec: str | None) -> str | None:
    return None if spec is None or is_local_path(spec) else parse_spec(spec).name


def _same(*names: str) -> Callable[[str, Section], Translated]:
    def make(name: str, section: Section) -> Translated:
        return _copied(name, section, {each: each for each in names}, frozenset())

    return make


def _overlay(*names: str) -> Callable[[str, Section], Translated]:
    copy = _same("remote", *names)

    def make(name: str, section: Section) -> Translated:
        if not section.get("remote"):
            raise UsageError("its remote is missing")
        return copy(name, section)

    return make


_S3: Final = {
    "region": "region",
    "force_path_style": "path_style",
    "chunk_size": "upload_part_size",
    "upload_concurrency": "concurrency",
    "profile": "profile",
    "shared_credentials_file": "credentials",
}
_S3_KEYS: Final = {
    "access_key_id": "aws_access_key_id",
    "secret_access_key": "aws_secret_access_key",
    "session_token": "aws_session_token",
}
_S3_SILENT: Final = frozenset({"provider", "env_auth", "endpoint", *_S3_KEYS})


def _s3(name: str, section: Section) -> Translated:
    made = _copied(name, section, _S3, _S3_SILENT)
    values = made.values
    endpoint = section.get("endpoint")
    if endpoint:
        values["endpoint"] = endpoint if "://" in endpoint else f"https://{endpoint}"
    if section.get("env_auth", "").lower() in ("true", "1"):
        return made
    keys = {ours: section[theirs] for theirs, ours in _S3_KEYS.items() if section.get(theirs)}
    if not {"aws_access_key_id", "aws_secret_access_key"} <= keys.keys():
        return made
    return Translated(name, values, made.left_out, keys)


_TYPES: Final[Mapping[str, Callable[[str, Section], Translated]]] = {
    "local": _same(),
    "alias": _overlay(),
    "chunker": _overlay(
        "chunk_size", "hash_type", "name_format", "start_from", "meta_format", "fail_hard", "transactions"
    ),
    "modal": _same("profile", "environment", "sidecar_metadata", "create_volumes"),
    "s3": _s3,
}
