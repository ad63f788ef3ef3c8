"""From what two sides hold to a plan: which digests are missing, who computes them, what is left out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final, TypeVar

import trio

from mountsync.engine.hashing import Hasher
from mountsync.engine.pair.filters import policy_of
from mountsync.engine.pair.options import PairOptions
from mountsync.engine.pair.replica import PairReplica
from mountsync.engine.pair.sight import BaseView, SideView, Sight
from mountsync.errors import MountsyncError, Unreachable, UsageError
from mountsync.model.entry import Entry, Kind, Problem
from mountsync.model.listing import Scan
from mountsync.model.plan import Action, ConflictPolicy, Delete, Plan, Side, path_of
from mountsync.paths import OURS, RelPath
from mountsync.reconcile import (
    Comparator,
    Comparison,
    Direction,
    Settings,
    SideRules,
    Verdict,
    reconcile,
    wanted_digests,
)
from mountsync.state.pairs import Rows
from mountsync.storage.api import SupportsAttributes, SupportsSetMtime

T = TypeVar("T")

MOVING: Final = f"{OURS}/moving"
_ROUNDS: Final = 8
"""One digest may show a move, and a move may ask for another digest."""
_HASHERS: Final = 4
_AT_ONCE: Final = 500
"""Paths that are decided on the loop: a few milliseconds."""
_CHEAP: Final = frozenset({"local", "memory"})


def settings_of(
    options: PairOptions,
    sides: Mapping[Side, PairReplica],
    clock_ns: int,
    overrides: Mapping[RelPath, ConflictPolicy],
) -> Settings:
    """How this pair reconciles. Raises UsageError when the sides cannot be compared as asked."""
    infos = {side: replica.info for side, replica in sides.items()}
    steps = [info.mtime_precision_ns for info in infos.values()]
    if options.compare is Comparison.MTIME and None in steps and options.fallback is None:
        raise UsageError(
            "one side keeps no times, so they cannot be compared",
            hint="use --compare hash, or say what decides instead: --fallback size",
        )
    policy = policy_of(options.conflict, options.policies)
    chosen = dict(overrides)
    moment = time.strftime("%Y-%m-%d %H-%M-%S", time.localtime(clock_ns // 1_000_000_000))
    return Settings(
        when=moment,
        host=options.host,
        comparator=Comparator(options.compare, max(step or 0 for step in steps), options.fallback),
        policy=lambda path: chosen.get(path) or policy(path),
        a=_rules(sides[Side.A]),
        b=_rules(sides[Side.B]),
        direction=options.direction,
        evidence=options.renames,
        temporary=f"{MOVING}/{clock_ns:x}",
        max_name_bytes=min(info.names.max_name_bytes for info in infos.values()),
    )


def _rules(replica: PairReplica) -> SideRules:
    info = replica.info

    def refusal(path: RelPath) -> str | None:
        refused = info.names.refusal(path)
        return None if refused is None else refused.reason

    return SideRules(
        can_move=replica.can_move,
        moves_directories=replica.moves_directories,
        case_sensitive=info.case_sensitive,
        unicode_normalizing=info.unicode_normalizing,
        empty_directories=info.empty_directories,
        mtimes=isinstance(replica.storage, SupportsSetMtime),
        times=info.mtime_precision_ns is not None,
        modes=isinstance(replica.storage, SupportsAttributes),
        cheap_digests=info.type in _CHEAP or "sha256" in info.hashes,
        refusal=refusal,
    )


def folds(replica: PairReplica) -> bool:
    """Whether that side takes different names for one, so that all names count."""
    return not replica.info.case_sensitive or replica.info.unicode_normalizing


@dataclass(slots=True)
class Planner:
    """Makes plans over what was seen; computes what digests they need."""

    sides: Mapping[Side, PairReplica]
    hashers: Mapping[Side, Hasher]
    settings: Settings
    hashed: int = 0
    _unreadable: dict[RelPath, Problem] = field(default_factory=dict)

    async def plan(
        self, sights: Mapping[Side, Sight], rows: Rows, scope: set[RelPath]
    ) -> tuple[Plan, dict[Side, SideView]]:
        """The plan for a scope, and what each side holds there. Raises Unreachable."""
        settings = self._around_hidden(sights)
        if settings.direction is not Direction.BOTH:
            await self._compare_contents(sights, rows, scope)
        asked: set[tuple[Side, RelPath]] = set()
        for _ in range(_ROUNDS):
            scans, views, base = self._look(sights, rows, scope)
            decide = partial(wanted_digests, scans[Side.A], scans[Side.B], base, settings=settings)
            wanted = await aside(decide, len(scope)) - asked
            if not wanted:
                break
            asked |= wanted
            await self._compute(wanted, sights, views)
        plan = await aside(
            partial(reconcile, scans[Side.A], scans[Side.B], base, settings=settings), len(scope)
        )
        problems = {path: self._unreadable.get(path, problem) for path, problem in plan.problems.items()}
        return self._without_kept(replace(plan, problems=problems), sights), views

    async def _compare_contents(
        self, sights: Mapping[Side, Sight], rows: Rows, scope: Iterable[RelPath]
    ) -> None:
        """Without a base nothing else tells whether two files of one size are equal."""
        _, views, _ = self._look(sights, rows, scope)
        verdict = self.settings.comparator.without_fallback().verdict
        unknown = [
            path
            for path in views[Side.A]
            if path in views[Side.B] and verdict(views[Side.A][path], views[Side.B][path]) is Verdict.UNKNOWN
        ]
        if self.settings.comparator.comparison is Comparison.HASH:
            await self._compute(((side, path) for path in unknown for side in Side), sights, views)

    def _around_hidden(self, sights: Mapping[Side, Sight]) -> Settings:
        """Where something invisible lies in directories they are not moved whole: it stays where it is."""
        a, b = self.settings.a, self.settings.b
        return replace(
            self.settings,
            a=replace(a, moves_directories=a.moves_directories and not sights[Side.A].keeps),
            b=replace(b, moves_directories=b.moves_directories and not sights[Side.B].keeps),
        )

    def _look(
        self, sights: Mapping[Side, Sight], rows: Rows, scope: Iterable[RelPath]
    ) -> tuple[dict[Side, Scan], dict[Side, SideView], BaseView]:
        two_way = self.settings.direction is Direction.BOTH
        views = {side: SideView(sights[side], rows, scope) for side in Side}
        scans = {side: Scan(views[side], sights[side].problems) for side in Side}
        return scans, views, BaseView(rows if two_way else {}, scope)

    async def _compute(
        self,
        wanted: Iterable[tuple[Side, RelPath]],
        sights: Mapping[Side, Sight],
        views: Mapping[Side, SideView],
    ) -> None:
        waiting = iter(sorted(wanted, key=lambda item: (item[1], item[0].value)))
        offline: list[Unreachable] = []

        async def work(items: Iterator[tuple[Side, RelPath]]) -> None:
            for side, path in items:
                if offline:
                    return
                try:
                    await self._compute_one(side, path, sights[side], views[side])
                except Unreachable as error:
                    offline.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(_HASHERS):
                nursery.start_soon(work, waiting)
        if offline:
            raise offline[0]

    async def _compute_one(self, side: Side, path: RelPath, sight: Sight, view: SideView) -> None:
        entry: Entry | None = view.get(path)
        if entry is None or entry.kind is not Kind.FILE or entry.digest is not None:
            return
        hasher = self.hashers[side]
        if hasher.cached(path, entry) is None:
            self.hashed += 1
        try:
            digest = await hasher.digest(path, entry)
        except Unreachable:
            raise
        except MountsyncError as error:
            self._unreadable[path] = problem_of(error)
            return
        sight.changed[path] = entry.with_digest(digest)

    def _without_kept(self, plan: Plan, sights: Mapping[Side, Sight]) -> Plan:
        """Directories in which something invisible lies stay, and nobody is told of a failure.

        Their rows stay as well: once the rest is gone the directory still is to be deleted, and not new.
        """
        if not any(sight.keeps for sight in sights.values()):
            return plan
        stays = {side: _staying(plan.of(side), sights[side].keeps) for side in Side}
        kept = stays[Side.A] | stays[Side.B]
        return replace(
            plan,
            to_a=_without(plan.to_a, stays[Side.A]),
            to_b=_without(plan.to_b, stays[Side.B]),
            to_base={path: row for path, row in plan.to_base.items() if row is not None or path not in kept},
        )


async def aside(work: Callable[[], T], size: int) -> T:
    """Runs in a thread what would hold up everybody else."""
    return work() if size < _AT_ONCE else await trio.to_thread.run_sync(work)


def _staying(actions: Sequence[Action], keeps: set[RelPath]) -> set[RelPath]:
    """Which of these directories would go, but for one whose name is needed: that fails and is told."""
    deleted = {
        action.path
        for action in actions
        if isinstance(action, Delete) and action.expect.kind is Kind.DIRECTORY and action.path in keeps
    }
    if not deleted:
        return deleted
    return deleted - {path_of(action) for action in actions if not isinstance(action, Delete)}


def _without(actions: tuple[Action, ...], deleted: set[RelPath]) -> tuple[Action, ...]:
    if not deleted:
        return actions
    return tuple(action for action in actions if not (isinstance(action, Delete) and action.path in deleted))


def problem_of(error: MountsyncError) -> Problem:
    """The problem of a path that an error tells of."""
    return Problem(str(error.reason), transient=error.transient, error=type(error).__name__)
