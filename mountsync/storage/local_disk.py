"""What the file system below a local storage can do, from `/proc/self/mountinfo` (see proc(5)).

Nothing is tried out on the disk. An unknown file system is taken for a Unix one with exact times
that needs an fsync before each rename.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

from mountsync.storage.api import NameRules

_MOUNTS: Final = "/proc/self/mountinfo"
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")
_DOS: Final = NameRules(forbidden=frozenset('"*:<>?\\|') | frozenset(map(chr, range(32))), utf8_only=True)
_ORDERED: Final = frozenset({"ext3", "ext4", "btrfs", "tmpfs"})
_UNORDERED_OPTIONS: Final = frozenset({"data=writeback", "noauto_da_alloc"})


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """What matters of a file system."""

    mtime_precision_ns: int = 1
    case_sensitive: bool = True
    names: NameRules = field(default_factory=NameRules)
    orders_replacing: bool = False
    """A rename over a file reaches the disk after the new content, without an fsync before it."""


_DOS_FACTS: Final = {
    "vfat": DiskFacts(2_000_000_000, False, _DOS),
    "msdos": DiskFacts(2_000_000_000, False, _DOS),
    "exfat": DiskFacts(10_000_000, False, _DOS),
}


def disk_facts(folder: bytes) -> DiskFacts:
    """Facts about the file system that holds `folder`, which is absolute and without links."""
    try:
        with open(_MOUNTS, "rb") as file:
            mounts = file.read()
    except OSError:  # no /proc here: the file system is unknown, which is safe
        return DiskFacts()
    return facts_of(*mount_of(folder, mounts))


def facts_of(kind: str, options: frozenset[str]) -> DiskFacts:
    """Facts about a type of file system that is mounted with these options.

    ext4 allocates and writes the new content before the transaction with a replacing rename
    (auto_da_alloc, with data=ordered), and btrfs flushes it; tmpfs forgets all in any case.
    """
    if kind in _DOS_FACTS:
        return _DOS_FACTS[kind]
    return DiskFacts(orders_replacing=kind in _ORDERED and not options & _UNORDERED_OPTIONS)


def mount_of(folder: bytes, mounts: bytes) -> tuple[str, frozenset[str]]:
    """Type and options of the mount that holds `folder`, from the text of a mountinfo file."""
    best, found = -1, ("", frozenset[str]())
    for line in mounts.splitlines():
        before, _, after = line.partition(b" - ")
        fields, rest = before.split(b" "), after.split(b" ")
        if len(fields) < 6 or len(rest) < 3:
            continue
        point = _OCTAL.sub(lambda code: bytes([int(code[1], 8)]), fields[4])
        if _holds(point, folder) and len(point) >= best:  # of equal ones the later covers the earlier
            best = len(point)
            found = rest[0].decode(), frozenset(f"{fields[5].decode()},{rest[2].decode()}".split(","))
    return found


def _holds(point: bytes, folder: bytes) -> bool:
    return point in (b"/", folder) or folder.startswith(point + b"/")
