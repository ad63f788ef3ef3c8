"""A mount kept in step with its remote: when to look, when to send, and what to do when it is away."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
import trio

from mountsync.engine.bell import Bell
from mountsync.engine.bugs import note_bug
from mountsync.engine.condition import Condition
from mountsync.engine.cycle import Outcome
from mountsync.engine.dispatch import Dispatcher
from mountsync.engine.follow import count_deleted, remote_moves, without
from mountsync.engine.ledger import Observation
from mountsync.engine.observe import Look, Observer, Seen
from mountsync.engine.storage_replica import StorageReplica
from mountsync.errors import (
    AccessRefused,
    Halted,
    MountsyncError,
    NotADirectory,
    NotFound,
    PathError,
    PermissionDenied,
    Unreachable,
)
from mountsync.model.entry import Entry, Kind
from mountsync.model.plan import Conflict, Resolved
from mountsync.model.status import CycleStatus, SessionState
from mountsync.paths import ROOT, RelPath, ancestors, order_key, to_bytes
from mountsync.reconcile import DeleteLimit
from mountsync.state.base import Base, BaseRow
from mountsync.state.journal import Journal
from mountsync.storage.api import Storage, SupportsWatch

_log = structlog.get_logger(__name__)

_PROBE_S: Final = (1.0, 30.0)
"""Shortest and longest wait between two attempts to reach a remote that is away."""
_PROBE_PATIENCE_S: Final = 20.0
_BATCH: Final = 100
"""Observed paths in one cycle."""
_OVERTAKEN_REST_S: Final = 2.0
_TURNS: Final = 20
"""How often an observation waits for cycles that work on the same places."""
_BUG_REST_S: Final = 30.0
"""After an error that should not exist, the same is not tried again for so long."""
_HINTS_REST_S: Final = 0.05
"""Hints are gathered for so long before they are looked into."""
_HINTS_BUSY_S: Final = 1.0
"""The same while we upload: most hints are then about our own writes, and one listing answers many."""


class Audience(Protocol):
    """Hears what happens, for people and logs."""

    def conflict(self, conflict: Conflict) -> None:
        """A conflict waits for a hand."""
        ...

    def resolved(self, resolved: Resolved) -> None:
        """A conflict was settled by the policy."""
        ...

    def failed(self, path: RelPath, error: MountsyncError) -> None:
        """A path could not be read or changed."""
        ...

    def cycle(self, done: CycleStatus) -> None:
        """A cycle that did or met something ended."""
        ...


@dataclass(frozen=True, slots=True)
class Intervals:
    """In seconds. `poll` 0: the remote is looked at only when asked or hinted."""

    poll: float
    watch: bool = True


class Session:
    """Both directions of one mount. `run` holds all its tasks."""

    def __init__(
        self,
        base: Base,
        journal: Journal,
        remote: StorageReplica,
        observer: Observer,
        condition: Condition,
        audience: Audience,
        *,
        delete_limit: DeleteLimit,
        intervals: Intervals,
        clock: Callable[[], int],
        opener: Callable[[], Awaitable[Storage]] | None = None,
    ) -> None:
        """`opener` opens the remote, when it is an AwayStorage now."""
        self._opener = opener
        self._watch_bell = Bell()
        self._base = base
        self._journal = journal
        self._remote = remote
        self._observer = observer
        self.condition = condition
        self._audience = audience
        self._limit = delete_limit
        self._intervals = intervals
        self._clock = clock
        self._scan_bell = Bell()
        self._probe_bell = Bell()
        self._scanning = trio.Lock()
        self._hints: set[RelPath] = set()
        self._hint_bell = Bell()
        self._overtaken: set[RelPath] = set()
        self._overtaken_bell = Bell()
        self._looking = 0
        self.confirmed = False
        """A person said that mass deletes are meant: valid for the next scan."""
        self.conflicts: dict[RelPath, Conflict] = {}
        self.problems: dict[RelPath, MountsyncError] = {}
        self._unseen: dict[RelPath, MountsyncError] = {}
        """Those of them that the last look at the whole remote met."""
        self.last_cycle: CycleStatus | None = None
        self.watching: str | None = None
        """Why changes of the remote are not heard at once, None while they are."""
        self.events_lost = 0
        """How often the remote changed faster than its watcher could tell."""
        self._made_good = 0
        self.dispatcher: Dispatcher

    async def run(self, dispatcher: Dispatcher) -> None:
        """Everything that goes on by itself; until cancelled."""
        self.dispatcher = dispatcher
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._connect)
            nursery.start_soon(self._poll)
            nursery.start_soon(self._look_into_hints)
            nursery.start_soon(self._look_at_overtaken)
            nursery.start_soon(dispatcher.run)
            if self._intervals.watch:
                nursery.start_soon(self._watch)

    # What happens to the connection

    def lost(self, error: MountsyncError) -> None:
        """The remote did not answer: offline until a probe succeeds; or it halted: until a person acts."""
        if isinstance(error, Halted):
            self._halt_remote(error)
        elif self.condition.offline is None and self.condition.halted is None:
            _log.warning("the remote is out of reach", reason=str(error), retry_every_s=_PROBE_S)
            self.condition.offline = error
            self.condition.changed()
            self._probe_bell.ring()

    async def reach(self) -> None:
        """Makes sure that the remote can be reached. Raises Unreachable or Halted when it cannot."""
        if self._is_away() and not await self._probe():
            self.condition.refuse_if_halted()
            error = self.condition.offline
            if error is not None:
                raise Unreachable(error.reason, hint=error.hint)

    @property
    def has_hints(self) -> bool:
        """Whether something that may have changed was not looked at yet."""
        return bool(self._hints) or self._looking > 0

    def probe_now(self) -> None:
        """Tries to reach the remote at once instead of after the usual wait."""
        self._probe_bell.ring()

    async def _connect(self) -> None:
        """Looks at the root before anything else, and whenever the remote is away."""
        wait = _PROBE_S[0]
        while True:
            await self.condition.until(lambda: not self.condition.paused and self._is_away())
            if await self._probe():
                wait = _PROBE_S[0]
                continue
            await self._probe_bell.wait_at_most(wait * random.uniform(0.7, 1.0))  # noqa: S311 - spreads probes
            wait = min(2 * wait, _PROBE_S[1])

    def _is_away(self) -> bool:
        condition = self.condition
        return condition.offline is not None or (not condition.looked and condition.halted is None)

    async def _probe(self) -> bool:
        try:
            with trio.fail_after(_PROBE_PATIENCE_S):
                await self._reopen()
                entries = await self._root_entries()
        except trio.TooSlowError:
            self._stay_away(Unreachable("the remote did not answer in time"))
            return False
        except Halted as error:
            self._halt_remote(error)
            return False
        except MountsyncError as error:
            self._stay_away(error)
            return False
        except Exception as error:  # noqa: BLE001 - a bug in a storage must not end the mount
            self._stay_away(Unreachable(note_bug(error)))
            return False
        if not entries and self._looks_emptied():
            self._halt_emptied()
            return False
        self._back()
        return True

    async def _reopen(self) -> None:
        """Opens the remote, when that could not be done at the start."""
        if self._opener is not None:
            self._remote.replace(await self._opener())
            self._opener = None
            self._watch_bell.ring()

    def _looks_emptied(self) -> bool:
        """Whether more than one thing that the remote held is still shown here."""
        implied = None if self._remote.info.empty_directories else Kind.DIRECTORY
        return not self.confirmed and self._base.count_shown(without=implied) > 1

    async def _root_entries(self) -> int:
        """How much is in the root; 1 where the remote answers and refuses to say it: a scan tells of that."""
        try:
            return await self._count_root()
        except PathError as error:
            if error.transient or isinstance(error, NotFound | NotADirectory | PermissionDenied):
                raise
            return 1

    async def _count_root(self) -> int:
        count = 0
        async with self._remote.storage.list(ROOT, recursive=False) as batches:
            async for batch in batches:
                count += len(self._remote.shown(batch))
        return count

    def _stay_away(self, error: MountsyncError) -> None:
        unreadable = isinstance(error, NotFound | AccessRefused)
        reason = f"the root of the remote cannot be read: {error.reason}" if unreadable else error.reason
        self.condition.offline = Unreachable(reason, hint=error.hint)
        self.condition.missing = isinstance(error, NotFound)
        self.condition.changed()
        if isinstance(error, AccessRefused) and ROOT not in self.problems:
            self._fail(ROOT, error)  # being out of reach passes by itself; this needs a person

    def _back(self) -> None:
        was_away = self.condition.offline is not None
        self.condition.offline = None
        self.condition.missing = False
        self.condition.looked = True
        if was_away:
            _log.info("the remote is back")
            self._journal.hurry()
        self.condition.changed()
        self._scan_bell.ring()

    def _halt_emptied(self) -> None:
        count = self._base.count()
        self._halt(
            SessionState.HALTED_EMPTIED, f"the remote is empty now but held {count} entries at the last look"
        )

    def refuse_deletes_here(self, count: int) -> None:
        """More was deleted in the mount than the user allowed for one cycle."""
        self._halt(SessionState.HALTED_DELETES, f"{count} entries were deleted here, more than --max-delete")

    def _halt_remote(self, error: Halted) -> None:
        """The storage says that it is not the one that it was; our own safety stops stand already."""
        if self.condition.halted is None:
            self._halt(SessionState.HALTED_REMOTE, error.reason)

    @contextmanager
    def _halting(self) -> Iterator[None]:
        """A Halted that passes through and comes from the storage halts this session too."""
        try:
            yield
        except Halted as error:
            self._halt_remote(error)
            raise

    def _halt(self, state: SessionState, reason: str) -> None:
        _log.error("halted", reason=reason)
        self.condition.halted = (state, reason)
        self.condition.offline = None
        self.condition.changed()

    # From the remote

    async def scan(self) -> bool:
        """Looks at the whole remote now and applies what changed; tells whether there was anything.

        Raises Unreachable or Halted.
        """
        async with self._scanning:
            losses = self.events_lost
            self.condition.refuse_if_halted()
            self.condition.scanning += 1
            self.condition.changed()
            try:
                with self._halting(), self._observer.looking() as observation:
                    look = await self._observer.scan(observation)
                    self._forget_gone()
                    if not look.entries and not look.problems and self._looks_emptied():
                        self._halt_emptied()
                        self.condition.refuse_if_halted()
                    changed = bool(look.changed)
                    await self._take(look, observation)
                self._note_problems(look)
                self._made_good = losses
                self.confirmed = False
                return changed
            finally:
                self.condition.scanning -= 1
                self.condition.changed()

    def _forget_gone(self) -> None:
        """A problem of a path at which nothing is any more goes; what is still there is met again."""
        for path in self.problems.keys() - self._unseen.keys() - {ROOT}:
            if self._observer.is_unknown(path):
                del self.problems[path]

    def _note_problems(self, look: Look) -> None:
        """What this look could not see; what an earlier one could not see and this one could is forgotten."""
        before, self._unseen = self._unseen, {}
        for path, problem in look.problems.items():
            known = before.pop(path, None)
            if known is not None and known.reason == problem.reason:
                self._unseen[path] = self.problems[path] = known
            else:
                self._unseen[path] = MountsyncError(problem.reason, path=path)
                self._fail(path, self._unseen[path])
        for path, error in before.items():
            if self.problems.get(path) is error:
                del self.problems[path]
        if ROOT not in look.problems and self.problems.pop(ROOT, None) is not None:
            self._journal.hurry()  # what failed with the whole need not wait any more
            self.dispatcher.ring()

    async def _take(self, look: Look, observation: Observation) -> None:
        if look.void:
            self._look_later(look.void)
        self._observer.adopt_implied(look)
        if not look.changed:
            return
        moves = remote_moves(look, self._base, self._row, stable_tokens=self._remote.info.stable_tokens)
        self._refuse_mass_delete(count_deleted(look, self._base, self._row, moves))
        await self._make_way(look, moves, observation)
        explained = without(look, moves)
        while moves:
            seen = {path: look.changed[path] for path in explained}
            seen.update((target, look.below_new[target]) for _, target in moves if target not in seen)
            unfollowed = await self._apply(seen, moves, observation)
            left = [move for move in moves if move[0] not in unfollowed]
            if len(left) == len(moves):
                break
            moves = left
            explained = without(look, moves)
        rest = [path for path in look.changed if path not in explained]
        for first in range(0, len(rest), _BATCH):
            batch = {path: look.changed[path] for path in rest[first : first + _BATCH]}
            await self._apply(batch, [], observation)

    async def _make_way(
        self, look: Look, moves: list[tuple[RelPath, RelPath]], observation: Observation
    ) -> None:
        """Shows the new directories into which something was renamed, from the top."""
        needed = {up for _, target in moves if target not in look.changed for up in ancestors(target)}
        known: dict[RelPath, Entry] = {**look.below_new, **{p: e for p, e in look.changed.items() if e}}
        for folder in sorted(needed & known.keys(), key=order_key):
            await self._apply({folder: known[folder]}, [], observation)

    def _row(self, path: RelPath) -> BaseRow | None:
        return self._base.resolve(to_bytes(path))

    def _refuse_mass_delete(self, count: int) -> None:
        total = self._base.count()
        if not self.confirmed and self._limit.exceeded(count, total):
            self._halt(SessionState.HALTED_DELETES, f"{count} of {total} entries are gone from the remote")
            self.condition.refuse_if_halted()

    async def _apply(
        self, seen: Seen, moves: list[tuple[RelPath, RelPath]], first: Observation
    ) -> frozenset[RelPath]:
        """One cycle; waits its turn while others work on the same places, then looks again.

        What was seen is void once a cycle was there: earlier parts of the same look may have taken long.
        Gives the directories whose renames cannot be followed as a whole: then nothing was done.
        """
        observation = first
        for attempts in range(1, _TURNS + 1):
            if not seen:
                return frozenset()
            if self._observer.still(seen, observation):
                outcome = await self.dispatcher.observe(seen, moves)
                if outcome is not None:
                    return outcome.unfollowed
            await trio.sleep(0.05 * attempts)
            with self._observer.looking() as observation:
                fresh = await self._observer.look_at(seen, observation)
            self._look_later(fresh.void)
            moves = [move for move in moves if all(path in fresh.changed for path in move)]
            seen = fresh.changed
        self.hint(seen.keys() | set())  # others go first
        return frozenset()

    async def _follow_hints(self, paths: set[RelPath]) -> None:
        with self._halting(), self._observer.looking() as observation:
            look = await self._observer.look_at(paths, observation)
            if any(entry is None and self._is_doubtful(path) for path, entry in look.changed.items()):
                self.scan_soon()  # it may have been renamed there: only a look at everything can tell
            else:
                await self._take(look, observation)

    def _is_doubtful(self, path: RelPath) -> bool:
        """Whether something that vanished there has changes here, which are to follow it."""
        row = self._row(path)
        if row is None or row.remote.kind is not Kind.DIRECTORY:
            return row is not None and self._journal.has(row.node)
        return self._journal.count() > 0

    async def look_at(self, paths: set[RelPath]) -> None:
        """Looks at single paths and applies what changed. Raises Unreachable or Halted."""
        with self._halting(), self._observer.looking() as observation:
            look = await self._observer.look_at(paths, observation)
            await self._take(look, observation)

    async def _poll(self) -> None:
        while True:
            await self.condition.until(lambda: self.condition.may_work)
            await self._guarded_scan()
            poll = self._intervals.poll
            await self._scan_bell.wait_at_most(poll if poll > 0 else float("inf"))

    async def _guarded_scan(self) -> None:
        try:
            await self.scan()
        except Halted:
            return
        except Unreachable as error:
            self.lost(error)
        except MountsyncError as error:
            _log.error(
                "the remote could not be listed", reason=str(error), retry_within_s=self._intervals.poll
            )
            self._fail(ROOT, error)
        except Exception as error:  # noqa: BLE001 - a bug about some path must not end the mount
            await self._met_bug(error)

    async def _met_bug(self, error: Exception) -> None:
        """Logs it, shows it as a problem of the whole, and rests."""
        self._fail(ROOT, MountsyncError(note_bug(error)))
        await trio.sleep(_BUG_REST_S)

    @property
    def deaf(self) -> str | None:
        """Why changes of the remote may not be known yet, None when there is nothing to say."""
        if self.watching is None and self.events_lost > self._made_good:
            return "the remote changed too fast and events were lost; looking at everything"
        return self.watching

    def scan_soon(self) -> None:
        """Looks at the whole remote soon."""
        self._scan_bell.ring()

    async def _watch(self) -> None:
        wait = 1.0
        while True:
            await self.condition.until(lambda: self.condition.may_work)
            if not isinstance(self._remote.storage, SupportsWatch):
                await self._watch_bell.wait()
                continue
            try:
                with self._halting():
                    await self._listen()
            except MountsyncError as error:
                self.watching = str(error)
                _log.warning(
                    "changes of the remote are not heard at once", reason=str(error), retry_in_s=wait
                )
            except Exception as error:  # noqa: BLE001 - the remote is looked at without a watcher too
                self.watching = note_bug(error)
            self.condition.changed()
            self.scan_soon()  # what happened meanwhile was not heard
            await trio.sleep(wait)
            wait = min(2 * wait, 60.0)

    async def _listen(self) -> None:
        assert isinstance(self._remote.storage, SupportsWatch)
        async with self._remote.storage.watch() as hints:
            self.watching = None
            self.scan_soon()
            async for paths in hints:
                self.events_lost += ROOT in paths
                self.hint(paths)

    def hint(self, paths: frozenset[RelPath] | set[RelPath]) -> None:
        """These paths of the remote may have changed; ROOT stands for everything."""
        if ROOT in paths:
            self.scan_soon()
        self._hints.update(path for path in paths if path and not self._remote.hides(path))
        if self._hints:
            self._hint_bell.ring()

    async def _look_into_hints(self) -> None:
        while True:
            await self._hint_bell.wait()
            await trio.sleep(_HINTS_BUSY_S if self.condition.cycles else _HINTS_REST_S)
            await self.condition.until(lambda: self.condition.may_work)
            paths, self._hints = self._hints, set()
            self._looking += 1
            try:
                await self._follow_hints(paths)
            except Halted:
                continue
            except Unreachable as error:
                self.lost(error)
            except MountsyncError as error:
                _log.warning("a hint could not be followed", reason=str(error))
                self.scan_soon()
            except Exception as error:  # noqa: BLE001 - a bug about some path must not end the mount
                self._looking -= 1
                await self._met_bug(error)
                self._looking += 1
                self.scan_soon()
            finally:
                self._looking -= 1
                self.condition.changed()

    def _look_later(self, paths: set[RelPath]) -> None:
        if paths:
            self._overtaken |= paths
            self._overtaken_bell.ring()

    async def _look_at_overtaken(self) -> None:
        """What changed here while the remote's change was to be applied; not at once, or it would spin."""
        while True:
            await self._overtaken_bell.wait()
            await trio.sleep(_OVERTAKEN_REST_S)
            paths, self._overtaken = self._overtaken, set()
            self.hint(paths)

    # What cycles report

    def report(self, outcome: Outcome) -> None:
        """Takes in what a cycle did."""
        for path in outcome.looked_at:
            self.conflicts.pop(path, None)
            self.problems.pop(path, None)
        for failure in outcome.failures:
            if isinstance(failure.error, Unreachable | Halted):
                self.lost(failure.error)
            elif not outcome.is_quiet(failure):
                self._fail(failure.path, failure.error)
        for conflict in outcome.conflicts:
            self.conflicts[conflict.path] = conflict
            self._audience.conflict(conflict)
        for resolved in outcome.resolved:
            self._audience.resolved(resolved)
        if outcome.is_doubtful:
            self.scan_soon()
        if outcome.stale:
            self.hint(outcome.stale)
        if outcome.overtaken:
            self._look_later(outcome.overtaken)
        self._count(outcome)

    def _fail(self, path: RelPath, error: MountsyncError) -> None:
        self.problems[path] = error
        self._audience.failed(path, error)
        if not path:
            self.condition.changed()  # with a problem of the whole nothing is settled

    def _count(self, outcome: Outcome) -> None:
        if not (outcome.to_local or outcome.to_remote or outcome.failures or outcome.conflicts):
            return
        self.last_cycle = CycleStatus(
            finished_at=self._clock() / 1e9,
            to_local=outcome.to_local,
            to_remote=outcome.to_remote,
            problems=len(outcome.failures),
            conflicts=len(outcome.conflicts),
        )
        self._audience.cycle(self.last_cycle)
