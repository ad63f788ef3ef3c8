"""Units for systemd, as text: systemd.service(5), systemd.syntax(7)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

_PLAIN: Final = re.compile(r"[A-Za-z0-9_./:=@,+-]+")
_NAME: Final = re.compile(r"[^A-Za-z0-9_.-]")

START_S: Final = 120
"""How long a mount may take until it is ready: a remote may be slow to open."""
STOP_S: Final = 90
"""How long an end may take, a drain not counted."""
WATCHDOG_S: Final = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One service. Each text may hold anything but a line end and NUL."""

    description: str
    command: Sequence[str]
    """The program by its absolute path, and its arguments."""
    after: Sequence[str] = ()
    """Commands that run when it has ended, however that was; failures do not count."""
    environment: Sequence[tuple[str, str]] = ()
    user: str | None = None
    """Who runs it, for a unit of the system."""
    of_system: bool = False
    stop_s: float = STOP_S


def unit_name(name: str) -> str:
    r"""The file of the service for a mount: `mountsync-NAME.service`, with `\x20` for a space."""
    return f"mountsync-{_NAME.sub(_hexed, name)}.service"


def unit_text(unit: Unit) -> str:
    """The unit file."""
    return "\n".join([*_about(unit), "", *_service(unit), "", *_install(unit), ""])


def _about(unit: Unit) -> Iterable[str]:
    yield "[Unit]"
    yield f"Description={_value(unit.description)}"
    if unit.of_system:
        yield "Wants=network-online.target"
        yield "After=network-online.target"
    yield "StartLimitIntervalSec=300"
    yield "StartLimitBurst=10"


def _service(unit: Unit) -> Iterable[str]:
    yield "[Service]"
    yield "# Ready when the folder can be used, alive for as long as it answers."
    yield "Type=notify"
    yield "NotifyAccess=main"
    yield f"WatchdogSec={WATCHDOG_S}"
    yield f"TimeoutStartSec={START_S}"
    yield f"TimeoutStopSec={unit.stop_s:g}"
    if unit.user is not None:
        yield f"User={_value(unit.user)}"
    for name, value in unit.environment:
        yield f"Environment={_word(f'{name}={value}', dollars=False)}"
    yield f"ExecStart={_line(unit.command)}"
    if unit.after:
        yield f"ExecStopPost=-{_line(unit.after)}"
    yield "# The next start repairs the mount point that a crash left; a wrong configuration is not retried."
    yield "Restart=on-failure"
    yield "RestartSec=5"
    yield "RestartPreventExitStatus=2"
    yield "# No option that gives the service a mount namespace: others could not see the folder."


def _install(unit: Unit) -> Iterable[str]:
    yield "[Install]"
    yield f"WantedBy={'multi-user.target' if unit.of_system else 'default.target'}"


def _line(words: Sequence[str]) -> str:
    return " ".join(_word(word, dollars=True) for word in words)


def _value(text: str) -> str:
    return text.replace("%", "%%")


def _word(text: str, *, dollars: bool) -> str:
    """One word as systemd reads it back: specifiers, variables, quotes and control characters escaped."""
    escaped = text.replace("%", "%%")
    if dollars:
        escaped = escaped.replace("$", "$$")
    if _PLAIN.fullmatch(escaped):
        return escaped
    return '"' + "".join(_escaped(c) for c in escaped) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    return character if character.isprintable() else _hex(character)


def _hexed(found: re.Match[str]) -> str:
    return _hex(found[0])


def _hex(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", "surrogateescape"))
