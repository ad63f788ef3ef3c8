"""Who wins a conflict, and what the loser is called."""

from __future__ import annotations

from collections.abc import Callable

from mountsync.model.entry import Entry, Kind
from mountsync.model.plan import ConflictPolicy
from mountsync.model.side import Side
from mountsync.paths import MAX_NAME_BYTES, RelPath, join, name_of, parent_of, to_bytes


def winner(policy: ConflictPolicy, a: Entry, b: Entry) -> Side | None:
    """The side whose version stands alone; None: keep both, for want of a difference that decides.

    Times and sizes are compared only between two files.
    """
    if policy is ConflictPolicy.A:
        return Side.A
    if policy is ConflictPolicy.B:
        return Side.B
    if a.kind is not Kind.FILE or b.kind is not Kind.FILE:
        return None
    if policy in (ConflictPolicy.LARGER, ConflictPolicy.SMALLER):
        return _greater(a.size, b.size, wanted=policy is ConflictPolicy.LARGER)
    if policy in (ConflictPolicy.NEWER, ConflictPolicy.OLDER):
        return _greater(a.mtime_ns, b.mtime_ns, wanted=policy is ConflictPolicy.NEWER)
    return None


def _greater(a: int | None, b: int | None, *, wanted: bool) -> Side | None:
    if a is None or b is None or a == b:
        return None
    return Side.A if (a > b) is wanted else Side.B


def conflict_path(
    path: RelPath,
    *,
    when: str,
    host: str,
    taken: Callable[[RelPath], bool],
    max_name_bytes: int = MAX_NAME_BYTES,
) -> RelPath:
    """A free path beside `path` for the loser: `name (conflict 2026-11-20 11-30-00 host).ext`.

    When that is taken a number follows the host. The name never exceeds `max_name_bytes`; the stem is
    shortened at a character, the extension stays unless it alone fills the name.
    """
    mark = f"conflict {_plain(when)} {_plain(host)}"
    number = 1
    while True:
        suffix = f" ({mark})" if number == 1 else f" ({mark} {number})"
        found = join(parent_of(path), _fitted(name_of(path), suffix, max_name_bytes))
        if not taken(found):
            return found
        number += 1


def _plain(text: str) -> str:
    """Text that every storage takes within a name."""
    safe = "".join(c if c.isprintable() and c not in '/\\:*?"<>|' else "-" for c in text)
    return _cut(safe, 64)


def _fitted(name: str, suffix: str, limit: int) -> str:
    stem, extension = _split(name)
    room = limit - len(to_bytes(suffix)) - len(to_bytes(extension))
    if room < 1:
        stem, extension, room = name, "", limit - len(to_bytes(suffix))
    return _cut(stem, room) + suffix + extension


def _split(name: str) -> tuple[str, str]:
    """The name and its extension; a leading dot begins no extension, nor does one before a space."""
    stem, dot, extension = name.rpartition(".")
    if not stem.strip(".") or not extension or " " in extension or len(to_bytes(extension)) > 32:
        return name, ""
    return stem, dot + extension


def _cut(text: str, limit: int) -> str:
    """The longest start of `text` that has at most `limit` bytes and ends at a character."""
    if len(to_bytes(text)) <= limit:
        return text
    used = 0
    for index, character in enumerate(text):
        used += len(to_bytes(character))
        if used > limit:
            return text[:index]
    return text
