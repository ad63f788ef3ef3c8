"""Which moves of one side the other side can follow, and both sides as they are afterwards.

A move is accepted when it can be made on the other side without touching anything else; one that
cannot becomes a new object and a delete, which the merge then decides path by path.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mountsync.model.base import Agreed, Base
from mountsync.model.entry import Entry, Kind
from mountsync.model.listing import Listing, Scan
from mountsync.model.side import Side
from mountsync.paths import RelPath, ancestors, is_within, parent_of, relocate
from mountsync.reconcile.compare import Verdict
from mountsync.reconcile.names import Names, fold
from mountsync.reconcile.order import knotted
from mountsync.reconcile.settings import Direction, Settings
from mountsync.reconcile.view import Relocation, View

ROUNDS = 16
"""After so many rounds of refusals no move is followed; each round costs one pass over the listings."""


@dataclass(frozen=True, slots=True)
class Tables:
    """Accepted moves: by side the renames still to be made there (place now, final place)."""

    to_a: Mapping[RelPath, RelPath]
    to_b: Mapping[RelPath, RelPath]
    base: Mapping[RelPath, RelPath]
    """Every followed base path and its final place, moves that both sides made among them."""
    at_a: Relocation
    """From base to side A as it is now."""
    at_b: Relocation
    settled: frozenset[RelPath] = frozenset()
    """The base paths among them that both sides moved to the same place."""

    def settled_row(self, path: RelPath) -> bool:
        """Whether the row of this base path is to be where both sides moved it."""
        return self.nearest(path) in self.settled

    def nearest(self, path: RelPath) -> RelPath | None:
        """The followed base path with which the row of `path` goes."""
        if not self.base:
            return None
        return next((x for x in (path, *ancestors(path)) if x in self.base), None)

    def to(self, side: Side) -> Mapping[RelPath, RelPath]:
        """The renames to be made on that side."""
        return self.to_a if side is Side.A else self.to_b

    def at(self, side: Side) -> Relocation:
        """From base to that side as it is now."""
        return self.at_a if side is Side.A else self.at_b


NOTHING = Tables({}, {}, {}, Relocation({}), Relocation({}))


def accept(
    a: Scan,
    b: Scan,
    base: Base,
    moves_a: Iterable[tuple[RelPath, RelPath]],
    moves_b: Iterable[tuple[RelPath, RelPath]],
    settings: Settings,
) -> Tables:
    """The moves that the other side can follow. What is refused here is never lost, only not followed."""
    made = {Side.A: _sane(moves_a, base, a.entries), Side.B: _sane(moves_b, base, b.entries)}
    scans = {Side.A: a, Side.B: b}
    for side in Side:
        _find_done(made, scans, base, side, settings)
    arrived = {side: set(made[side].values()) for side in Side}
    for _ in range(ROUNDS):
        if not made[Side.A] and not made[Side.B]:
            return NOTHING
        frame = _Frame(scans, base, made, arrived, settings)
        refused = frame.refused()
        if not refused:
            return frame.tables()
        for side in Side:
            made[side] = {node: to for node, to in made[side].items() if node not in refused}
    return NOTHING


def _sane(moves: Iterable[tuple[RelPath, RelPath]], base: Base, entries: Listing) -> dict[RelPath, RelPath]:
    """The moves that fit the listing, once per source and target, without what a directory implies."""
    found: dict[RelPath, RelPath] = {}
    targets: set[RelPath] = set()
    for source, target in sorted(moves):
        agreed, entry = base.get(source), entries.get(target)
        if agreed is None or entry is None or agreed.entry.kind is not entry.kind:
            continue
        if Relocation(found).carried(source) == target or source in found or target in targets:
            continue
        found[source] = target
        targets.add(target)
    return found


def _find_done(
    made: dict[Side, dict[RelPath, RelPath]],
    scans: Mapping[Side, Scan],
    base: Base,
    side: Side,
    settings: Settings,
) -> None:
    """Moves of the other side that `side` has made already (a crash came before base knew of it)."""
    entries, mine = scans[side].entries, made[side]
    if not entries:
        return
    for source, target in made[side.other].items():
        if source in mine or target not in entries:
            continue
        if (source in entries or target in base) and not _exchanged(
            source, target, base, entries, side, settings
        ):
            continue
        rows = (p for p in base if is_within(p, source)) if _is_directory(base[source]) else (source,)
        if all(_still(base[p], entries.get(relocate(p, source, target)), side, settings) for p in rows):
            mine[source] = target


def _exchanged(
    source: RelPath, target: RelPath, base: Base, entries: Listing, side: Side, settings: Settings
) -> bool:
    """Whether a file that stands at `target` now, in the place of another, surely is what was at `source`."""
    if _is_directory(base[source]) or not _still(base[source], entries.get(target), side, settings):
        return False
    return not _still(base[source], entries.get(source), side, settings)


def _is_directory(agreed: Agreed) -> bool:
    return agreed.entry.kind is Kind.DIRECTORY


def _still(agreed: Agreed, entry: Entry | None, side: Side, settings: Settings) -> bool:
    return entry is not None and settings.comparator.since(agreed, entry, side) is Verdict.SAME


def relocated(scan: Scan, relocation: Relocation) -> Scan:
    """The scan with its problems where these will be; its entries stay."""
    return Scan(scan.entries, {relocation(path): problem for path, problem in scan.problems.items()})


class _CycleError(Exception):
    def __init__(self, nodes: Iterable[RelPath]) -> None:
        self.nodes = set(nodes)


class _Frame:
    """One attempt: all candidate moves together, their final places, and what speaks against each."""

    def __init__(
        self,
        scans: Mapping[Side, Scan],
        base: Base,
        made: Mapping[Side, Mapping[RelPath, RelPath]],
        arrived: Mapping[Side, set[RelPath]],
        settings: Settings,
    ) -> None:
        """`arrived`: where each side moved something itself, also if that move is not followed."""
        self._scans, self._base, self._made, self._settings = scans, base, made, settings
        self._at = {side: Relocation(made[side]) for side in Side}
        self._todo = {
            side: {self._at[side](n): n for n in made[side.other] if n not in made[side]} for side in Side
        }
        self._arrived = arrived
        self._split: set[RelPath] = set()
        self._final: dict[RelPath, RelPath] = {}
        self._views: dict[Side, View[Entry]] = {}
        self._bad: dict[Side, Scan] = {}
        self._implied: dict[Side, set[RelPath]] = {side: set() for side in Side}
        """Directories that a side without directories of its own has, or had, because of files in them."""

    def refused(self) -> set[RelPath]:
        """The base paths whose moves cannot be followed as things stand; empty: all can."""
        cyclic = self._settle()
        if cyclic:
            return cyclic
        if self._split:
            return self._split
        places = Counter(self._final.values())
        split = {n for n, place in self._final.items() if places[place] > 1}
        split |= self._entangled()
        if not self._settings.follows_exchanges:
            split |= {self._todo[side][start] for side in Side for start in knotted(self._table(side))}
        if split:
            return split
        for side in Side:
            relocation = Relocation(self._table(side))
            self._views[side] = View(self._scans[side].entries, relocation)
            self._bad[side] = relocated(self._scans[side], relocation)
            if not self._settings.rules(side).empty_directories:
                held = (*self._views[side], *self._scans[side].entries)
                self._implied[side] = {up for path in held for up in ancestors(path)}
        self._base_view = View(self._base, Relocation(self._final))
        return {n for side in Side for n in self._refused_on(side)}

    def tables(self) -> Tables:
        """The outcome, once nothing is refused."""
        return Tables(
            self._table(Side.A),
            self._table(Side.B),
            self._final,
            self._at[Side.A],
            self._at[Side.B],
            frozenset(self._settled()),
        )

    def _settled(self) -> set[RelPath]:
        return self._made[Side.A].keys() & self._made[Side.B].keys()

    def _entangled(self) -> set[RelPath]:
        """Moves within what the other side moves: base could not follow both one after the other."""
        mine, theirs = (set(self._todo[side].values()) for side in Side)
        return (
            self._within(mine, theirs)
            | self._within(theirs, mine)
            | self._within(self._settled(), mine | theirs)
        )

    def _within(self, inner: set[RelPath], outer: set[RelPath]) -> set[RelPath]:
        """Those of `inner` that begin or end in a directory of `outer`."""
        if not inner or not outer:
            return set()
        places = {self._final[node] for node in outer}
        return {
            node
            for node in inner
            if any(up in outer for up in ancestors(node))
            or any(up in places for up in ancestors(self._final[node]))
        }

    def _table(self, side: Side) -> dict[RelPath, RelPath]:
        return {place: self._final[node] for place, node in self._todo[side].items()}

    def _settle(self) -> set[RelPath]:
        """Finds every final place. Returns the moves that lead into themselves across the sides."""
        cyclic: set[RelPath] = set()
        for node in sorted({*self._made[Side.A], *self._made[Side.B]}):
            try:
                self._place(node, [])
            except _CycleError as error:
                cyclic |= error.nodes
        return cyclic

    def _place(self, node: RelPath, path: list[RelPath]) -> RelPath:
        """Where a moved node ends: where its mover put it, within what the other side moved."""
        if node in path:
            raise _CycleError(path[path.index(node) :])
        if node not in self._final:
            movers = [side for side in Side if node in self._made[side]]
            places = {self._lift(self._made[side][node], side, [*path, node]) for side in movers}
            if len(places) > 1:
                self._split.add(node)
            self._final[node] = min(places)
        return self._final[node]

    def _lift(self, target: RelPath, side: Side, path: list[RelPath]) -> RelPath:
        """A place of `side` after the directories around it have followed the other side."""
        for above in ancestors(target):
            node = self._todo[side].get(above)
            if node is not None:
                return relocate(target, above, self._place(node, path))
        return target

    def _refused_on(self, side: Side) -> list[RelPath]:
        """The moves that cannot be made on `side`."""
        todo = self._todo[side]
        if not todo:
            return []
        rules = self._settings.rules(side)
        one_way = self._settings.direction is not Direction.BOTH and side is Side.A
        if not rules.can_move or one_way or (not rules.moves_directories and self._tangled(side)):
            return list(todo.values())
        names = Names(rules, self._scans[side].entries)
        return [node for place, node in todo.items() if self._obstructed(side, place, node, names)]

    def _tangled(self, side: Side) -> bool:
        """Whether files would arrive where directories leave, or the reverse: too much to do singly."""
        entries, view = self._scans[side].entries, self._views[side]
        folders: set[RelPath] = set()
        files: set[RelPath] = set()
        for old, new in view.moved():
            (folders if entries[old].kind is Kind.DIRECTORY else files).update((old, new))
        behind = {old for new, old in view.under.items() if old != new}
        return not folders.isdisjoint(files) or not behind.isdisjoint(files | folders)

    def _obstructed(self, side: Side, place: RelPath, node: RelPath, names: Names) -> bool:
        """Whether the rename of `place` to the final place of `node` meets something on `side`."""
        entry = self._scans[side].entries.get(place)
        final = self._final[node]
        if entry is None or entry.kind is not self._base[node].entry.kind:
            return True
        if place == final and Relocation(self._table(side)).carried(place) == final:
            return True
        return (
            self._is_other(side, place, node)
            or self._is_problem(side, place, final)
            or self._is_refused(side, place, final, names)
            or self._has_no_room(side, place, final)
            or self._has_no_parent(side, final)
        )

    def _is_other(self, side: Side, place: RelPath, node: RelPath) -> bool:
        """Whether what stands at `place` came there by a move of `side` itself."""
        mine = self._made[side]
        return place in self._arrived[side] and mine.get(node) != place

    def _is_problem(self, side: Side, place: RelPath, final: RelPath) -> bool:
        """Whether something unreadable is here, or comes to where this goes."""
        known = self._scans[side].is_known
        return not (
            known(place)
            and known(final)
            and self._scans[side.other].is_known(final)
            and self._bad[side].is_known(final)
        )

    def _is_refused(self, side: Side, place: RelPath, final: RelPath, names: Names) -> bool:
        rules = self._settings.rules(side)
        if fold(place, rules) == fold(final, rules):
            return rules.refusal(final) is not None
        return names.refusal(final) is not None

    def _has_no_room(self, side: Side, place: RelPath, final: RelPath) -> bool:
        """Only an unmodified file may be replaced by a file: what the mover had overwritten."""
        view = self._views[side]
        if view.origin(final) != place or final in self._implied[side]:
            return True
        under = view.replaced(final)
        if under is None:
            return False
        agreed, entry = self._base_view.replaced(final), view.get(final)
        if agreed is None or entry is None or Kind.DIRECTORY in (under.kind, entry.kind):
            return True
        return not _still(agreed, under, side, self._settings)

    def _has_no_parent(self, side: Side, final: RelPath) -> bool:
        """Whether a directory above is missing and not about to come from the mover's side."""
        here, there = self._views[side], self._views[side.other]
        flat = not all(self._settings.rules(x).empty_directories for x in Side)
        up = parent_of(final)
        while up:
            found = here.get(up)
            if found is not None:
                return found.kind is not Kind.DIRECTORY
            coming = there.get(up)
            if not flat and (coming is None or coming.kind is not Kind.DIRECTORY):
                return True
            up = parent_of(up)
        return False
