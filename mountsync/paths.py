"""Relative paths: the only form in which a name crosses floors.

A `RelPath` is text with `/` between its parts and no leading or trailing slash; the root is the
empty string. Bytes that are not UTF-8 are carried by surrogateescape, so that every name of a Unix
disk has exactly one `RelPath`. No part is empty, `.` or `..`, and none holds NUL.
"""

from __future__ import annotations

from typing import NewType

from mountsync.errors import NameRefused

RelPath = NewType("RelPath", str)

ROOT = RelPath("")
MAX_NAME_BYTES = 255
"""The longest name that Linux accepts in one directory, in bytes (NAME_MAX)."""

OURS = ".mountsync"
"""The folder at the root of a remote that is ours: backups, sidecars, temporary objects."""


def rel_path(text: str) -> RelPath:
    """`text` as a path. Raises NameRefused when a part is empty, `.`, `..` or holds NUL."""
    if text:
        for part in text.split("/"):
            refuse_part(part, text)
    return RelPath(text)


def refuse_part(part: str, whole: str) -> None:
    """Raises NameRefused when `part` cannot be one part of a path; `whole` is named in the error."""
    if part in ("", ".", ".."):
        raise NameRefused(f"a path must not have {part!r} as one of its parts", path=whole)
    if "\0" in part:
        raise NameRefused("a path must not hold a NUL byte", path=whole)


def from_bytes(raw: bytes) -> RelPath:
    """The path of these bytes, which come from a file system and are already well formed."""
    return RelPath(raw.decode("utf-8", "surrogateescape"))


def to_bytes(path: str) -> bytes:
    """The bytes that a Unix file system holds for this path or name."""
    return path.encode("utf-8", "surrogateescape")


def is_text(path: str) -> bool:
    """Whether the path is valid Unicode, so that a protocol with UTF-8 strings can carry it."""
    return path.isascii() or not any("\ud800" <= c <= "\udfff" for c in path)


def join(parent: RelPath, name: str) -> RelPath:
    """The child `name` (already validated) of `parent`."""
    return RelPath(f"{parent}/{name}" if parent else name)


def parent_of(path: RelPath) -> RelPath:
    """The directory that holds `path`; the root's parent is the root."""
    return RelPath(path.rpartition("/")[0])


def name_of(path: RelPath) -> str:
    """The last part; empty for the root."""
    return path.rpartition("/")[2]


def parts_of(path: RelPath) -> list[str]:
    """The parts from the root down; none for the root."""
    return path.split("/") if path else []


def ancestors(path: RelPath) -> list[RelPath]:
    """Every directory above `path`, nearest first, without the root."""
    found = []
    above = parent_of(path)
    while above:
        found.append(above)
        above = parent_of(above)
    return found


def is_within(path: RelPath, folder: RelPath) -> bool:
    """Whether `path` is `folder` or lies below it."""
    return not folder or path == folder or path.startswith(folder + "/")


def relocate(path: RelPath, source: RelPath, target: RelPath) -> RelPath:
    """Where `path` is after `source` was moved to `target`; `path` itself when not within it."""
    if not is_within(path, source):
        return path
    rest = path[len(source) :].lstrip("/") if not source else path[len(source) + 1 :]
    if not rest:
        return target
    return RelPath(f"{target}/{rest}" if target else rest)


def order_key(path: RelPath) -> list[str]:
    """A key that sorts parents before children and siblings by name."""
    return parts_of(path)


def is_ours(path: RelPath) -> bool:
    """Whether `path` lies in the folder that mountsync keeps for itself on a remote."""
    return is_within(path, RelPath(OURS))
