"""The whole of reconciliation: two scans and a base in, a plan out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeAlias

from mountsync.model.base import Base
from mountsync.model.entry import Entry, Kind, Problem
from mountsync.model.listing import Listing, Scan
from mountsync.model.plan import Action, Delete, MakeDirectory, Move, Plan
from mountsync.model.side import Side
from mountsync.paths import RelPath
from mountsync.reconcile.changes import candidates
from mountsync.reconcile.follow import Tables, accept
from mountsync.reconcile.merge import Merge, Outcome
from mountsync.reconcile.order import Places, Step, arrange, sequence
from mountsync.reconcile.renames import infer_moves
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

    `moves_a` and `moves_b` are known moves: (path in base, path on that side now). Where none are given
    they are inferred as `settings.evidence` says. A path whose comparison lacks a digest becomes a
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
        self._scans = {Side.A: a, Side.B: b}
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
        merge = Merge(self._moved_scans(tables), views, base, self._settings)
        outcome = merge.run(_final(found, tables))
        self.wanted |= outcome.wanted
        return self._assemble(outcome, tables, views, problems)

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
            self.wanted |= {(side, path) for path in _maybe_moved(entries, self._base, found)}
        return infer_moves(side, entries, self._base, found, evidence=evidence)

    def _moved_scans(self, tables: Tables) -> dict[Side, Scan]:
        """The scans with their problems where these will be."""
        return {
            side: Scan(scan.entries, _relocated(scan, Relocation(tables.to(side))))
            for side, scan in self._scans.items()
        }

    def _assemble(
        self,
        outcome: Outcome,
        tables: Tables,
        views: dict[Side, View[Entry]],
        problems: dict[RelPath, Problem],
    ) -> Plan:
        rows = _RowPlaces(tables)
        todo = {}
        for side in Side:
            moves = self._moves(side, tables, views[side], rows)
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
            _move(step, entries, view, rows.advance(back(step.moved), step))
            for step in sequence(table, self._settings.temporary)
        ]

    def _with_folders(self, side: Side, view: View[Entry], actions: list[Action]) -> list[Action]:
        """On a side that moves only files: the new directories, and the old ones away."""
        rules = self._settings.rules(side)
        if rules.moves_directories or not rules.empty_directories:
            return actions
        entries = self._scans[side].entries
        moved = [pair for pair in view.moved() if entries[pair[0]].kind is Kind.DIRECTORY]
        made = {x.path for x in actions if isinstance(x, MakeDirectory)}
        old = {source for source, _ in moved}
        extra: list[Action] = [MakeDirectory(new, entries[src]) for src, new in moved if new not in old]
        kept = {new for _, new in moved} | made
        extra += [Delete(source, entries[source]) for source in old if source not in kept]
        return [x for x in actions if not (isinstance(x, MakeDirectory) and x.path in old)] + extra


class _RowPlaces:
    """Where the rows of base are while moves, those of A before those of B, take them along."""

    def __init__(self, tables: Tables) -> None:
        self._places = Places()
        for node, final in tables.base.items():
            if tables.at_a(node) == tables.at_b(node) == final:
                self._places.set(node, final)  # made on both sides: written before any move

    def advance(self, node: RelPath, step: Step) -> RelPath:
        """Where the rows of `node` are before this step; afterwards they are at its target."""
        now = self._places.now(node)
        self._places.set(node, step.target)
        return now


def _move(step: Step, entries: Listing, view: View[Entry], row: RelPath) -> Move:
    replaced = view.replaced(step.target) if step.last else None
    return Move(step.source, step.target, entries[step.moved], replaced, row)


def _relocated(scan: Scan, relocation: Relocation) -> dict[RelPath, Problem]:
    return {relocation(path): problem for path, problem in scan.problems.items()}


def _final(found: set[RelPath], tables: Tables) -> set[RelPath]:
    """The candidates under every name that base or a side will have for them."""
    if not tables.base:
        return found
    places = set(found)
    for table in (tables.base, tables.to_a, tables.to_b):
        places.update(map(Relocation(table), found))
    return places


def _maybe_moved(entries: Listing, base: Base, found: set[RelPath]) -> Iterable[RelPath]:
    """New files without a digest whose size is that of something that vanished or changed."""
    sizes = set()
    for path in found:
        agreed = base.get(path)
        if agreed is not None and agreed.entry.kind is Kind.FILE and agreed.entry.digest is not None:
            sizes.add(agreed.entry.size)
    sizes.discard(0)
    for path in found:
        entry = entries.get(path)
        if entry is not None and entry.kind is Kind.FILE and entry.digest is None and entry.size in sizes:
            yield path
