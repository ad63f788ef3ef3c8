"""One run of a pair: look, plan, carry out, write down, and look again where something was in the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

import trio

from mountsync.engine.apply import Executor, Lanes
from mountsync.engine.hashing import Hasher
from mountsync.engine.pair import marks
from mountsync.engine.pair.backups import Backups, prune, stamp_of, sweep
from mountsync.engine.pair.digests import PairDigests
from mountsync.engine.pair.filters import Filter
from mountsync.engine.pair.looking import Looker
from mountsync.engine.pair.options import PairOptions
from mountsync.engine.pair.planning import MOVING, Planner, aside, folds, problem_of, settings_of
from mountsync.engine.pair.record import Done, Failure, PairRecorder, untold
from mountsync.engine.pair.replica import PairReplica
from mountsync.engine.pair.report import Report
from mountsync.engine.pair.sight import SideView, Sight, whole_scope, with_ancestors
from mountsync.engine.transfers import Transfers
from mountsync.errors import Halted, MountsyncError, NotFound, Unreachable
from mountsync.model.base import Agreed
from mountsync.model.entry import Digest, Entry, Kind
from mountsync.model.plan import Conflict, ConflictPolicy, Plan, Side
from mountsync.model.status import SessionState
from mountsync.paths import ROOT, RelPath, ancestors, is_ours
from mountsync.reconcile import Direction, Halt, modes_differ, too_many_deletes
from mountsync.state.pairs import PairState, Rows
from mountsync.storage.api import Enforcement, Source, Storage, SupportsAttempts, SupportsBody
from mountsync.storage.presence import insist_there

_ROUNDS: Final = 5
_MANY: Final = 500
"""From so many surprises on, everything is looked at again."""
_COMMIT_S: Final = 20.0
"""What was done is written down at least this often, so that a run that dies is not done again."""
_JUST_NOW_NS: Final = 50_000_000
"""Clocks of file systems are that coarse: a file that changed so late may change again unseen."""
_BREATH_S: Final = 1.0
_LAST_WORDS_S: Final = 10.0


async def _hash_later(_side: Side, _source: Source) -> Digest | None:
    """Bodies are hashed while they pass, not before."""
    return None


def _is_stop(error: BaseException) -> bool:
    """Whether somebody wanted the run to end, and nothing is wrong."""
    wanted = (trio.Cancelled, KeyboardInterrupt)
    if isinstance(error, BaseExceptionGroup):
        return error.split(wanted)[1] is None
    return isinstance(error, wanted)


@dataclass(slots=True)
class Progress:
    """What a run is at, for whoever looks."""

    phase: str = "starting"
    transfers: Transfers = field(default_factory=Transfers)
    to_do: int = 0
    counted: int = 0
    """What was done of it where nothing is recorded."""
    recorder: PairRecorder | None = None
    sights: Mapping[Side, Sight] = field(default_factory=dict)
    tell: Callable[[Done], None] = untold
    """Hears of each action as soon as it is done."""

    @property
    def done(self) -> int:
        """How much of `to_do` is done."""
        return self.counted if self.recorder is None else len(self.recorder.done_actions)

    @property
    def seen(self) -> int:
        """Entries that were listed so far."""
        return sum(sight.count for sight in self.sights.values())


class PairRun:
    """One run over two open storages. The caller holds the pair's lock and closes everything."""

    def __init__(
        self,
        a: Storage,
        b: Storage,
        state: PairState,
        pair_id: str,
        options: PairOptions,
        *,
        dry_run: bool = False,
        progress: Progress | None = None,
        overrides: Mapping[RelPath, ConflictPolicy] | None = None,
        clock_ns: Callable[[], int] = time.time_ns,
        copies_in_kernel: bool = False,
        only: frozenset[RelPath] | None = None,
    ) -> None:
        """`overrides` are policies that a person chose for single paths. Raises UsageError.

        `only` are paths that may have changed: the others are not looked at, if the base can be trusted.

        With `copies_in_kernel` the body of a local file is handed on as a descriptor.
        """
        self._state = state
        self._pair_id = pair_id
        self._options = options
        self._dry_run = dry_run
        self._progress = progress or Progress(transfers=Transfers.limited(options.bandwidth))
        self._clock_ns = clock_ns
        self._began_ns = clock_ns()
        self._hidden = Filter(options.patterns, options.only)
        self._backups = self._make_backups({Side.A: a, Side.B: b})
        two_way = options.direction is Direction.BOTH
        self._sides = {
            side: PairReplica(
                storage,
                self._hidden,
                self._backups.get(side),
                hash_bodies=two_way,
                open_bodies=copies_in_kernel or not all(isinstance(each, SupportsBody) for each in (a, b)),
            )
            for side, storage in ((Side.A, a), (Side.B, b))
        }
        for side in Side:
            self._sides[side].across = self._sides[side.other].stat
        self._settings = settings_of(options, self._sides, self._began_ns, overrides or {})
        self._report = Report(dry_run=dry_run)
        self._only = only
        self._rows: Rows = {}
        self._base_size = 0
        self._untrusted = False
        self._mark_due = False
        self._failures: dict[RelPath, Failure] = {}
        self._conflicts: dict[RelPath, Conflict] = {}

    def _make_backups(self, storages: Mapping[Side, Storage]) -> dict[Side, Backups]:
        if self._options.backups is None:
            return {}
        stamp = stamp_of(self._began_ns)
        return {side: Backups(storages[side], self._options.name, stamp) for side in Side}

    @property
    def _two_way(self) -> bool:
        return self._options.direction is Direction.BOTH

    async def run(self) -> Report:
        """Makes both sides agree as far as that can be done, and tells what is left.

        Raises NotFound when the source of a one-way run does not exist: nothing is to be deleted for that.
        Raises Unreachable when a side cannot be looked at or goes away, Halted when a storage says that it
        is not the one that it was, NoSpace when the state cannot be written. On return everything that was
        done is safe from power loss, and so is the record of it.
        """
        began = time.monotonic()
        await self._load()
        if not self._dry_run and self._only is None:
            await self._clean_up()
        await self._work()
        if not self._dry_run:
            await self._finish()
        self._tell()
        self._report.seconds = time.monotonic() - began
        self._progress.phase = "done"
        return self._report

    # Before

    async def _load(self) -> None:
        """The base, unless nothing may be concluded from it."""
        loaded = await aside(self._state.load, self._state.size)
        identities = {side: replica.info.identity for side, replica in self._sides.items()}
        self._digests = PairDigests(self._state, loaded.rows, identities)
        hashers = {side: Hasher(replica, self._digests) for side, replica in self._sides.items()}
        self._planner = Planner(self._sides, hashers, self._settings)
        self._base_size = len(loaded.rows)
        if not self._two_way:
            return
        why = loaded.unknown or await self._compare_marks()
        if self._options.from_scratch:
            why = "you asked for it"
            self._base_size = 0
        if why is None:
            self._rows = loaded.rows
            self._report.first = self._state.setting("mark") is None
            return
        self._untrusted = self._mark_due = True
        self._report.unknown = why

    async def _compare_marks(self) -> str | None:
        found = {side: await marks.read(self._sides[side].storage, self._pair_id) for side in Side}
        if self._state.setting("mark") is None:
            return "the record of the last sync is lost" if any(found.values()) else None
        self._mark_due = None in found.values()
        return marks.contradiction(self._state, list(found.values()), confirmed=self._options.confirmed)

    async def _clean_up(self) -> None:
        """Ends what an earlier run left half done."""
        for side, replica in self._sides.items():
            if isinstance(replica.storage, SupportsAttempts):
                await replica.storage.recover_attempts()
            await sweep(replica.storage, RelPath(MOVING), self._backups.get(side))

    # Rounds

    async def _work(self) -> None:
        single = self._options.only
        surprised = set(self._hints()) if single is None else {single}
        for number in range(_ROUNDS):
            whole = single is None and (
                not 0 < len(surprised) <= _MANY or any(map(folds, self._sides.values()))
            )
            self._report.whole |= whole
            sights = {side: Sight(side) for side in Side}
            await self._look(sights, None if whole else surprised)
            scope = self._scope(sights, None if whole else surprised)
            if number == 0 and (whole or single is not None):
                self._report.entries = {side: sights[side].count for side in Side}
            if number == 0 and whole and self._halts(self._emptied(sights)):
                return
            plan, views = await self._plan(sights, scope)
            if self._halts(self._too_much(plan, sights)):
                return
            self._note_plan(plan, scope, whole=whole)
            if self._dry_run:
                self._report.done = [Done(side, action) for side in Side for action in plan.of(side)]
                return
            recorder = PairRecorder(self._rows, views, plan, self._progress.tell)
            await self._execute(plan, recorder)
            surprised = self._note_failures(recorder)
            if not surprised:
                return
            await self._breathe(surprised)

    def _hints(self) -> Iterable[RelPath]:
        """Where to look first; nowhere in particular when the base says too little of the rest."""
        if self._only is None or self._untrusted or not self._rows or not self._two_way:
            return ()
        return (path for path in self._only if not is_ours(path)) if ROOT not in self._only else ()

    async def _look(self, sights: Mapping[Side, Sight], paths: set[RelPath] | None) -> None:
        self._progress.phase = "listing"
        self._progress.sights = sights
        failed: list[MountsyncError] = []

        async def one(side: Side) -> None:
            looker = Looker(self._sides[side], side, self._rows, self._hidden)
            try:
                await (looker.whole(sights[side]) if paths is None else looker.around(paths, sights[side]))
            except NotFound as error:
                if self._two_way or side is Side.A or error.path != ROOT:
                    failed.append(self._missing(side, error))  # else a target begins
            except MountsyncError as error:
                failed.append(error)

        async with trio.open_nursery() as nursery:
            for side in Side:
                nursery.start_soon(one, side)
        if failed:
            raise failed[0]
        if not self._two_way and not sights[Side.A].count:
            await self._insist_on_source(sights[Side.A], paths)

    def _missing(self, side: Side, error: NotFound) -> NotFound:
        """The error for a side that does not exist, with its name where the storage gave none."""
        if error.path != ROOT:
            return error
        if not self._two_way:
            return NotFound("the source does not exist", hint="check the name")
        name = f"side {side.value.upper()}"
        return NotFound(f"{name} does not exist", hint="make it first, if the name is right: mountsync mkdir")

    async def _insist_on_source(self, sight: Sight, paths: set[RelPath] | None) -> None:
        """Nothing is deleted because the source of a one-way run is gone."""
        if paths is None:
            await insist_there(self._sides[Side.A].storage, "the source")
        elif self._options.only is not None and not sight.problems:
            raise NotFound("it is gone, or a filter leaves it out", path=self._options.only)

    def _scope(self, sights: Mapping[Side, Sight], paths: set[RelPath] | None) -> set[RelPath]:
        a, b = sights[Side.A], sights[Side.B]
        if paths is not None:
            known = {path for path in self._rows if path in paths or not paths.isdisjoint(ancestors(path))}
            seen = {*a.changed, *b.changed, *a.resting, *b.resting}
            return with_ancestors(seen | known | paths)
        if any(map(folds, self._sides.values())):
            return {*self._rows, *a.changed, *b.changed}
        if self._two_way:
            return with_ancestors(whole_scope(a, b, self._rows))
        return with_ancestors(self._differing(a, b))

    def _differing(self, a: Sight, b: Sight) -> set[RelPath]:
        """For one-way runs: what is not known to be equal on both sides."""
        found = {path for path in b.changed if path not in a.changed}
        found.update(path for path, x in a.changed.items() if self._differs(x, b.changed.get(path)))
        return found

    def _differs(self, x: Entry, y: Entry | None) -> bool:
        if y is None or not self._settings.comparator.same(x, y):
            return True
        if modes_differ(x, y, keeps=self._sides[Side.B].sets_modes):
            return True
        return x.kind is Kind.FILE and not self._settings.comparator.near(x.mtime_ns, y.mtime_ns)

    async def _plan(
        self, sights: Mapping[Side, Sight], scope: set[RelPath]
    ) -> tuple[Plan, dict[Side, SideView]]:
        self._progress.phase = "comparing"
        made = await self._planner.plan(sights, self._rows, scope)
        self._report.hashed = self._planner.hashed
        return made

    # Safety

    def _halts(self, halt: Halt | None) -> bool:
        if halt is None or self._options.confirmed:
            return False
        self._report.halt = halt
        return True

    def _emptied(self, sights: Mapping[Side, Sight]) -> Halt | None:
        if self._base_size <= 1 or not self._two_way:
            return None
        for side, sight in sights.items():
            if not sight.count and not sight.problems:
                reason = f"side {side.value.upper()} is empty now, but {self._base_size} entries were in sync"
                return Halt(SessionState.HALTED_EMPTIED, side, reason)
        return None

    def _too_much(self, plan: Plan, sights: Mapping[Side, Sight]) -> Halt | None:
        size = len(self._rows) if self._two_way else sights[Side.B].count
        return too_many_deletes(plan, size, self._options.max_delete)

    # Execution

    async def _execute(self, plan: Plan, recorder: PairRecorder) -> None:
        """Carries out a plan and writes down what was done, from time to time and at the end."""
        self._progress.phase = "transferring"
        self._progress.recorder = recorder
        self._progress.to_do = len(plan.to_a) + len(plan.to_b)
        a, b = self._sides[Side.A], self._sides[Side.B]
        liked = (a.info.small_at_once, b.info.small_at_once)
        lanes = Lanes(self._options.transfers, max(liked) if all(liked) else 0)
        executor = Executor(a, b, recorder, lanes, self._progress.transfers, _hash_later)
        if plan.is_empty:
            await self._commit(recorder)
            return
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._commit_often, recorder)
                await executor.run(plan)
                nursery.cancel_scope.cancel()
        except BaseException as error:
            if _is_stop(error):
                await self._keep_what_was_done(recorder)
            raise
        await self._commit(recorder)

    async def _keep_what_was_done(self, recorder: PairRecorder) -> None:
        """A run that is told to stop leaves a record, so that the next one need not compare contents."""
        with trio.move_on_after(_LAST_WORDS_S, shield=True), suppress(MountsyncError):
            taken = recorder.take()
            for replica in self._sides.values():
                await replica.barrier()
            await self._write(taken)

    async def _commit_often(self, recorder: PairRecorder) -> None:
        while True:
            await trio.sleep(_COMMIT_S)
            with trio.CancelScope(shield=True):
                taken = recorder.take()
                for replica in self._sides.values():
                    await replica.barrier()
                await self._write(taken)

    async def _commit(self, recorder: PairRecorder) -> None:
        """Everything of the plan is on both sides for good: the executor waited for their barriers."""
        self._report.done += recorder.done_actions
        self._report.bytes_moved += recorder.bytes_moved
        with trio.CancelScope(shield=True):
            await self._write(recorder.take())

    async def _write(self, changed: Mapping[RelPath, Agreed | None]) -> None:
        self._digests.flush()
        if not self._two_way or not (changed or self._mark_due):
            return
        if self._untrusted:
            self._state.forget_all()
            self._untrusted = False
        mark, previous = marks.fresh(), self._state.setting("mark") or ""
        rows = {path: None if row is None else self._doubted(row) for path, row in changed.items()}
        facts = {"mark": mark, "previous": previous}
        await aside(partial(self._state.commit, self._rows, rows, facts), len(rows))
        for side in Side:
            await self._leave_mark(side, mark)
        self._mark_due = False

    async def _leave_mark(self, side: Side, mark: str) -> None:
        try:
            await marks.write(self._sides[side].storage, self._pair_id, mark)
        except MountsyncError as error:
            place = marks.place_of(self._pair_id)
            self._failures[place] = Failure(side, place, error, ())

    def _doubted(self, row: Agreed) -> Agreed:
        """Without the token of a side whose file may change again within the same tick of its clock."""
        for side, replica in self._sides.items():
            if replica.info.enforcement is Enforcement.ATOMIC or row.entry.kind is not Kind.FILE:
                continue
            step = max(_JUST_NOW_NS, replica.info.mtime_precision_ns or 0)
            if (row.mtime_ns(side) or 0) > self._began_ns - step:
                row = replace(row, a=None) if side is Side.A else replace(row, b=None)
        return row

    # What is left

    def _note_plan(self, plan: Plan, scope: Iterable[RelPath], *, whole: bool) -> None:
        for path in list(self._conflicts) if whole else scope:
            self._conflicts.pop(path, None)
        for path in list(self._report.problems) if whole else scope:
            self._report.problems.pop(path, None)
        for path in list(self._failures) if whole else scope:
            if path in self._failures and self._failures[path].places:
                del self._failures[path]
        self._conflicts.update({conflict.path: conflict for conflict in plan.conflicts})
        self._report.problems.update(plan.problems)
        self._report.resolved += plan.resolved

    def _note_failures(self, recorder: PairRecorder) -> set[RelPath]:
        """Remembers what failed; gives the paths that are worth another look in this run."""
        again: set[RelPath] = set()
        for failure in recorder.failures:
            if isinstance(failure.error, Unreachable | Halted):
                raise failure.error
            self._failures[failure.path] = failure
            if failure.is_surprise or failure.error.transient:
                again.update(failure.places)
        return again

    async def _breathe(self, surprised: set[RelPath]) -> None:
        """What is only busy or full gets a moment; what changed is looked at at once."""
        if any(f.error.transient and f.path in surprised for f in self._failures.values()):
            await trio.sleep(_BREATH_S)

    def _tell(self) -> None:
        for path, failure in self._failures.items():
            self._report.problems[path] = problem_of(failure.error)
        self._report.conflicts = tuple(sorted(self._conflicts.values(), key=lambda c: c.path))
        for side, backups in self._backups.items():
            self._report.backups[side] = backups.kept

    async def _finish(self) -> None:
        """Backups that are too old or too many go."""
        rules = self._options.backups
        if rules is None or not any(backups.kept for backups in self._backups.values()):
            return
        for side, backups in self._backups.items():
            if backups.kept:
                await prune(self._sides[side].storage, self._options.name, rules, now_ns=self._clock_ns())
