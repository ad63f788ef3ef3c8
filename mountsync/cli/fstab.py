"""`mount.mountsync`: the helper that mount(8) runs for a line of /etc/fstab.

    SPEC DIR [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]

It returns when the folder can be used. Exit codes are those of mount(8).
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from mountsync.cli.remotes import BackendOptions
from mountsync.errors import ConfigError, MountsyncError, UsageError, printable
from mountsync.formats.fstab_options import FstabOptions, parse_fstab_options
from mountsync.formats.suggest import suggestion
from mountsync.settings import MOUNT_OPTIONS

_USAGE: Final = 1
_INTERRUPTED: Final = 8
_FAILED: Final = 32
"""mount(8), EXIT STATUS."""

_LOCK_S: Final = 20.0
"""umount(8) returns before the process behind the mount has ended, and an automount may ask at once."""

_IDS: Final = ("uid", "gid")


@dataclass(slots=True)
class _Call:
    """A command line of the helper."""

    source: str = ""
    folder: str = ""
    options: str = ""
    sloppy: bool = False
    fake: bool = False
    verbose: bool = False


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Mounts, and returns mount(8)'s exit code when it is mounted or cannot be."""
    try:
        return _mount(_call(words))
    except MountsyncError as error:
        print(f"mount.mountsync: {printable(str(error))}", file=sys.stderr)  # noqa: T201 - its voice
        return _USAGE if isinstance(error, UsageError) else _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED


def _call(words: Sequence[str]) -> _Call:
    call, places, waiting = _Call(), [], list(words)
    while waiting:
        word = waiting.pop(0)
        if word in ("-o", "-t", "-N"):
            value = _value(word, waiting)
            call.options += f",{value}" if word == "-o" else ""
        elif word.startswith("-") and len(word) > 1:
            _flags(call, word)
        else:
            places.append(word)
    if len(places) != 2:
        raise UsageError("usage: mount.mountsync SPEC DIR [-sfnv] [-o OPTIONS]")
    call.source, call.folder = places
    return call


def _value(flag: str, waiting: list[str]) -> str:
    if not waiting:
        raise UsageError(f"{flag} needs a value")
    return waiting.pop(0)


def _flags(call: _Call, word: str) -> None:
    for letter in word[1:]:
        if letter not in "sfnvrw":
            raise UsageError(f"there is no flag -{letter}", hint="see mount(8), EXTERNAL HELPERS")
        call.sloppy |= letter == "s"
        call.fake |= letter == "f"
        call.verbose |= letter == "v"
        call.options += {"r": ",ro", "w": ",rw"}.get(letter, "")


def _mount(call: _Call) -> int:
    from mountsync.cli.mounting import in_background, settings_of  # noqa: PLC0415 - after the user is known

    asked = parse_fstab_options(call.options)
    folder = os.path.abspath(call.folder)
    if asked.user is not None:
        _become(asked.user)
    if asked.config is not None:
        os.environ["MOUNTSYNC_CONFIG"] = asked.config
    values, backends = _sorted(asked, sloppy=call.sloppy)
    settings = replace(
        settings_of(call.source, folder, values, backends, 1), source=call.source, lock_wait=_LOCK_S
    )
    if call.fake:
        return 0
    os.chdir("/")
    code = in_background(settings, quiet=not call.verbose)
    return _FAILED if code else 0


def _become(user: str) -> None:
    """Goes on as somebody else, for good. Raises UsageError when there is no such user."""
    try:
        found = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError as error:
        raise UsageError(f"option setuid: there is no user {user!r}") from error
    if found.pw_uid == os.getuid():
        return
    try:
        os.initgroups(found.pw_name, found.pw_gid)
        os.setgid(found.pw_gid)
        os.setuid(found.pw_uid)
    except PermissionError as error:
        raise UsageError("option setuid: only root can mount for somebody else") from error
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "XDG_RUNTIME_DIR"):
        os.environ.pop(name, None)
    os.environ |= {"HOME": found.pw_dir, "USER": found.pw_name, "LOGNAME": found.pw_name}


def _sorted(asked: FstabOptions, *, sloppy: bool) -> tuple[dict[str, object], BackendOptions]:
    """Mount options, converted, and options of remote types."""
    known = {option.name: option for option in MOUNT_OPTIONS}
    values: dict[str, object] = {}
    backends: BackendOptions = {}
    for name, text in asked.values.items():
        if name in known:
            if text is None and known[name].metavar:
                raise UsageError(f"option {name} needs a value", hint=f"write {name}={known[name].metavar}")
            given = _number_of(name, text) if name in _IDS else text
            values[name] = known[name].value("true" if given is None else given, f"option {name}")
        elif not _take_for_type(name, text, backends) and not sloppy:
            raise UsageError(f"option {name!r} is unknown", hint=suggestion(name, known))
    return values, backends


def _number_of(name: str, text: str | None) -> str | None:
    """`uid=alice` as a number."""
    import grp  # noqa: PLC0415 - only here

    if text is None or text.isdecimal():
        return text
    try:
        return str(pwd.getpwnam(text).pw_uid if name == "uid" else grp.getgrnam(text).gr_gid)
    except KeyError as error:
        raise UsageError(f"option {name}: there is no {text!r}") from error


def _take_for_type(name: str, text: str | None, backends: BackendOptions) -> bool:
    """Takes `chunker_chunk_size=4M` and the like; tells whether it is one."""
    from mountsync.storage.registry import load_type, type_names  # noqa: PLC0415 - rarely needed

    kind = next((each for each in type_names() if name.startswith(f"{each}_")), None)
    if kind is None:
        return False
    try:
        declared: Mapping[str, object] = {option.name: option for option in load_type(kind).options}
    except ConfigError:
        return False
    inner = name.removeprefix(f"{kind}_")
    if inner not in declared:
        return False
    backends.setdefault(kind, {})[inner] = "true" if text is None else text
    return True
