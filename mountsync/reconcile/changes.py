"""Which paths need a look at all. One pass over the listings, nothing is copied."""

from __future__ import annotations

from typing import Protocol

from mountsync.model.base import Agreed, Base
from mountsync.model.entry import Entry, Kind
from mountsync.model.listing import Listing
from mountsync.model.side import Side
from mountsync.paths import RelPath, ancestors
from mountsync.reconcile.settings import Settings


class SupportsGet(Protocol):
    """A listing, or a view of one."""

    def get(self, path: RelPath, /) -> Entry | None:
        """What is at `path`."""
        ...


def candidates(a: Listing, b: Listing, base: Base, settings: Settings) -> set[RelPath]:
    """Every path at which base and the two sides are not known to say the same."""
    found = {path for path in a if path not in base}
    found.update(path for path in b if path not in base)
    flat_a = not settings.a.empty_directories
    flat_b = not settings.b.empty_directories
    for path, agreed in base.items():
        x, y = a.get(path), b.get(path)
        if agreed.entry.kind is Kind.DIRECTORY and (flat_a or flat_b):
            x, y = _implied(path, a, y, flat=flat_a), _implied(path, b, x, flat=flat_b)
        if x is None or y is None or not (_rests(x, agreed, Side.A) and _rests(y, agreed, Side.B)):
            found.add(path)
    return found


def _implied(path: RelPath, mine: Listing, other: Entry | None, *, flat: bool) -> Entry | None:
    """What a side holds, or has to say where base has a directory when it has none of its own."""
    entry = mine.get(path)
    if not flat or (entry is not None and entry.kind is not Kind.DIRECTORY):
        return entry
    return None if is_below_leaf(path, mine) else other


def is_below_leaf(path: RelPath, entries: SupportsGet) -> bool:
    """Whether something above `path` is no directory, so that nothing can be at `path`."""
    return any(
        entry.kind is not Kind.DIRECTORY for up in ancestors(path) if (entry := entries.get(up)) is not None
    )


def _rests(entry: Entry, agreed: Agreed, side: Side) -> bool:
    """Whether an entry is, by its token and attributes, exactly what was agreed."""
    then = agreed.entry
    if entry.kind is not then.kind:
        return False
    mode = agreed.mode(side)
    if mode != entry.mode and entry.mode is not None and then.kind is not Kind.SYMLINK:
        return False
    if then.kind is not Kind.FILE:
        return entry.target == then.target
    if entry.size != then.size or entry.mtime_ns != agreed.mtime_ns(side):
        return False
    token = agreed.token(side)
    if token is not None and entry.token is not None:
        return token == entry.token
    return entry.digest is not None and entry.digest == then.digest
