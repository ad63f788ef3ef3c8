"""Options of a pair as people write them: on a command line, or in `[job.NAME]` of the configuration."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from mountsync.engine.pair.filters import compiled
from mountsync.engine.pair.options import BackupRules, PairOptions
from mountsync.errors import ConfigError, UsageError, from_os_error
from mountsync.formats.sizes import parse_bandwidth, parse_duration
from mountsync.model.plan import ConflictPolicy
from mountsync.reconcile import Comparison, Direction, Evidence, delete_limit

_DAY_S: Final = 86_400.0
_RENAMES: Final = {"hash": Evidence.DIGEST, "mtime": Evidence.SIZE_AND_MTIME, "off": Evidence.NONE}
POLICIES: Final = [policy.value for policy in ConflictPolicy]
COMPARISONS: Final = [comparison.value for comparison in Comparison]


def policy_named(text: object) -> ConflictPolicy:
    """The policy of a name; `local` and `remote` stand for `a` and `b`. Raises UsageError."""
    name = {"local": "a", "remote": "b"}.get(str(text), str(text))
    try:
        return ConflictPolicy(name)
    except ValueError as error:
        raise UsageError(f"{text!r} is not one of {', '.join(POLICIES)}") from error


def _comparison(text: object) -> Comparison:
    try:
        return Comparison(str(text))
    except ValueError as error:
        raise UsageError(f"{text!r} is not one of {', '.join(COMPARISONS)}") from error


def _renames(text: object) -> Evidence:
    if text not in _RENAMES:
        raise UsageError(f"{text!r} is not one of {', '.join(_RENAMES)}")
    return _RENAMES[str(text)]


def _rules(text: object) -> tuple[tuple[str, ConflictPolicy], ...]:
    """`PATTERN=POLICY`, or a list of them, or a table."""
    if isinstance(text, Mapping):
        pairs = [(str(pattern), policy) for pattern, policy in text.items()]
    else:
        texts = text if isinstance(text, (list, tuple)) else [text]
        pairs = [(str(one).rpartition("=")[0], str(one).rpartition("=")[2]) for one in texts]
    if not all(pattern for pattern, _ in pairs):
        raise UsageError(f"{text!r} has no pattern", hint="write '*.md=newer'")
    found = tuple((pattern, policy_named(policy)) for pattern, policy in pairs)
    for pattern, _ in found:
        compiled([pattern])
    return found


def _patterns(texts: object) -> tuple[str, ...]:
    lines = tuple(map(str, texts)) if isinstance(texts, (list, tuple)) else (str(texts),)
    compiled(lines)
    return lines


def patterns_in(file: Path) -> tuple[str, ...]:
    """The lines of a filter file. Raises the path's error, or UsageError for a line that is no pattern."""
    try:
        lines = tuple(file.read_text("utf-8", "surrogateescape").splitlines())
    except OSError as error:
        raise from_os_error(error, str(file)) from error
    compiled(lines)
    return lines


def _filter_from(text: object) -> tuple[str, ...]:
    return patterns_in(Path(os.path.abspath(os.path.expanduser(str(text)))))


def _number(text: object) -> int:
    if not str(text).isdigit() or not int(str(text)):
        raise UsageError(f"{text!r} is not a whole number of 1 or more")
    return int(str(text))


def _backups(text: object) -> BackupRules | None:
    if text in (False, "off", "false", "no"):
        return None
    if text in (True, "on", "true", "yes"):
        return BackupRules()
    raise UsageError(f"{text!r} is neither on nor off")


CONVERT: Final[dict[str, tuple[str, Callable[[object], Any]]]] = {
    "conflict": ("conflict", policy_named),
    "policies": ("policies", _rules),
    "compare": ("compare", _comparison),
    "fallback": ("fallback", _comparison),
    "renames": ("renames", _renames),
    "max_delete": ("max_delete", lambda text: delete_limit(str(text))),
    "filter": ("patterns", _patterns),
    "filter_from": ("patterns", _filter_from),
    "backups": ("backups", _backups),
    "transfers": ("transfers", _number),
    "bwlimit": ("bandwidth", lambda text: parse_bandwidth(str(text))),
}
"""From the key of an option to the field of `PairOptions` and its reader."""


def pair_options(name: str, given: Mapping[str, object], where: str = "") -> PairOptions:
    """The options of a pair from texts or values of TOML. Raises ConfigError that begins with `where`."""
    fields: dict[str, Any] = {}
    for key, value in given.items():
        if key not in CONVERT or value is None or value == ():
            continue
        target, convert = CONVERT[key]
        try:
            converted = convert(value)
        except UsageError as error:
            raise ConfigError(f"{where}{key}: {error.reason}", hint=error.hint) from error
        fields[target] = fields.get(target, ()) + converted if target == "patterns" else converted
    options = PairOptions(name=name, host=socket.gethostname().partition(".")[0] or "here", **fields)
    if given.get("one_way") in (True, "true", "on", "yes"):
        options = replace(options, direction=Direction.MIRROR)
    return _with_retention(options, given, where)


def _with_retention(options: PairOptions, given: Mapping[str, object], where: str) -> PairOptions:
    if options.backups is None:
        return options
    rules = options.backups
    try:
        if given.get("keep_backups") is not None:
            rules = replace(rules, keep_days=parse_duration(str(given["keep_backups"])) / _DAY_S)
        if given.get("keep_runs") is not None:
            rules = replace(rules, keep_runs=_number(given["keep_runs"]))
    except UsageError as error:
        raise ConfigError(f"{where}{error.reason}", hint=error.hint) from error
    return replace(options, backups=rules)
