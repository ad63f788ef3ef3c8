"""Remotes and secrets that the environment gives, for containers and services without a configuration.

    MOUNTSYNC_REMOTE_<NAME>_TYPE=s3            makes the remote `name`
    MOUNTSYNC_REMOTE_<NAME>_<OPTION>=value     sets an option of it, or of one in the configuration
    MOUNTSYNC_REMOTE_<NAME>_<OPTION>_FILE=path the same, the value is what the file holds

NAME stands in upper case, with `_` for whatever is no letter or digit. Credentials that remote types take
from variables of their own may come from files too: `AWS_SECRET_ACCESS_KEY_FILE`, `MODAL_TOKEN_SECRET_FILE`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from dataclasses import replace
from typing import Any, Final

from mountsync.config import Config
from mountsync.errors import ConfigError
from mountsync.formats.suggest import suggestion
from mountsync.storage.registry import load_type

PREFIX: Final = "MOUNTSYNC_REMOTE_"
CREDENTIALS: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "MODAL_TOKEN_ID",
    "MODAL_TOKEN_SECRET",
    "RCLONE_CONFIG_PASS",
)
"""Variables that may be given as NAME_FILE."""
_FILE: Final = "_FILE"
_MAX_SECRET: Final = 64 << 10


def with_environment(config: Config, environment: Mapping[str, str]) -> Config:
    """The configuration with the remotes of the environment, which win. Raises ConfigError."""
    given = {name: value for name, value in environment.items() if name.startswith(PREFIX)}
    if not given:
        return config
    names = _names(config.remotes, given)
    remotes: dict[str, dict[str, Any]] = {name: dict(section) for name, section in config.remotes.items()}
    found = [(variable, *_placed(variable, names)) for variable in given]
    # Types first: whether `x_file` is an option or the file of option `x` depends on them.
    for variable, name, option in sorted(found, key=lambda each: each[2] != "type"):
        section = remotes.setdefault(name, {})
        if option == "type":
            section["type"] = given[variable]
        elif option.endswith("_file") and not _declares(section, option):
            if variable.removesuffix(_FILE) in given:
                raise ConfigError(
                    f"{variable}: {variable.removesuffix(_FILE)} is given too", hint="unset one"
                )
            section[option.removesuffix("_file")] = _content(variable, given[variable])
        else:
            section[option] = given[variable]
    return replace(config, remotes=remotes)


def take_credentials(environment: MutableMapping[str, str]) -> None:
    """Sets credentials whose files are named. Raises ConfigError, which never shows what a file holds."""
    for name in CREDENTIALS:
        path = environment.get(name + _FILE)
        if path and name not in environment:
            environment[name] = _content(name + _FILE, path)


def _names(configured: Iterable[str], given: Iterable[str]) -> dict[str, str]:
    """Names of remotes by their form in variables."""
    names = {re.sub(r"[^A-Za-z0-9]", "_", name).upper(): name for name in configured}
    for variable in given:
        inner = variable.removeprefix(PREFIX)
        if inner.endswith("_TYPE") and inner.removesuffix("_TYPE"):
            plain = inner.removesuffix("_TYPE")
            names.setdefault(plain.upper(), plain.lower())
    return names


def _placed(variable: str, names: Mapping[str, str]) -> tuple[str, str]:
    """Which remote and which option; the longest name that fits."""
    inner = variable.removeprefix(PREFIX)
    fitting = [name for name in names if inner.upper().startswith(name + "_") and len(inner) > len(name) + 1]
    if not fitting:
        known = suggestion(inner.upper(), [f"{name}_TYPE" for name in names])
        raise ConfigError(
            f"{variable}: there is no remote of this name", hint=known or f"{PREFIX}NAME_TYPE makes one"
        )
    longest = max(fitting, key=len)
    return names[longest], inner[len(longest) + 1 :].lower()


def _declares(section: Mapping[str, Any], option: str) -> bool:
    try:
        return any(each.name == option for each in load_type(str(section.get("type"))).options)
    except ConfigError:
        return False


def _content(variable: str, path: str) -> str:
    """The text of a secret's file, without the line end that editors put there."""
    try:
        with open(path, "rb") as file:
            raw = file.read(_MAX_SECRET + 1)
        text = raw.decode("utf-8")
    except OSError as error:
        raise ConfigError(f"{variable}: {path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{variable}: {path}: it is not valid UTF-8") from error
    if len(raw) > _MAX_SECRET:
        raise ConfigError(f"{variable}: {path}: it is too large for one value")
    return text.removesuffix("\n").removesuffix("\r")
