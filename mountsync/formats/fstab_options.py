"""The options of a line in /etc/fstab, and what each asks of a mount: fstab(5), mount(8), mount.fuse3(8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from mountsync.errors import UsageError

_FOR_OTHERS: Final = frozenset(
    """
    defaults rw auto noauto user users nouser owner noowner group nogroup _netdev nofail
    comment helper uhelper fsname subtype default_permissions silent loud
    dev nodev suid nosuid mand nomand async atime noatime relatime norelatime strictatime nostrictatime
    diratime nodiratime lazytime nolazytime iversion noiversion symfollow nosymfollow
    """.split()  # noqa: SIM905 - words in rows read better
)
"""For mount(8) and the init system, or what holds anyway: devices and setuid bits never count."""
_MEANINGS: Final = {
    "ro": ("read_only", "true"),
    "noexec": ("exec", "false"),
    "sync": ("durability", "close"),
    "dirsync": ("durability", "close"),
}
_UNDONE: Final = {"rw": "read_only", "exec": "exec", "async": "durability"}
"""A later option takes back an earlier one, as in mount(8)."""
_REFUSED: Final = {
    "remount": "a mount cannot be changed while it is there; unmount it, then mount it",
    "allow_root": "there is no such right; use allow_other",
}


@dataclass(slots=True)
class FstabOptions:
    """One option list, sorted by who it is for."""

    values: dict[str, str | None] = field(default_factory=dict)
    """Everything that is for us, by name with underscores; None for a bare word."""
    config: str | None = None
    user: str | None = None
    """Whose mount it is to be (`setuid=`)."""


def parse_fstab_options(text: str) -> FstabOptions:
    """What `-o TEXT` asks. Names are not checked here. Raises UsageError for what can never be."""
    found = FstabOptions()
    for word in _words(text):
        name, equals, value = word.partition("=")
        if name in _REFUSED:
            raise UsageError(f"option {name}: {_REFUSED[name]}")
        if name in _UNDONE:
            found.values.pop(_UNDONE[name], None)
        if name in _MEANINGS:
            key, meant = _MEANINGS[name]
            found.values[key] = meant
        elif name == "config":
            found.config = _needed(name, value)
        elif name == "setuid":
            found.user = _needed(name, value)
        elif name not in _FOR_OTHERS and name != "exec" and not name.lower().startswith("x-"):
            found.values[name.replace("-", "_")] = value if equals else None
    return found


def _needed(name: str, value: str) -> str:
    if not value:
        raise UsageError(f"option {name} needs a value", hint=f"write {name}=VALUE")
    return value


def _words(text: str) -> list[str]:
    """Split at commas; a comma within double quotes stays, and the quotes go."""
    words, quoted = [""], False
    for character in text:
        if character == '"':
            quoted = not quoted
        elif character == "," and not quoted:
            words.append("")
        else:
            words[-1] += character
    if quoted:
        raise UsageError(f"{text!r}: a quote is not closed")
    return [word for word in words if word]
