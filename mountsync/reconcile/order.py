"""An order of actions in which none stands in the way of another."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from mountsync.model.plan import (
    Action,
    Delete,
    MakeDirectory,
    MakeSymlink,
    Move,
    Put,
    SetAttributes,
    path_of,
)
from mountsync.paths import RelPath, ancestors, order_key
from mountsync.reconcile.view import Relocation

Table: TypeAlias = Mapping[RelPath, RelPath]


@dataclass(frozen=True, slots=True)
class Step:
    """One rename, with the places that things have when its turn comes.

    `moved` is where the object was at the beginning; `last` says that it has arrived.
    """

    moved: RelPath
    source: RelPath
    target: RelPath
    last: bool


class Places:
    """Where things are while the directories around them move one after another."""

    def __init__(self) -> None:
        self._now: dict[RelPath, RelPath] = {}

    def set(self, start: RelPath, place: RelPath) -> None:
        """What began at `start` is at `place` now, with all that is in it."""
        self._now[start] = place

    def now(self, start: RelPath) -> RelPath:
        """Where that is which began at `start`."""
        return Relocation(self._now)(start)


def sequence(table: Table, temporary: str) -> list[Step]:
    """Renames that bring every path of `table` to its place, over nothing that still has to move.

    The values are places in the final tree. A directory comes before what moves into it, what stands in
    the way leaves first, and a cycle is broken by a stay at `temporary` and a number.
    """
    waiting = _Waiting(table)
    places = Places()
    steps: list[Step] = []
    aside = 0
    while waiting.left:
        start = waiting.take()
        if start is not None:
            steps.append(_step(places, start, table[start], last=True))
            waiting.arrived(start)
            continue
        aside += 1
        start = waiting.knot()
        steps.append(_step(places, start, RelPath(f"{temporary}-{aside}"), last=False))
        waiting.left_its_spot(start)
    return steps


def knotted(table: Table) -> set[RelPath]:
    """The moves that wait for each other in a circle, so that one would have to stay aside meanwhile."""
    waiting = _Waiting(table)
    found: set[RelPath] = set()
    while waiting.left:
        start = waiting.take()
        if start is not None:
            waiting.arrived(start)
            continue
        found.update(waiting.circle())
        waiting.left_its_spot(waiting.knot())
    return found


def _step(places: Places, start: RelPath, target: RelPath, *, last: bool) -> Step:
    step = Step(start, places.now(start), target, last)
    places.set(start, target)
    return step


class _Waiting:
    """Which moves wait for which: for a directory to arrive, or for an occupant to leave."""

    def __init__(self, table: Table) -> None:
        carried = Relocation(table).carried
        self.left = sorted(table, key=lambda start: (order_key(table[start]), start), reverse=True)
        self._by_place = {place: start for start, place in table.items()}
        self._by_spot = {carried(start): start for start in table}
        self._arrivals = {start: self._holder(table[start]) for start in table}
        self._departures = {start: self._occupants(table[start]) for start in table}
        self._pending = set(table)
        self._vacated: set[RelPath] = set()
        self._dependents: dict[RelPath, list[RelPath]] = {}
        for start in self.left:
            for other in self._blockers(start):
                self._dependents.setdefault(other, []).append(start)
        self._ready = [start for start in self.left if not self._blockers(start)]

    def _holder(self, place: RelPath) -> RelPath | None:
        """The move that brings the nearest directory above `place`, if one does."""
        return next((self._by_place[up] for up in ancestors(place) if up in self._by_place), None)

    def _occupants(self, place: RelPath) -> list[RelPath]:
        """The moves that must free `place`, or a directory above it that is still to be made."""
        found = []
        for up in (place, *ancestors(place)):
            if up != place and up in self._by_place:
                break
            if up in self._by_spot:
                found.append(self._by_spot[up])
        return found

    def _blockers(self, start: RelPath) -> list[RelPath]:
        holder = self._arrivals[start]
        found = [x for x in self._departures[start] if x in self._pending and x not in self._vacated]
        return [*found, holder] if holder in self._pending and holder is not None else found

    def take(self) -> RelPath | None:
        """A move that waits for nothing, None when all wait for each other."""
        while self._ready:
            start = self._ready.pop()
            if start in self._pending:
                return start
        return None

    def arrived(self, start: RelPath) -> None:
        """That move is done."""
        self._pending.discard(start)
        self._release(start)
        while self.left and self.left[-1] not in self._pending:
            self.left.pop()

    def left_its_spot(self, start: RelPath) -> None:
        """That object waits aside now."""
        self._vacated.add(start)
        self._release(start)
        if not self._blockers(start):
            self._ready.append(start)

    def _release(self, start: RelPath) -> None:
        for other in self._dependents.get(start, ()):
            if other in self._pending and not self._blockers(other):
                self._ready.append(other)

    def circle(self) -> list[RelPath]:
        """Moves each of which waits for the next; to be asked when all that are left wait."""
        seen: list[RelPath] = []
        start = self.left[-1]
        while start not in seen:
            seen.append(start)
            start = self._blockers(start)[0]
        return seen[seen.index(start) :]

    def knot(self) -> RelPath:
        """An object whose departure loosens a cycle."""
        cycle = self.circle()
        blocked = ((x, cycle[(index + 1) % len(cycle)]) for index, x in enumerate(cycle))
        return min(other for x, other in blocked if other in self._departures[x])


def arrange(moves: Sequence[Move], actions: Iterable[Action]) -> tuple[Action, ...]:
    """`moves` (in order) and `actions` as one list that is safe to follow from front to back.

    First the moves, each after the new directories that it needs, then deletes that make room, new
    directories from the top, contents and links, the other deletes from the bottom, attributes last.
    Moves among `actions` are those to conflict copies; they follow the others.
    """
    todo = list(actions)
    made = {x.path: x for x in todo if isinstance(x, MakeDirectory)}
    first = list(_with_parents(moves, made))
    aside = [x for x in todo if isinstance(x, Move)]
    contents = [x for x in todo if isinstance(x, (Put, MakeSymlink))]
    created = {*made, *(x.path for x in contents)}
    deletes = sorted((x for x in todo if isinstance(x, Delete)), key=_by_path, reverse=True)
    above = {up for path in created for up in ancestors(path)}
    early = [x for x in deletes if x.path in above or _makes_room(x.path, created)]
    late = [x for x in deletes if x.path not in above and not _makes_room(x.path, created)]
    attributes = (x for x in todo if isinstance(x, SetAttributes))
    return (
        *first,
        *sorted(aside, key=_by_path),
        *early,
        *sorted(made.values(), key=_by_path),
        *sorted(contents, key=_by_path),
        *late,
        *sorted(attributes, key=_by_path, reverse=True),
    )


def _by_path(action: Action) -> list[str]:
    return order_key(path_of(action))


def _makes_room(path: RelPath, created: set[RelPath]) -> bool:
    return path in created or any(up in created for up in ancestors(path))


def _with_parents(moves: Sequence[Move], made: dict[RelPath, MakeDirectory]) -> Iterable[Action]:
    """The moves, each behind those directories of `made` that it needs; these are taken out."""
    for move in moves:
        for up in reversed(ancestors(move.target)):
            if up in made:
                yield made.pop(up)
        yield move


def open_while_filling(action: MakeDirectory) -> tuple[Action, ...]:
    """The directory writable for its owner, and its own mode once it is filled."""
    mode = action.entry.mode
    if mode is None or mode & 0o300 == 0o300:
        return (action,)
    open_entry = replace(action.entry, mode=mode | 0o300)
    return (
        MakeDirectory(action.path, open_entry),
        SetAttributes(action.path, action.entry, open_entry),
    )
