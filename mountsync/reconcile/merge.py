"""Three-way merge by path, once the accepted moves are thought of as done.

Paths are decided from the deepest up, because a directory may only go when nothing below it stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from enum import IntEnum

from mountsync.model.base import Agreed, agree
from mountsync.model.entry import DIRECTORY, Entry, Kind, Problem, is_in_doubt, is_provisional
from mountsync.model.listing import Scan
from mountsync.model.plan import (
    Action,
    Conflict,
    ConflictPolicy,
    Delete,
    MakeDirectory,
    MakeSymlink,
    Move,
    Put,
    Resolved,
    SetAttributes,
    path_of,
)
from mountsync.model.side import Side
from mountsync.paths import RelPath, ancestors, parent_of
from mountsync.reconcile.attributes import wanted_attributes
from mountsync.reconcile.changes import is_below_leaf
from mountsync.reconcile.compare import Verdict
from mountsync.reconcile.names import Names
from mountsync.reconcile.order import open_while_filling
from mountsync.reconcile.resolve import conflict_path, winner
from mountsync.reconcile.settings import Direction, Settings
from mountsync.reconcile.view import View

MISSING_DIGEST = "its content could not be compared, for want of a digest"
HELD_BELOW = "it cannot be replaced while something in it is left alone"


class Fate(IntEnum):
    """What becomes of a path."""

    GONE = 0
    HELD = 1
    """It stays on a side, but the sides do not come to agree on it now."""
    ALIVE = 2
    """It stands on both sides afterwards."""


@dataclass(slots=True)
class Outcome:
    """What the merge found to do, in no order yet."""

    actions: dict[Side, list[Action]] = field(default_factory=lambda: {Side.A: [], Side.B: []})
    to_base: dict[RelPath, Agreed | None] = field(default_factory=dict)
    conflicts: list[Conflict] = field(default_factory=list)
    resolved: list[Resolved] = field(default_factory=list)
    problems: dict[RelPath, Problem] = field(default_factory=dict)
    wanted: set[tuple[Side, RelPath]] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Spot:
    """One path with what base and both sides hold there."""

    path: RelPath
    base: Agreed | None
    a: Entry | None
    b: Entry | None

    def on(self, side: Side) -> Entry | None:
        """What that side holds."""
        return self.a if side is Side.A else self.b

    @property
    def base_kind(self) -> Kind | None:
        """The kind of what was agreed, None when nothing was."""
        return None if self.base is None else self.base.entry.kind


class Merge:
    """One merge over three views. `run` may be called once."""

    def __init__(
        self,
        scans: dict[Side, Scan],
        views: dict[Side, View[Entry]],
        base: View[Agreed],
        settings: Settings,
        is_settled: Callable[[RelPath], bool],
    ) -> None:
        """`is_settled` tells of a path in base whether both sides moved what it stands for."""
        self._is_settled = is_settled
        self._scans, self._views, self._base = scans, views, base
        self._settings, self._comparator = settings, settings.comparator
        self._names = {side: Names(settings.rules(side), views[side]) for side in Side}
        self._below: dict[RelPath, Fate] = {}
        self._vetoed: set[RelPath] = set()
        self._copies: set[RelPath] = set()
        self.out = Outcome()

    def run(self, candidates: Iterable[RelPath]) -> Outcome:
        """Decides every candidate and every directory above one."""
        for path in sorted(_with_ancestors(candidates), reverse=True):
            fate = self._decide(path)
            above = parent_of(path)
            if fate is not Fate.GONE and self._below.get(above, Fate.GONE) < fate:
                self._below[above] = fate
        if self._vetoed:
            self._apply_vetoes()
        return self.out

    # One path

    def _decide(self, path: RelPath) -> Fate:
        if any(not scan.is_known(path) for scan in self._scans.values()):
            return Fate.HELD
        spot = self._spot(path)
        self._move_row(spot)
        a, b = spot.a, spot.b
        if a is None and b is None:
            return self._forget(spot)
        if self._settings.direction is Direction.ADD and not self._is_addition(spot):
            return self._leave(spot)
        if a is not None and b is not None:
            return self._decide_pair(spot, a, b)
        side = Side.A if a is not None else Side.B
        entry = a or b
        assert entry is not None
        if entry.kind is Kind.DIRECTORY:
            return self._lone_directory(spot, side, entry)
        return self._lone_leaf(spot, side, entry)

    def _spot(self, path: RelPath) -> Spot:
        """The three entries; digests that base knows are filled in, one-way runs see B as agreed."""
        row = self._base.get(path)
        a, b = self._entry(Side.A, path, row), self._entry(Side.B, path, row)
        a, b = self._implied(Side.A, path, a, b), self._implied(Side.B, path, b, a)
        if self._settings.direction is not Direction.BOTH:
            row = None if b is None else Agreed(replace(b, token=None), None, b.token)
        return Spot(path, row, a, b)

    def _entry(self, side: Side, path: RelPath, row: Agreed | None) -> Entry | None:
        entry = self._views[side].get(path)
        if entry is None or row is None or entry.digest is not None or entry.token is None:
            return entry
        unchanged = entry.token == row.token(side) and entry.kind is row.entry.kind
        return entry.with_digest(row.entry.digest) if unchanged else entry

    def _implied(self, side: Side, path: RelPath, mine: Entry | None, other: Entry | None) -> Entry | None:
        """What counts on a side where directories come and go with their files: it has no say on them."""
        if self._settings.rules(side).empty_directories:
            return mine
        if mine is not None and mine.kind is not Kind.DIRECTORY:
            return mine
        if is_below_leaf(path, self._views[side]):
            return None
        if other is not None and other.kind is Kind.DIRECTORY:
            return other
        return DIRECTORY if self._below.get(path) is Fate.ALIVE else None

    def _is_addition(self, spot: Spot) -> bool:
        """Whether a run that deletes nothing may look at this path."""
        if spot.a is None or spot.b is None:
            return spot.a is not None
        return (spot.a.kind is Kind.DIRECTORY) is (spot.b.kind is Kind.DIRECTORY)

    def _leave(self, spot: Spot) -> Fate:
        """A path that only the target has, or that it has as another kind."""
        if spot.a is not None:
            self._report(spot, "a file and a directory have the same name")
        return Fate.HELD

    def _decide_pair(self, spot: Spot, a: Entry, b: Entry) -> Fate:
        folders = [side for side in Side if _is_folder(spot.on(side))]
        if len(folders) == 2:
            return self._agree(spot, a, b)
        if folders:
            return self._clash(spot, folders[0])
        return self._two_leaves(spot, a, b)

    # Base

    def _move_row(self, spot: Spot) -> None:
        """A row whose object both sides moved by themselves goes along now."""
        origin = self._base.origin(spot.path)
        if origin != spot.path and self._is_settled(origin):
            self.out.to_base.setdefault(origin, None)
            self.out.to_base[spot.path] = self._base.get(spot.path)

    def _forget(self, spot: Spot) -> Fate:
        origin = self._base.origin(spot.path)
        if self._base.get(spot.path) is not None:
            self.out.to_base[origin] = None
            if self.out.to_base.get(spot.path) is not None:
                self.out.to_base[spot.path] = None
        return Fate.GONE

    def _agree(self, spot: Spot, a: Entry, b: Entry) -> Fate:
        """Both hold the same; only attributes may have to travel."""
        rules = {side: self._settings.rules(side) for side in Side}
        wanted = wanted_attributes(a, b, spot.base, rules, self._comparator)
        for side, entry, attributes in ((Side.A, a, wanted[0]), (Side.B, b, wanted[1])):
            if attributes is not None:
                self._add(side, SetAttributes(spot.path, attributes, entry))
        if wanted == (None, None) and self._unmoved(spot.path):
            row = agree(a, b)
            if row != self._base.get(spot.path):
                self.out.to_base[spot.path] = row
        return Fate.ALIVE

    def _unmoved(self, path: RelPath) -> bool:
        """Whether no move brings anything to `path`, so that its row can be written at once."""
        return all(view.origin(path) == path for view in self._views.values())

    # One side alone

    def _lone_leaf(self, spot: Spot, side: Side, entry: Entry) -> Fate:
        if spot.base_kind in (None, Kind.DIRECTORY):
            return self._copy(spot, side, entry)
        unseen = self._unseen(spot.path, side.other)
        if unseen is not None:
            return self._refuse(spot.path, unseen)
        changed = self._changed(spot, side, entry)
        if changed is None:
            return self._undecided(spot)
        if changed:
            return self._copy(spot, side, entry)
        self._add(side, Delete(spot.path, entry))
        return Fate.GONE

    def _lone_directory(self, spot: Spot, side: Side, entry: Entry) -> Fate:
        below = self._below.get(spot.path, Fate.GONE)
        if spot.base_kind is not Kind.DIRECTORY or below is Fate.ALIVE:
            return self._copy(spot, side, entry)
        if below is Fate.HELD:
            return Fate.HELD
        self._add(side, Delete(spot.path, entry))
        return Fate.GONE

    # Both sides

    def _two_leaves(self, spot: Spot, a: Entry, b: Entry) -> Fate:
        verdict = self._comparator.verdict(a, b)
        if verdict is Verdict.SAME:
            return self._agree(spot, a, b)
        changed_a = self._changed(spot, Side.A, a)
        changed_b = self._changed(spot, Side.B, b)
        if changed_a is None or changed_b is None:
            return self._undecided(spot)
        if changed_a is not changed_b:
            return self._copy(spot, Side.A, a) if changed_a else self._copy(spot, Side.B, b)
        if not changed_a and not _surely_differ(a, b):
            return self._agree(spot, a, b)
        if self._want_pair(spot, a, b):
            return self._undecided(spot)
        return self._resolve(spot, a, b)

    def _changed(self, spot: Spot, side: Side, entry: Entry) -> bool | None:
        """Whether `side` differs from base; None when a digest is missing that is worth its price.

        Where a digest is a transfer, another token is taken for another content. But where the file was
        in doubt, so that no token was agreed or a provisional one, nothing speaks for a change yet.
        """
        if spot.base is None:
            return True
        verdict = self._comparator.since(spot.base, entry, side)
        if verdict is not Verdict.UNKNOWN:
            return verdict is Verdict.DIFFERENT
        token = spot.base.token(side)
        doubted = token is None or is_provisional(token) or is_in_doubt(token, entry.token)
        if not self._settings.rules(side).cheap_digests and not doubted:
            return True
        self._want(side, spot.path)
        return None

    def _want_pair(self, spot: Spot, a: Entry, b: Entry) -> bool:
        """Whether digests are missing that could show that this is no conflict. Asks for them."""
        if a.kind is not b.kind or a.kind is not Kind.FILE or a.size != b.size:
            return False
        missing = [side for side in Side if (spot.on(side) or DIRECTORY).digest is None]
        cheap = all(self._settings.rules(side).cheap_digests for side in missing)
        unknown = self._comparator.verdict(a, b) is Verdict.UNKNOWN
        if not missing or not (cheap or unknown):
            return False
        for side in missing:
            self._want(side, spot.path)
        return unknown

    def _want(self, side: Side, path: RelPath) -> None:
        self.out.wanted.add((side, self._views[side].origin(path)))

    def _undecided(self, spot: Spot) -> Fate:
        self.out.problems[spot.path] = Problem(MISSING_DIGEST)
        return Fate.HELD

    def _clash(self, spot: Spot, folder: Side) -> Fate:
        """A directory on one side, a file or link on the other."""
        leaf = folder.other
        entry = spot.on(leaf)
        assert entry is not None
        below = self._below.get(spot.path, Fate.GONE)
        if spot.base_kind is Kind.DIRECTORY and below is Fate.GONE:
            return self._copy(spot, leaf, entry)
        if spot.base_kind is Kind.DIRECTORY and below is Fate.HELD:
            self.out.problems.setdefault(spot.path, Problem(HELD_BELOW))
            return Fate.HELD
        if spot.base is not None and spot.base_kind is not Kind.DIRECTORY:
            changed = self._changed(spot, leaf, entry)
            if changed is None:
                return self._undecided(spot)
            if not changed:
                return self._copy(spot, folder, spot.on(folder) or DIRECTORY)
        if self._settings.policy(spot.path) is ConflictPolicy.MANUAL:
            return self._report(spot, "it became a directory on one side and a file on the other")
        return self._set_aside(spot, leaf)

    def _resolve(self, spot: Spot, a: Entry, b: Entry) -> Fate:
        """Both sides changed it differently."""
        policy = self._settings.policy(spot.path)
        if policy is ConflictPolicy.MANUAL:
            return self._report(spot, "both sides changed it" if spot.base else "both sides made it")
        side = winner(policy, a, b)
        if side is None:
            return self._set_aside(spot, Side.A)
        self.out.resolved.append(Resolved(spot.path, policy, side, None))
        return self._copy(spot, side, spot.on(side) or DIRECTORY)

    def _report(self, spot: Spot, reason: str) -> Fate:
        row = None if spot.base is None else spot.base.entry
        self.out.conflicts.append(Conflict(spot.path, row, spot.a, spot.b, reason))
        self._vetoed.add(spot.path)
        return Fate.HELD

    def _set_aside(self, spot: Spot, loser: Side) -> Fate:
        """The loser takes a conflict name on both sides, the other version the name."""
        entry, kept = spot.on(loser), spot.on(loser.other)
        assert entry is not None and kept is not None
        copy = self._free_name(spot.path)
        if any(self._names[side].refusal(copy) is not None for side in Side):
            return self._report(spot, "both sides changed it, and a conflict copy cannot be named there")
        self._copies.add(copy)
        self._add(loser, Move(spot.path, copy, entry))
        self._transfer(Spot(spot.path, None, None, None), loser, spot.path, kept)
        self._transfer(Spot(copy, None, None, None), loser.other, copy, entry)
        policy = self._settings.policy(spot.path)
        self.out.resolved.append(Resolved(spot.path, policy, loser.other, copy))
        return Fate.ALIVE

    def _free_name(self, path: RelPath) -> RelPath:
        settings = self._settings
        return conflict_path(
            path,
            when=settings.when,
            host=settings.host,
            taken=self._is_taken,
            max_name_bytes=settings.max_name_bytes,
        )

    def _is_taken(self, path: RelPath) -> bool:
        if path in self._copies or self._base.get(path) is not None:
            return True
        return any(view.get(path) is not None for view in self._views.values())

    # Actions

    def _copy(self, spot: Spot, side: Side, entry: Entry) -> Fate:
        """Makes the other side hold what `side` holds."""
        target = side.other
        if spot.on(target) is None:
            reason = self._names[target].refusal(spot.path)
            if reason is not None:
                return self._refuse(spot.path, reason)
        self._transfer(spot, target, spot.path, entry)
        return Fate.ALIVE

    def _refuse(self, path: RelPath, reason: str) -> Fate:
        self.out.problems[path] = Problem(reason, transient=False, error="NameRefused")
        return Fate.HELD

    def _unseen(self, path: RelPath, side: Side) -> str | None:
        """Why `side` does not show the path whatever it holds: what is missing there was not deleted.

        The source of a one-way run has the last word, also on names that it refuses.
        """
        if self._settings.direction is not Direction.BOTH:
            return None
        return self._settings.rules(side).refusal(path)

    def _transfer(self, spot: Spot, target: Side, origin: RelPath, entry: Entry) -> None:
        """`entry` comes to `target`, in the place of what the spot says is there."""
        old = spot.on(target)
        if old is not None and Kind.DIRECTORY in (old.kind, entry.kind):
            self._add(target, Delete(spot.path, old))
            old = None
        if entry.kind is Kind.DIRECTORY:
            for action in open_while_filling(MakeDirectory(spot.path, entry)):
                self._add(target, action)
        elif entry.kind is Kind.SYMLINK:
            self._add(target, MakeSymlink(spot.path, entry, old))
        else:
            self._add(target, Put(spot.path, origin, entry, old))

    def _add(self, side: Side, action: Action) -> None:
        flat = not self._settings.rules(side).empty_directories
        if flat and isinstance(action, (MakeDirectory, Delete, SetAttributes)) and _about_folder(action):
            return
        self.out.actions[side].append(action)

    def _apply_vetoes(self) -> None:
        """Takes back whatever was decided within a conflict that is left alone."""
        out = self.out
        for actions in out.actions.values():
            actions[:] = [x for x in actions if not self._is_vetoed(_where(x))]
        out.resolved[:] = [x for x in out.resolved if not self._is_vetoed(x.path)]
        out.conflicts[:] = [x for x in out.conflicts if not self._is_below_veto(x.path)]

    def _is_vetoed(self, path: RelPath) -> bool:
        return path in self._vetoed or self._is_below_veto(path)

    def _is_below_veto(self, path: RelPath) -> bool:
        return any(up in self._vetoed for up in ancestors(path))


def _surely_differ(a: Entry, b: Entry) -> bool:
    """Whether facts that cannot err contradict that neither side changed."""
    if a.kind is not Kind.FILE or b.kind is not Kind.FILE:
        return True
    return a.size != b.size or (a.digest is not None and b.digest is not None and a.digest != b.digest)


def _is_folder(entry: Entry | None) -> bool:
    return entry is not None and entry.kind is Kind.DIRECTORY


def _about_folder(action: MakeDirectory | Delete | SetAttributes) -> bool:
    entry = action.expect if isinstance(action, Delete) else action.entry
    return entry.kind is Kind.DIRECTORY


def _where(action: Action) -> RelPath:
    return action.source if isinstance(action, Move) else path_of(action)


def _with_ancestors(paths: Iterable[RelPath]) -> set[RelPath]:
    found = set()
    for start in paths:
        path = start
        while path and path not in found:
            found.add(path)
            path = parent_of(path)
    return found
