"""A pair that is kept in sync: runs when something changed, when it is time, and when it is told to."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal, Never, Protocol

import trio

from mountsync.engine.bell import Bell
from mountsync.engine.pair.opening import opened_state
from mountsync.engine.pair.options import PairOptions
from mountsync.engine.pair.overlap import ground_of, refuse_overlap
from mountsync.engine.pair.record import Done
from mountsync.engine.pair.report import Report
from mountsync.engine.pair.run import Progress
from mountsync.engine.pair.syncers import Continuous, ContinuousSyncer, OneShot, find_syncer
from mountsync.engine.pair.watching import SideWatch
from mountsync.engine.settle import wait_before_retry
from mountsync.engine.transfers import Tally, Transfers
from mountsync.errors import Busy, Halted, MountsyncError, NotFound, Unreachable, Unsupported, alone_in
from mountsync.model.entry import Entry
from mountsync.model.plan import Conflict, ConflictPolicy, Side
from mountsync.model.status import (
    ConflictStatus,
    CycleStatus,
    ProblemStatus,
    SessionState,
    Status,
)
from mountsync.paths import ROOT, RelPath
from mountsync.reconcile import Direction
from mountsync.storage.api import Storage

_KEEP: Final = {"local": ConflictPolicy.A, "remote": ConflictPolicy.B, "both": ConflictPolicy.KEEP_BOTH}
_LONGEST_GATHER: Final = 10
"""How many times the write delay a change waits, at most, for the others to come to rest."""
_MANY_HINTS: Final = 500
_RUNS_TO_REST: Final = 5
"""So many runs more a flush waits for; who writes all the time does not hold it up for ever."""
_FAILED_WAIT_S: Final = 60.0
_AWAY: Final = frozenset({SessionState.OFFLINE, SessionState.FAILED})
"""Hints wait until it is tried again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSettings:
    """One job. Times in seconds."""

    name: str
    a: str
    b: str
    options: PairOptions
    pair_id: str
    state_dir: Path
    interval: float = 60.0
    """The longest time between two whole looks where a side cannot watch, or its watcher died."""
    rescan: float = 3600.0
    """The same where both sides watch: watchers miss things."""
    write_delay: float = 1.0
    """How long a change rests before it is taken."""


class Listener(Protocol):
    """Hears what happens in a job."""

    def state(self, state: str, reason: str | None) -> None:
        """The job entered a state."""
        ...

    def change(self, done: Done) -> None:
        """Something was changed on a side just now."""
        ...

    def conflict(self, conflict: ConflictStatus) -> None:
        """A conflict was found."""
        ...

    def problem(self, problem: ProblemStatus) -> None:
        """A path failed."""
        ...

    def cycle(self, done: CycleStatus) -> None:
        """A run ended."""
        ...


class Job:
    """One job; `run` works until it is cancelled, everything else steers it or tells of it."""

    def __init__(
        self, settings: JobSettings, opener: Callable[[str], Awaitable[Storage]], listener: Listener
    ) -> None:
        """`opener` opens a remote spec."""
        self.settings = settings
        self._opener = opener
        self._listener = listener
        self._bell = Bell()
        self._hints: set[RelPath] = {ROOT}
        self._overrides: dict[RelPath, ConflictPolicy] = {}
        self._confirmed = False
        self.paused = False
        self._asked = 0
        self._answered = 0
        self._runs = 0
        self._wanted_run = 0
        """The last of the runs that somebody had asked for."""
        self._hurried = 0
        """How many wait for a run, and for what is hinted at meanwhile."""
        self._follows = False
        self._over = False
        self._changed = trio.Event()
        self._running: trio.CancelScope | None = None
        self._state = SessionState.STARTING
        self._reason: str | None = None
        self._report: Report | None = None
        self._last: CycleStatus | None = None
        self._conflicts: dict[RelPath, ConflictStatus] = {}
        self._problems: dict[RelPath, ProblemStatus] = {}
        self._entries = 0
        self._failures = 0
        self.tally = Tally()
        """What all runs moved; it goes on over them."""
        self._progress = Progress()
        self.grounds: dict[str, str] = {}
        """Where its sides lie (see `overlap.ground_of`), by their specs; empty until they were opened."""
        self._watches: list[SideWatch] = []
        self._due_at = 0.0

    # Work

    async def run(self) -> None:
        """Keeps the pair in sync. A failure is told and tried again; none ends the job."""
        try:
            while True:
                try:
                    await self._open_and_work()
                except MountsyncError as error:
                    await self._ended(error)
                except ExceptionGroup as group:
                    await self._ended(_in(group))
        finally:
            self._over = True
            self._wake()

    async def _ended(self, error: MountsyncError) -> None:
        """Returns when both sides are to be opened again."""
        if isinstance(error, Halted):
            self._enter(SessionState.HALTED_REMOTE, error.reason)
            self._answer()
            while self._state.halted:
                await self._bell.wait()
        else:
            await self._failed(error)
        self._hints.add(ROOT)

    async def _failed(self, error: MountsyncError) -> None:
        offline = isinstance(error, Unreachable)
        self._enter(SessionState.OFFLINE if offline else SessionState.FAILED, str(error))
        self._failures += 1
        self._answer()
        wait = wait_before_retry(self._failures, transient=True) if offline else _FAILED_WAIT_S
        await self._bell.wait_at_most(wait)

    async def _open_and_work(self) -> None:
        async with AsyncExitStack() as stack:
            a, b = [await self._open(spec, stack) for spec in (self.settings.a, self.settings.b)]
            refuse_overlap(a.info, b.info)
            self.grounds = {self.settings.a: ground_of(a.info), self.settings.b: ground_of(b.info)}
            self._watches = [
                SideWatch(side, name, self._hint, self._lost) for side, name in ((a, "A"), (b, "B"))
            ]
            failure: list[MountsyncError] = []
            async with trio.open_nursery() as nursery:
                for watch in self._watches:
                    nursery.start_soon(watch.run)
                for watch in self._watches:
                    await watch.ready.wait()  # else what changes between a look and the watch is missed
                try:
                    await self._work(a, b)
                except MountsyncError as error:
                    failure.append(error)
                nursery.cancel_scope.cancel()
            if failure:
                raise failure[0]

    async def _open(self, spec: str, stack: AsyncExitStack) -> Storage:
        storage = await self._opener(spec)
        stack.push_async_callback(_close, storage)
        return storage

    async def _work(self, a: Storage, b: Storage) -> None:
        one_way = self.settings.options.direction is not Direction.BOTH
        syncer = find_syncer(a.info.type, b.info.type, continuous=True, unidirectional=one_way)
        if isinstance(syncer, ContinuousSyncer):
            await self._let_follow(syncer, a, b)
        while True:
            await self._wait_until_due()
            asked, hints, self._hints = self._asked, self._hints, set()
            whole = ROOT in hints or len(hints) > _MANY_HINTS or asked > self._answered
            losses = [watch.losses for watch in self._watches]
            try:
                with trio.CancelScope() as self._running:
                    await self._run_once(a, b, None if whole else frozenset(hints))
                if self._running.cancelled_caught:
                    self._hints |= hints | {ROOT}
                    continue
            except BaseException:
                self._hints |= hints
                raise
            finally:
                self._running = None
            if whole:
                self._make_good(losses)
            self._runs += 1
            if asked > self._answered:
                self._wanted_run = self._runs
            self._answer(asked)

    def _make_good(self, losses: Iterable[int]) -> None:
        for watch, count in zip(self._watches, losses, strict=True):
            watch.make_good(count)

    async def _run_once(self, a: Storage, b: Storage, only: frozenset[RelPath] | None) -> None:
        settings = self.settings
        options = replace(settings.options, confirmed=self._confirmed)
        self._begin_progress(to_do=len(only or ()))
        self._enter(SessionState.SCANNING if only is None else SessionState.APPLYING, None)
        one_way = options.direction is not Direction.BOTH
        syncer = find_syncer(a.info.type, b.info.type, one_shot=True, unidirectional=one_way)
        with opened_state(settings.state_dir, dry_run=False) as state:
            request = OneShot(
                a, b, options, state, settings.pair_id, progress=self._progress,
                overrides=dict(self._overrides), only=only,
            )  # fmt: skip
            with self.tally.cycle():
                report = await syncer.one_shot(request)
        self._confirmed = False
        self._failures = 0
        self._note(report, only)

    async def _let_follow(self, syncer: ContinuousSyncer, a: Storage, b: Storage) -> Never:
        """A syncer that watches by itself works; a pause ends it, and afterwards it begins anew."""
        while True:
            await self._wait_until_due()
            self._hints.clear()
            self._follows = True
            self._begin_progress()
            self._enter(SessionState.SCANNING, None)
            try:
                with trio.CancelScope() as self._running:
                    await self._follow(syncer, a, b)
                if not self._running.cancelled_caught:
                    raise Unsupported(
                        "the syncer ended by itself", hint="it must go on until it is cancelled"
                    )
            finally:
                self._running = None
                self._follows = False

    async def _follow(self, syncer: ContinuousSyncer, a: Storage, b: Storage) -> None:
        settings = self.settings
        options = replace(settings.options, confirmed=self._confirmed)
        taken = self._asked

        async def wanted() -> None:
            nonlocal taken
            while self._asked == taken:
                await self._changed.wait()
            taken = self._asked

        def report(found: Report) -> None:
            self._confirmed, self._failures = False, 0
            self._make_good(watch.losses for watch in self._watches)
            self._note(found, None)
            self._answer(taken)
            if found.halt is not None and self._running is not None:
                self._running.cancel()

        with opened_state(settings.state_dir, dry_run=False) as state:
            await syncer.continuous(
                Continuous(
                    a, b, options, state, settings.pair_id, self._progress, report, wanted, self._overrides
                )
            )

    def _begin_progress(self, *, to_do: int = 0) -> None:
        bandwidth = self.settings.options.bandwidth
        self._progress = Progress(
            transfers=Transfers.limited(bandwidth, self.tally), to_do=to_do, tell=self._listener.change
        )

    # Waiting

    async def _wait_until_due(self) -> None:
        while True:
            if self._may_work() and (self._hints or self._asked > self._answered or self._is_time()):
                await self._gather()
                return
            await self._bell.wait_at_most(
                max(0.0, self._due_at - trio.current_time()) if self._may_work() else 1e9
            )

    def _is_time(self) -> bool:
        due = trio.current_time() >= self._due_at
        if due:
            self._hints.add(ROOT)
        return due

    def _may_work(self) -> bool:
        return not self.paused and (not self._state.halted or self._confirmed)

    async def _gather(self) -> None:
        """Waits until changes come to rest, unless somebody waits for the run."""
        for _ in range(_LONGEST_GATHER):
            before = len(self._hints)
            if await self._is_wanted_within(self.settings.write_delay) or len(self._hints) == before:
                return

    async def _is_wanted_within(self, seconds: float) -> bool:
        """Waits; tells whether somebody asked for a run at once."""
        end = trio.current_time() + seconds
        while (left := end - trio.current_time()) > 0:
            if ROOT in self._hints or self._asked > self._answered or self._is_hurried():
                return True
            await self._bell.wait_at_most(left)
        return False

    def _is_hurried(self) -> bool:
        """Whether a flush waits for hints; after so many runs it is answered, and changes rest again."""
        return self._hurried > 0 and self._runs < self._wanted_run + _RUNS_TO_REST

    def _hint(self, path: RelPath) -> None:
        if path not in self._hints and not self._follows:  # a syncer that follows has a watch of its own
            self._hints.add(path)
            self._bell.ring()

    def _lost(self) -> None:
        self.tally.events_lost += 1

    def _note_due(self, *, retry: bool) -> None:
        unwatched = any(not watch.can_watch or watch.trouble for watch in self._watches)
        wait = self.settings.interval if unwatched else self.settings.rescan
        if retry:
            self._failures += 1
            wait = min(wait, wait_before_retry(self._failures, transient=True))
        self._due_at = trio.current_time() + wait

    # What a run found

    def _note(self, report: Report, only: Iterable[RelPath] | None) -> None:
        before = dict(self._conflicts)
        if only is None:
            self._conflicts.clear()
            self._problems.clear()
            self._entries = max(report.entries.values())
        for path in only or ():
            self._conflicts.pop(path, None)
            self._problems.pop(path, None)
        transient = any(problem.transient for problem in report.problems.values())
        self._note_due(retry=transient)
        for conflict in report.conflicts:
            self._conflicts[conflict.path] = _conflict(conflict)
        for path, problem in report.problems.items():
            retry_at = time.time() + self._due_at - trio.current_time()
            self._problems[path] = ProblemStatus(
                path=path, reason=problem.reason, error=problem.error, retry_at=retry_at
            )
        for path in list(self._overrides):
            if path not in self._conflicts:
                del self._overrides[path]
        self._tell(report, before)

    def _tell(self, report: Report, before: dict[RelPath, ConflictStatus]) -> None:
        self._report = report
        done = {side: sum(each.side is side for each in report.done) for side in Side}
        self._last = CycleStatus(
            finished_at=time.time(),
            to_local=done[Side.A],
            to_remote=done[Side.B],
            problems=len(self._problems),
            conflicts=len(self._conflicts),
        )
        for path, conflict in self._conflicts.items():
            if before.get(path) != conflict:
                self._listener.conflict(conflict)
        self.tally.failures += len(report.problems)
        for path in report.problems:
            self._listener.problem(self._problems[path])
        self._listener.cycle(self._last)
        if report.halt is not None:
            self._enter(report.halt.state, report.halt.reason)
        elif any(problem.transient for problem in report.problems.values()):
            self._enter(SessionState.WAITING_TO_RETRY, None)
        else:
            self._enter(SessionState.SETTLED, None)

    def _enter(self, state: SessionState, reason: str | None) -> None:
        self._state, self._reason = state, reason
        self._listener.state(state.value, reason)
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _answer(self, asked: int | None = None) -> None:
        """Whoever asked for a run until now has had one."""
        self._answered = max(self._answered, self._asked if asked is None else asked)
        self._wake()

    # Steering

    async def status(self) -> Status:
        """All there is to show, from memory."""
        await trio.lowlevel.checkpoint()
        return self._status()

    def _status(self) -> Status:
        settings, progress = self.settings, self._progress
        arrow = "<->" if settings.options.direction is Direction.BOTH else "->"
        busy = self._running is not None
        return Status(
            name=settings.name,
            remote=f"{settings.name}: {settings.a} {arrow} {settings.b}",
            mountpoint=None,
            pid=os.getpid(),
            state=(SessionState.PAUSED if self.paused else self._state).value,
            reason="paused by request" if self.paused else self._said(),
            pending=(max(0, progress.to_do - progress.done) if busy else 0) + len(self._hints - {ROOT}),
            pending_bytes=sum(each.size - each.done for each in progress.transfers.snapshot()) if busy else 0,
            transfers=progress.transfers.snapshot(),
            conflicts=list(self._conflicts.values()),
            problems=list(self._problems.values()),
            cache=None,
            last_cycle=self._last,
            entries=self._entries,
            totals=progress.transfers.totals() if busy else self.tally.totals(),
        )

    def _said(self) -> str | None:
        """The reason of the state, who does not watch, and whose events were lost."""
        said = [self._reason] if self._reason else []
        said += [watch.behind for watch in self._watches if watch.behind is not None]
        troubles = [watch.trouble for watch in self._watches if watch.trouble is not None]
        said += [f"{trouble}; looking every {self.settings.interval:g} s" for trouble in troubles]
        return "; ".join(said) or None

    async def flush(self, *, timeout: float | None) -> Status:
        """A whole run now; returns when it is over, or after `timeout` seconds.

        What was hinted at meanwhile, mostly our own writes, is looked at too, in a few runs at most: what
        is pending then is really left. Raises Halted, Busy when the job ends before.
        """
        if self._state.halted:
            raise Halted(
                self._reason or "a safety stop", hint=f"mountsync resume {self.settings.name} --confirm"
            )
        self._asked += 1
        self._hurried += 1
        self._bell.ring()
        self._wake()
        try:
            with trio.move_on_after(float("inf") if timeout is None else timeout):
                await self._until_at_rest(self._asked)
        finally:
            self._hurried -= 1
        return self._status()  # with no checkpoint in between, in which more hints could come

    async def _until_at_rest(self, wanted: int) -> None:
        """Returns when the wanted run was made and all hints were followed, or cannot be now."""
        while self._answered < wanted and not self.paused:
            await self._next_change()
        last = self._runs + _RUNS_TO_REST
        while self._is_restless() and self._runs < last:
            await self._next_change()

    def _is_restless(self) -> bool:
        """Whether hints are followed now, or will be at once."""
        if self._follows or not self._may_work() or self._state in _AWAY:
            return False
        return bool(self._hints) or self._running is not None

    async def _next_change(self) -> None:
        """Raises Busy when there will be none."""
        if self._over:
            raise Busy("the job was stopped meanwhile", hint=f"mountsync start {self.settings.name}")
        await self._changed.wait()

    async def pause(self) -> None:
        """No transfers from now on; what was done of a run that is under way is kept."""
        self.paused = True
        if self._running is not None:
            self._running.cancel()
        self._enter(self._state, self._reason)
        await trio.lowlevel.checkpoint()

    async def resume(self, *, confirm: bool) -> Status:
        """Goes on. Raises Halted while a safety stop stands and `confirm` is false."""
        if self._state.halted and not confirm:
            raise Halted(self._reason or "a safety stop", hint="look at both sides, then say --confirm")
        if self._state is SessionState.HALTED_REMOTE:
            # Both sides are opened anew; whether what is found may be followed is another question.
            self._enter(SessionState.STARTING, None)
        self._confirmed = self._state.halted
        self.paused = False
        self._hints.add(ROOT)
        self._bell.ring()
        return await self.status()

    async def conflicts(self) -> list[ConflictStatus]:
        """What waits for a hand."""
        await trio.lowlevel.checkpoint()
        return list(self._conflicts.values())

    async def resolve(self, path: str, *, keep: Literal["local", "remote", "both"]) -> None:
        """Settles one conflict: `local` is side A, `remote` side B. Raises NotFound when there is none."""
        place = RelPath(path)
        if place not in self._conflicts:
            raise NotFound("there is no conflict", path=path, hint="see `mountsync conflicts`")
        self._overrides[place] = _KEEP[keep]
        await self.flush(timeout=None)


def _in(group: ExceptionGroup[Exception]) -> MountsyncError:
    """The first error of a group, if all of them are ours; else raises the group: it is a bug."""
    error = alone_in(group)
    if not isinstance(error, MountsyncError) or group.split(MountsyncError)[1] is not None:
        raise group
    return error


async def _close(storage: Storage) -> None:
    with trio.CancelScope(shield=True):
        await storage.aclose()


def _conflict(conflict: Conflict) -> ConflictStatus:
    def facts(entry: Entry | None) -> tuple[int | None, int | None]:
        return (None, None) if entry is None else (entry.size, entry.mtime_ns)

    (a_size, a_time), (b_size, b_time) = facts(conflict.a), facts(conflict.b)
    return ConflictStatus(
        path=conflict.path,
        reason=conflict.reason,
        local_size=a_size,
        local_mtime_ns=a_time,
        remote_size=b_size,
        remote_mtime_ns=b_time,
    )
