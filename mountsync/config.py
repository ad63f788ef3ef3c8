"""The configuration file: named remotes, mounts and jobs, and defaults of options.

    poll_interval = "5m"              # top level: defaults of mount options
    [remote.NAME]  type = "chunker"   # and the options of that type, and watcher_interval
    [mount.NAME]   remote, mountpoint # and mount options
    [job.NAME]     a, b               # and job options

It is TOML, at `$MOUNTSYNC_CONFIG`, else `$XDG_CONFIG_HOME/mountsync/config.toml`. Precedence of every
option: flag, then environment `MOUNTSYNC_…`, then file, then default. Values may be secret: nothing
here puts one into a message; errors name the file and the key.
"""

from __future__ import annotations

import os
import secrets
import tomllib
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import msgspec

from mountsync.errors import ConfigError
from mountsync.formats.remote_spec import is_remote_name
from mountsync.formats.suggest import suggestion

Section = dict[str, Any]

_SECTIONS: Final = ("remote", "mount", "job")
T = TypeVar("T")


class _File(msgspec.Struct):
    """The three tables of tables. Everything else at the top level is a default of an option."""

    remote: dict[str, Section] = {}
    mount: dict[str, Section] = {}
    job: dict[str, Section] = {}


@dataclass(frozen=True, slots=True)
class Config:
    """What the file says, its form checked; values are checked by whoever owns the option."""

    path: Path
    remotes: Mapping[str, Section]
    """By name; each has a `type`."""
    mounts: Mapping[str, Section]
    jobs: Mapping[str, Section]
    defaults: Section
    """Top-level keys: defaults of mount and job options."""

    def remote(self, name: str) -> Section:
        """One remote. Raises ConfigError with the nearest name."""
        return self._named("remote", self.remotes, name)

    def mount(self, name: str) -> Section:
        """One mount. Raises ConfigError with the nearest name."""
        return self._named("mount", self.mounts, name)

    def job(self, name: str) -> Section:
        """One job. Raises ConfigError with the nearest name."""
        return self._named("job", self.jobs, name)

    def _named(self, kind: str, known: Mapping[str, Section], name: str) -> Section:
        if name not in known:
            raise ConfigError(f"{self.path}: there is no [{kind}.{name}]", hint=suggestion(name, known))
        return known[name]

    def refuse_unknown(
        self, *, mount_keys: Collection[str], job_keys: Collection[str], defaults: Collection[str]
    ) -> None:
        """Raises ConfigError for a key that nobody knows, with the nearest one that is known."""
        for kind, sections, known in (("mount", self.mounts, mount_keys), ("job", self.jobs, job_keys)):
            for name, section in sections.items():
                self._refuse(section, known, f"[{kind}.{name}] ")
        self._refuse(self.defaults, defaults, "")

    def _refuse(self, section: Section, known: Collection[str], where: str) -> None:
        for key in section:
            if key not in known:
                raise ConfigError(f"{self.path}: {where}{key}: unknown key", hint=suggestion(key, known))


def config_path(environment: Mapping[str, str] = os.environ) -> Path:
    """Where the configuration is; the file need not exist."""
    chosen = environment.get("MOUNTSYNC_CONFIG")
    if chosen:
        return Path(os.path.abspath(os.path.expanduser(chosen)))
    base = environment.get("XDG_CONFIG_HOME", "")
    home = base if base.startswith("/") else os.path.expanduser("~/.config")
    return Path(home) / "mountsync" / "config.toml"


def load_config(path: Path) -> Config:
    """Reads the file; one that does not exist is empty. Raises ConfigError: file, key, reason."""
    text = _text(path)
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: {_one_line(error)}", hint="it must be TOML") from error
    _refuse_forms(path, content)
    try:
        file = msgspec.convert({key: content.pop(key, {}) for key in _SECTIONS}, _File)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_one_line(error)}") from error
    for name, remote in file.remote.items():
        _check_remote(path, name, remote)
    return Config(path, file.remote, file.mount, file.job, content)


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise ConfigError(f"{path}: {(error.strerror or str(error)).lower()}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: it is not valid UTF-8 at byte {error.start}") from error


def _refuse_forms(path: Path, content: Mapping[str, object]) -> None:
    """Tells a misspelt section from a default of an option."""
    for key, value in content.items():
        if key in _SECTIONS:
            if not isinstance(value, dict):
                raise ConfigError(f"{path}: {key}: it must be a table", hint=f"write [{key}.NAME]")
        elif isinstance(value, dict):
            raise ConfigError(f"{path}: [{key}]: unknown section", hint=suggestion(key, _SECTIONS))


def _check_remote(path: Path, name: str, remote: Section) -> None:
    if not is_remote_name(name):
        raise ConfigError(f"{path}: [remote.{name}]: a remote cannot have this name")
    if not isinstance(remote.get("type"), str):
        raise ConfigError(f"{path}: [remote.{name}] type: it is missing or not a text")


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


def chosen(
    name: str,
    *,
    flag: T | None,
    variable: str,
    environment: Mapping[str, str],
    sections: tuple[Mapping[str, Any], ...],
    default: T,
    convert: Callable[[object, str], T],
    file: Path,
) -> T:
    """One option by precedence: flag (already converted), environment, file sections in order, default.

    `convert` gets a value and the words that an error begins with.
    """
    if flag is not None:
        return flag
    if variable in environment:
        return convert(environment[variable], variable)
    for section in sections:
        if name in section:
            return convert(section[name], f"{file}: {name}")
    return default


def set_remote(path: Path, name: str, values: Mapping[str, object]) -> None:
    """Writes `[remote.NAME]`, replacing one of that name; comments elsewhere stay.

    Durable on return; the file is made with mode 0600 and replaced in one step. Raises ConfigError.
    """
    set_remotes(path, {name: values})


def set_remotes(path: Path, sections: Mapping[str, Mapping[str, object]]) -> None:
    """`set_remote` for several, in one step: all of them or none."""
    for name in sections:
        if not is_remote_name(name):
            raise ConfigError(f"a remote cannot have the name {name!r}", hint="use letters, digits, - and _")
    load_config(path)  # a damaged file is not written over
    import tomlkit  # noqa: PLC0415 - slow to load, and only here it is needed

    document = tomlkit.parse(_text(path))
    remotes: Any = document.get("remote")
    if remotes is None:
        remotes = document["remote"] = tomlkit.table(is_super_table=True)
    for name, values in sections.items():
        section = tomlkit.table()
        for key, value in values.items():
            section.add(key, value)
        remotes[name] = section
    replace_private(path, tomlkit.dumps(document))


def delete_remote(path: Path, name: str) -> None:
    """Removes `[remote.NAME]`; as `set_remote` otherwise. Raises ConfigError when there is none."""
    load_config(path).remote(name)
    import tomlkit  # noqa: PLC0415 - slow to load, and only here it is needed

    document = tomlkit.parse(_text(path))
    remotes: Any = document["remote"]
    del remotes[name]
    replace_private(path, tomlkit.dumps(document))


def replace_private(path: Path, text: str) -> None:
    """Puts a file in one step, readable by nobody else, through a link if it is one; durable on return."""
    real = Path(os.path.realpath(path))
    try:
        real.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = real.with_name(f".{real.name}.{secrets.token_hex(4)}")
        try:
            _write_private(temporary, text)
            os.rename(temporary, real)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync(real.parent)
    except OSError as error:
        raise ConfigError(f"{path}: it could not be written: {(error.strerror or '').lower()}") from error


def _write_private(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        os.fsync(fd)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
