"""A listing or base as it will be once the accepted moves are done."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Generic, TypeVar

from mountsync.paths import RelPath, ancestors

T = TypeVar("T")


class Relocation:
    """Maps paths by their nearest ancestor (or themselves) in a table of old to new places."""

    def __init__(self, table: Mapping[RelPath, RelPath]) -> None:
        self.table = table

    def __call__(self, path: RelPath) -> RelPath:
        """Where `path` goes; itself when nothing on its way moves."""
        if not self.table:
            return path
        target = self.table.get(path)
        return self.carried(path) if target is None else target

    def carried(self, path: RelPath) -> RelPath:
        """Where `path` goes with the directories above it, its own move not counted."""
        for above in ancestors(path):
            target = self.table.get(above)
            if target is not None:
                return RelPath(target + path[len(above) :])
        return path


class View(Generic[T]):
    """Reads through to a mapping that is not copied; only what moves is kept apart."""

    __slots__ = ("_entries", "_gone", "_moved", "_origins", "under")

    def __init__(self, entries: Mapping[RelPath, T], relocation: Relocation) -> None:
        self._entries = entries
        self._moved: dict[RelPath, T] = {}
        self._origins: dict[RelPath, RelPath] = {}
        self._gone: set[RelPath] = set()
        self.under: dict[RelPath, RelPath] = {}
        """By place: the (old) path of what was there and is replaced by something that moves in."""
        if relocation.table:
            self._relocate(relocation)

    def _relocate(self, relocation: Relocation) -> None:
        found = [(path, to) for path in self._entries if (to := relocation(path)) != path]
        self._gone = {path for path, _ in found}
        # Those that are named in the table come last, so that they replace what is only carried along.
        found.sort(key=lambda pair: (pair[0] in relocation.table, pair[0]))
        for path, target in found:
            if target in self._origins:
                self.under[target] = self._origins[target]
            elif target in self._entries and target not in self._gone:
                self.under[target] = target
            self._moved[target] = self._entries[path]
            self._origins[target] = path

    def get(self, path: RelPath) -> T | None:
        """What will be at `path`."""
        moved = self._moved.get(path)
        if moved is not None:
            return moved
        return None if path in self._gone else self._entries.get(path)

    def origin(self, path: RelPath) -> RelPath:
        """Where that is now."""
        return self._origins.get(path, path)

    def replaced(self, path: RelPath) -> T | None:
        """What is replaced at `path` by something that moves in."""
        old = self.under.get(path)
        return None if old is None else self._entries[old]

    def moved(self) -> Iterable[tuple[RelPath, RelPath]]:
        """All (old, new) places that differ."""
        return ((old, new) for new, old in self._origins.items())

    def touched(self) -> set[RelPath]:
        """All places that something leaves or comes to."""
        return self._gone.union(self._moved)

    def __iter__(self) -> Iterator[RelPath]:
        if not self._gone:
            yield from self._entries
            return
        yield from (p for p in self._entries if p not in self._gone and p not in self._moved)
        yield from self._moved
