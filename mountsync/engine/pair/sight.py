"""What a side holds, kept as its difference from the base.

A listing of a hundred thousand files of which three changed is held as three entries; for the others the
base says all there is to know. Reconciliation sees mappings that iterate over what may have to be
decided and that look up everything.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from mountsync.model.base import Agreed
from mountsync.model.entry import Entry, Kind, Problem
from mountsync.model.side import Side
from mountsync.paths import RelPath, ancestors
from mountsync.state.pairs import RowForm, Rows, form_of, unpack

_BY_NUMBER: Final = (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK)


@dataclass(slots=True)
class Sight:
    """One side, seen whole or around some paths."""

    side: Side
    changed: dict[RelPath, Entry] = field(default_factory=dict)
    """What is not known to be as in the base."""
    resting: set[RelPath] = field(default_factory=set)
    """Paths of the base that were seen as they were agreed."""
    problems: dict[RelPath, Problem] = field(default_factory=dict)
    keeps: set[RelPath] = field(default_factory=set)
    """Directories in which something invisible lies: they cannot go."""
    count: int = 0

    def take(self, path: RelPath, entry: Entry, rows: Rows) -> None:
        """Notes one entry of a listing."""
        self.count += 1
        packed = rows.get(path)
        if packed is not None and rests(entry, form_of(packed), self.side):
            self.resting.add(path)
        else:
            self.changed[path] = entry


def rests(entry: Entry, form: RowForm, side: Side) -> bool:
    """Whether an entry is, by token and attributes, exactly what the row says of that side."""
    kind = form.kind
    if entry.kind is not _BY_NUMBER[kind]:
        return False
    if kind == 2:
        return entry.target is not None and entry.target.encode("utf-8", "surrogateescape") == form.target
    token, mtime_ns, mode = (
        (form.a, form.a_mtime_ns, form.a_mode) if side is Side.A else (form.b, form.b_mtime_ns, form.b_mode)
    )
    if (form.mode if mode is None else mode) != entry.mode and entry.mode is not None:
        return False
    if kind == 1:
        return True
    if entry.size != form.size or entry.mtime_ns != (form.mtime_ns if mtime_ns is None else mtime_ns):
        return False
    return token is not None and token == entry.token


def as_agreed(agreed: Agreed, side: Side) -> Entry:
    """The entry of a side that rests."""
    then = agreed.entry
    return Entry(
        then.kind,
        then.size,
        agreed.mtime_ns(side),
        agreed.mode(side),
        then.digest,
        agreed.token(side),
        then.target,
    )


class SideView(Mapping[RelPath, Entry]):
    """A side as a listing: iterates over a scope, looks up everything that was seen."""

    def __init__(self, sight: Sight, rows: Rows, scope: Iterable[RelPath]) -> None:
        self._sight = sight
        self._rows = rows
        self._known: dict[RelPath, Entry] = {}
        self._scope = [path for path in scope if path in sight.changed or path in sight.resting]

    def __getitem__(self, path: RelPath) -> Entry:
        found = self._sight.changed.get(path) or self._known.get(path)
        if found is None:
            if path not in self._sight.resting:
                raise KeyError(path)
            found = self._known[path] = as_agreed(unpack(self._rows[path]), self._sight.side)
        return found

    def __contains__(self, path: object) -> bool:
        return path in self._sight.changed or path in self._sight.resting

    def __iter__(self) -> Iterator[RelPath]:
        return iter(self._scope)

    def __len__(self) -> int:
        return len(self._scope)


class BaseView(Mapping[RelPath, Agreed]):
    """The base, iterating over a scope."""

    def __init__(self, rows: Rows, scope: Iterable[RelPath]) -> None:
        self._rows = rows
        self._known: dict[RelPath, Agreed] = {}
        self._scope = [path for path in scope if path in rows]

    def __getitem__(self, path: RelPath) -> Agreed:
        found = self._known.get(path)
        if found is None:
            found = self._known[path] = unpack(self._rows[path])
        return found

    def __contains__(self, path: object) -> bool:
        return path in self._rows

    def __iter__(self) -> Iterator[RelPath]:
        return iter(self._scope)

    def __len__(self) -> int:
        return len(self._scope)


def whole_scope(a: Sight, b: Sight, rows: Rows) -> set[RelPath]:
    """Every path at which base and the two sides, both seen whole, are not known to say the same."""
    scope = {*a.changed, *b.changed}
    if len(a.resting) != len(rows) or len(b.resting) != len(rows):
        scope.update(path for path in rows if path not in a.resting or path not in b.resting)
    return scope


def with_ancestors(paths: Iterable[RelPath]) -> set[RelPath]:
    """The paths and the directories above them."""
    found = set(paths)
    for path in list(found):
        for up in ancestors(path):
            if up in found:
                continue
            found.add(up)
    return found
