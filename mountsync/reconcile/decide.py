"""The whole of reconciliation: two scans and a base in, a plan out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

from mountsync.model.base import Agreed, Base
from mountsync.model.entry import Entry, Kind, Problem
from mountsync.model.listing import Listing, Scan
from mountsync.model.plan import Action, Delete, MakeDirectory, Move, Plan
from mountsync.model.side import Side
from mountsync.paths import RelPath, ancestors
from mountsync.reconcile.aliases import respelled
from mountsync.reconcile.changes import candidates
from mountsync.reconcile.follow import Tables, accept, relocated
from mountsync.reconcile.merge import Merge, Outcome
from mountsync.reconcile.order import Places, Step, Table, arrange, sequence
from mountsync.reconcile.renames import infer_moves, rests
from mountsync.reconcile.settings import Direction, Evidence, Settings
from mountsync.reconcile.view import Relocation, View

Moved: TypeAlias = Iterable[tuple[RelPath, RelPath]]
Wanted: TypeAlias = frozenset[tuple[Side, RelPath]]


def reconcile(
    a: Scan, b: Scan, base: Base, *, settings: Settings, moves_a: Moved = (), moves_b: Moved = ()
) -> Plan:
    """All that has to be done so that both sides agree, and all that cannot be done.

    The scans may be full listings or scopes: any set of paths with the directories above them, the same
    set for both sides and base. In a scope a directory that was deleted, replaced or (on a side that
    cannot move directories) moved needs everything below it.

    `moves_a` and `moves_b` are known moves: (path in base, path on that side now), a directory for all
    that moved with it. What stayed at its path while its directory moved away is a move too. Where none
    are given they are inferred as `settings.evidence` says. A path whose comparison lacks a digest becomes a
    problem and is left alone: call `wanted_digests` first.
    """
    return _Reconciliation(a, b, base, settings).plan(moves_a, moves_b)


def wanted_digests(
    a: Scan, b: Scan, base: Base, *, settings: Settings, moves_a: Moved = (), moves_b: Moved = ()
) -> Wanted:
    """The (side, path) whose digests decide something and are missing.

    Compute those, put them into the scans and ask again, until nothing new is wanted; a digest may show
    a move, and a move may ask for another digest. What cannot be computed may be left out: then the
    comparator's fallback decides, or the path becomes a problem.
    """
    wanting = replace(settings, comparator=settings.comparator.without_fallback())
    run = _Reconciliation(a, b, base, wanting)
    run.plan(moves_a, moves_b)
    return frozenset(run.wanted)


class _Reconciliation:
    def __init__(self, a: Scan, b: Scan, base: Base, settings: Settings) -> None:
        a = respelled(a, settings.a, base, b.entries)
        self._scans = {Side.A: a, Side.B: respelled(b, settings.b, base, a.entries)}
        self._base, self._settings = base, settings
        self.wanted: set[tuple[Side, RelPath]] = set()

    def plan(self, moves_a: Moved, moves_b: Moved) -> Plan:
        """The plan; fills `wanted`."""
        a, b = self._scans[Side.A], self._scans[Side.B]
        found = candidates(a.entries, b.entries, self._base, self._settings)
        problems = {**a.problems, **b.problems}
        if not found:
            return Plan(problems=problems)
        tables = self._follow(found, tuple(moves_a), tuple(moves_b))
        views = {side: View(self._scans[side].entries, Relocation(tables.to(side))) for side in Side}
        base = View(self._base, Relocation(tables.base))
        scans = self._moved_scans(tables)
        places = _final(found, tables, (views[Side.A], views[Side.B], base))
        places |= scans[Side.A].problems.keys() | scans[Side.B].problems.keys()
        outcome = Merge(scans, views, base, self._settings, tables.settled_row).run(places)
        self.wanted |= outcome.wanted
        return self._assemble(outcome, tables, views, base, problems)

    def _follow(self, found: set[RelPath], moves_a: Moved, moves_b: Moved) -> Tables:
        if self._settings.direction is not Direction.BOTH:
            moves_b = ()
        else:
            moves_b = moves_b or self._infer(Side.B, found)
        moves_a = moves_a or self._infer(Side.A, found)
        return accept(self._scans[Side.A], self._scans[Side.B], self._base, moves_a, moves_b, self._settings)

    def _infer(self, side: Side, found: set[RelPath]) -> Moved:
        evidence, entries = self._settings.evidence, self._scans[side].entries
        if evidence is Evidence.NONE or not self._settings.rules(side.other).can_move:
            return ()
        if evidence is Evidence.DIGEST and self._settings.rules(side).cheap_digests:
            self.wanted |= {(side, path) for path in _maybe_moved(side, entries, self._base, found)}
        return infer_moves(side, entries, self._base, found, evidence=evidence)

    def _moved_scans(self, tables: Tables) -> dict[Side, Scan]:
        """The scans with their problems where these will be."""
        return {side: relocated(scan, Relocation(tables.to(side))) for side, scan in self._scans.items()}

    def _assemble(
        self,
        outcome: Outcome,
        tables: Tables,
        views: dict[Side, View[Entry]],
        base: View[Agreed],
        problems: dict[RelPath, Problem],
    ) -> Plan:
        rows = _RowPlaces()
        for path in base.under.values():
            if tables.settled_row(path):
                outcome.to_base.setdefault(path, None)
        todo = {}
        for side in Side:
            moves = self._moves(side, tables, views[side], rows)
            if not self._settings.rules(side).moves_directories:
                self._drop_rows(side, moves, tables, views, outcome)
            todo[side] = arrange(moves, self._with_folders(side, views[side], outcome.actions[side]))
        return Plan(
            todo[Side.A],
            todo[Side.B],
            outcome.to_base,
            tuple(sorted(outcome.conflicts, key=lambda x: x.path)),
            tuple(sorted(outcome.resolved, key=lambda x: x.path)),
            problems | outcome.problems,
        )

    def _moves(self, side: Side, tables: Tables, view: View[Entry], rows: _RowPlaces) -> list[Move]:
        """The renames on one side in a safe order, with the rows that go along."""
        entries = self._scans[side].entries
        table = tables.to(side)
        if not self._settings.rules(side).moves_directories:
            table = {old: new for old, new in view.moved() if entries[old].kind is not Kind.DIRECTORY}
        back = Relocation({place: node for node, place in tables.at(side).table.items()})
        return [
            _move(step, entries, _replaced(step, view, table), rows.advance(back(step.moved), step))
            for step in sequence(table, self._settings.temporary)
        ]

    def _drop_rows(
        self,
        side: Side,
        moves: list[Move],
        tables: Tables,
        views: dict[Side, View[Entry]],
        outcome: Outcome,
    ) -> None:
        """Forgets what base has in a directory that moves file by file and that neither side has now."""
        follow = {move.base for move in moves}
        for path in self._base:
            node = tables.nearest(path)
            if node is None or path in follow or tables.at(side)(node) not in tables.to(side):
                continue
            if all(view.get(path) is None for view in views.values()):
                outcome.to_base.setdefault(path, None)

    def _with_folders(self, side: Side, view: View[Entry], actions: list[Action]) -> list[Action]:
        """On a side that moves only files: the new directories, and what stays behind away."""
        rules = self._settings.rules(side)
        if rules.moves_directories:
            return actions
        entries = self._scans[side].entries
        behind = [Delete(old, entries[old]) for new, old in view.under.items() if old != new]
        if rules.empty_directories:
            return _move_folders(view, entries, actions) + behind
        return [*actions, *behind]


def _move_folders(view: View[Entry], entries: Listing, actions: list[Action]) -> list[Action]:
    """`actions`, and those that stand for the moves of directories whose files move one by one."""
    moved = [pair for pair in view.moved() if entries[pair[0]].kind is Kind.DIRECTORY]
    old, new = {source for source, _ in moved}, {target for _, target in moved}
    needed = {up for at, to in view.moved() if entries[at].kind is not Kind.DIRECTORY for up in ancestors(to)}
    doomed = ({x.path for x in actions if isinstance(x, Delete)} & new) - needed
    remade = {x.path for x in actions if isinstance(x, MakeDirectory)} & old
    kept = [
        x
        for x in actions
        if not (isinstance(x, Delete) and x.path in doomed)
        and not (isinstance(x, MakeDirectory) and x.path in remade)
    ]
    kept += [MakeDirectory(to, entries[at]) for at, to in moved if to not in old and to not in doomed]
    kept += [Delete(at, entries[at]) for at in old if at in doomed or (at not in new and at not in remade)]
    return kept


class _RowPlaces:
    """Where the rows of base are while moves, those of A before those of B, take them along."""

    def __init__(self) -> None:
        self._places = Places()

    def advance(self, node: RelPath, step: Step) -> RelPath:
        """Where the rows of `node` are before this step; afterwards they are at its target."""
        now = self._places.now(node)
        self._places.set(node, step.target)
        return now


def _replaced(step: Step, view: View[Entry], table: Table) -> Entry | None:
    """What a rename meets at its target: a thing that stays there, or was carried there before."""
    old = view.under.get(step.target)
    if not step.last or old is None:
        return None
    return view.replaced(step.target) if Relocation(table)(old) == step.target else None


def _move(step: Step, entries: Listing, replaced: Entry | None, row: RelPath) -> Move:
    return Move(step.source, step.target, entries[step.moved], replaced, row)


def _final(found: set[RelPath], tables: Tables, views: Iterable[View[Entry] | View[Agreed]]) -> set[RelPath]:
    """The candidates under every name that base or a side will have for them.

    Where something leaves or arrives there is always something to decide, even if the place looks the
    same as before: another object may stand there now.
    """
    if not tables.base:
        return found
    places = set(found)
    for table in (tables.base, tables.to_a, tables.to_b):
        places.update(map(Relocation(table), found))
    for view in views:
        places |= view.touched()
    return places


def _maybe_moved(side: Side, entries: Listing, base: Base, found: set[RelPath]) -> Iterable[RelPath]:
    """New files without a digest whose size is that of something that vanished or changed."""
    changed = [path for path in found if not rests(base.get(path), entries.get(path), side)]
    sizes = set()
    for path in changed:
        agreed = base.get(path)
        if agreed is not None and agreed.entry.kind is Kind.FILE and agreed.entry.digest is not None:
            sizes.add(agreed.entry.size)
    sizes.discard(0)
    for path in changed:
        entry = entries.get(path)
        if entry is not None and entry.kind is Kind.FILE and entry.digest is None and entry.size in sizes:
            yield path
