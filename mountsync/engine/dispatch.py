"""Turns due journal rows and observations into cycles that run side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from mountsync.engine.apply import LARGE
from mountsync.engine.bell import Bell
from mountsync.engine.bugs import note_bug
from mountsync.engine.condition import Condition
from mountsync.engine.courtesy import Courtesy
from mountsync.engine.cycle import MountCycles, Outcome
from mountsync.engine.ledger import Claim, Ledger
from mountsync.engine.observe import Seen
from mountsync.engine.repeats import Repeats
from mountsync.engine.scope import Place, Scope, ScopeBuilder
from mountsync.engine.settle import Failure, wait_before_retry
from mountsync.engine.traces import Traces
from mountsync.errors import MountsyncError, PathError
from mountsync.model.entry import Kind
from mountsync.model.side import Side
from mountsync.paths import ROOT, RelPath, from_bytes
from mountsync.state.journal import JournalRow
from mountsync.state.tree import ROOT_ID, NodeId
from mountsync.vfs.volume import Volume

_BATCH: Final = 128
"""Small changes in one cycle: many enough to share a barrier, few enough to plan in a millisecond or so."""
_PAGE: Final = 512
"""Journal rows that are read at once."""
_CYCLES: Final = 3
"""Cycles of small changes that run at once: one transfers while another waits for its barrier."""
_RESTLESS_NS: Final = 60_000_000_000
"""A file that is written all the time is uploaded this long after its first change."""
_NEVER_NS: Final = 1 << 62
_LOOK_AGAIN_NS: Final = 1_000_000_000
_STUCK: Final = "it was removed here, but something in it is not, and nothing is tried any more"
_STALE_LIMIT: Final = 3
"""After so many attempts that met a moving file, a copy of it is uploaded."""


@dataclass(frozen=True, slots=True)
class Delays:
    """When a change is due, in ns."""

    write_ns: int
    restless_ns: int = _RESTLESS_NS


def _nobody(_count: int) -> None:
    """Nobody set a limit."""


class _Free:
    """Which nodes no running cycle stands in the way of, at one moment."""

    def __init__(self, volume: Volume, ledger: Ledger) -> None:
        self._tree = volume.tree
        self._base = volume.base
        self._ledger = ledger
        self._folders: dict[NodeId, bool] = {ROOT_ID: True}

    def is_node_free(self, node: NodeId) -> bool:
        """Whether a cycle could be about this node now, and its turn has come."""
        if self._ledger.is_changing(node):
            return False
        if self.is_to_be_emptied(node):
            return False
        places = {(row.parent, row.name) for row in self._base.of_node(node)}.union(self._tree.names(node))
        return not self._ledger.is_shifting(node) and all(map(self._is_place_free, places))

    def is_to_be_emptied(self, node: NodeId) -> bool:
        """Whether it is a removed directory: what was in it goes first."""
        agreed = self._base.of_node(node)
        if not agreed or agreed[0].remote.kind is not Kind.DIRECTORY:
            return False
        return not self._tree.names(node) and self._base.has_children(node)

    def _is_place_free(self, place: Place) -> bool:
        return not self._ledger.is_claimed(place) and self._is_folder_free(place[0])

    def _is_folder_free(self, folder: NodeId) -> bool:
        known = self._folders.get(folder)
        if known is None:
            above = self._tree.names(folder) or [(r.parent, r.name) for r in self._base.of_node(folder)]
            known = not self._ledger.is_shifting(folder) and all(map(self._is_place_free, above))
            self._folders[folder] = known
        return known


class Dispatcher:
    """Runs cycles in `nursery`; `report` hears of every outcome."""

    def __init__(
        self,
        volume: Volume,
        cycles: MountCycles,
        ledger: Ledger,
        condition: Condition,
        make_builder: Callable[[], ScopeBuilder],
        nursery: trio.Nursery,
        report: Callable[[Outcome], None],
        traces: Traces,
        *,
        delays: Delays,
        transfers: int,
        max_delete: int | None = None,
        refuse_deletes: Callable[[int], None] = _nobody,
    ) -> None:
        """`refuse_deletes` hears of it when more than `max_delete` entries were deleted here at once."""
        self._volume = volume
        self._cycles = cycles
        self._ledger = ledger
        self._condition = condition
        self._make_builder = make_builder
        self._nursery = nursery
        self._report = report
        self._traces = traces
        self._delays = delays
        self._bell = Bell()
        self._courtesy = Courtesy(volume.traffic)
        self._room = {False: _CYCLES, True: transfers}
        self._moving: Counter[NodeId] = Counter()
        self._repeats = Repeats(volume.database, volume.journal, volume.clock)
        self._suspects: set[NodeId] = set()
        """Nodes that were in a cycle that one of them kept from doing anything: each is tried alone."""
        self._wakes_ns = _NEVER_NS
        self._max_delete = max_delete
        self._refuse_deletes = refuse_deletes
        self._allowed = 0
        """Deletes up to this version of the journal were confirmed."""
        self.hurried = 0
        """How many people wait: then what changed is due at once."""
        volume.journal.on_note = self._noted
        ledger.on_release = self._bell.ring

    def ring(self) -> None:
        """Looks for due rows soon."""
        self._bell.ring()

    def _noted(self) -> None:
        """A change was noted: whoever sleeps longer than it has to rest is woken."""
        if self._wakes_ns > self._volume.clock() + self._delay_ns:
            self._wakes_ns = 0
            self._bell.ring()

    async def run(self) -> None:
        """Starts cycles as rows become due; for ever."""
        while True:
            await self._condition.until(lambda: self._condition.may_work)
            if self._traces.are_unknown:
                await self._settle_unknown()
            elif not self._deletes_too_much():
                at_rest = self.hurried > 0 or await self._courtesy.wait()
                self._start_due(_CYCLES if at_rest else 1)
                if self._ledger.is_idle:
                    self._let_folders_wait()
                await self._wait()

    async def _settle_unknown(self) -> None:
        """Nothing is begun while it is not known what became of something begun earlier."""
        try:
            await self._traces.settle()
        except MountsyncError as error:
            self._report(Outcome(failures=[Failure(Side.B, ROOT, error)]))

    def _deletes_too_much(self) -> bool:
        if self._max_delete is None:
            return False
        count = self._volume.journal.deletes(self._allowed)
        if count > self._max_delete:
            self._refuse_deletes(count)
        return count > self._max_delete

    def allow_deletes(self) -> None:
        """A person said that what was deleted here until now is meant."""
        self._allowed = self._volume.journal.newest

    async def _wait(self) -> None:
        journal, now = self._volume.journal, self._volume.clock()
        if self._due(now, 1):
            # It is being worked on by others, or in their way; they ring when they are done. A long
            # journal is not gone through for that.
            self._wakes_ns = now + _LOOK_AGAIN_NS
        else:
            due = journal.next_due_ns(self._delay_ns, self._delays.restless_ns)
            self._wakes_ns = _NEVER_NS if due is None else max(due, now)
        if self._wakes_ns == _NEVER_NS:
            await self._bell.wait()
        else:
            await self._bell.wait_at_most((self._wakes_ns - now) / 1e9)

    def _let_folders_wait(self) -> None:
        """Nothing runs: a removed directory whose turn has not come waits as long as what is in it.

        When nothing in it is pending, its turn never comes. That should not be, so it is told.
        """
        journal, now = self._volume.journal, self._volume.clock()
        free = _Free(self._volume, self._ledger)
        for row in self._due(now, _PAGE):
            until = journal.below_waits_until(row.node) if free.is_to_be_emptied(row.node) else now
            if until is None:
                self._tell_stuck(row, now)
            elif until > now:
                with self._volume.database.transaction:
                    journal.rest(row.node, row.version, min(until, now + _RESTLESS_NS))

    def _tell_stuck(self, row: JournalRow, now: int) -> None:
        agreed = self._volume.base.of_node(row.node)[0]
        raw = self._volume.base.path(agreed.parent, agreed.name)
        error = PathError(_STUCK, hint="mount it again: each start looks for such")
        wait = wait_before_retry(row.attempts, transient=False)
        with self._volume.database.transaction:
            self._volume.journal.postpone(row.node, row.version, now + int(wait * 1e9), str(error))
        self._report(Outcome(failures=[Failure(Side.B, ROOT if raw is None else from_bytes(raw), error)]))

    def _due(self, now: int, limit: int, after: JournalRow | None = None) -> list[JournalRow]:
        journal, delays = self._volume.journal, self._delays
        return journal.due(now - self._delay_ns, now - delays.restless_ns, now, limit, after)

    @property
    def _delay_ns(self) -> int:
        return 0 if self.hurried else self._delays.write_ns

    def _start_due(self, most: int) -> None:
        """Starts what is due; small changes in cycles so that no more than `most` of them run."""
        now = self._volume.clock()
        ready = self._ready_rows(now)
        alone = [row for row in ready if row.node in self._suspects]
        rest = [row for row in ready if row.node not in self._suspects]
        small = [row for row in rest if self._size(row) <= LARGE]
        for first in range(0, len(small), _BATCH):
            if _CYCLES - self._room[False] >= most:
                break
            self._start(small[first : first + _BATCH], large=False)
        for row in alone:
            self._start([row], large=self._size(row) > LARGE)
        for row in rest:
            if self._size(row) > LARGE and not self._waits_for_folder(row.node):
                self._start([row], large=True)

    def _ready_rows(self, now: int) -> list[JournalRow]:
        """Due rows that nothing stands in the way of, oldest first."""
        wanted = max(self._room[False], 0) * _BATCH + max(self._room[True], 0)
        ready: list[JournalRow] = []
        last: JournalRow | None = None
        free = _Free(self._volume, self._ledger)
        examined = 0
        # While cycles run, their end brings us here again: no need to go through a long journal now.
        while len(ready) < wanted and (examined < _PAGE or self._ledger.is_idle):
            rows = self._due(now, _PAGE, last)
            ready += [row for row in rows if free.is_node_free(row.node) and self._is_ready(row, now)]
            examined += len(rows)
            if len(rows) < _PAGE:
                break
            last = rows[-1]
        return ready[:wanted]

    def _size(self, row: JournalRow) -> int:
        node = self._volume.tree.find(row.node)
        return node.size if node is not None and node.is_file else 0

    def _waits_for_folder(self, node: NodeId) -> bool:
        """Whether a directory above has changes of its own: those go first, in a cycle that is soon over."""
        above = self._volume.tree.names(node)
        while above and above[0][0] != ROOT_ID:
            folder = above[0][0]
            row = self._volume.journal.find(folder)
            if row is not None and row.problem is None:
                self._start([row], large=False)
                return True
            above = self._volume.tree.names(folder)
        return False

    def _is_ready(self, row: JournalRow, now: int) -> bool:
        busy = not row.ready or self._volume.is_busy(row.node) or self._volume.is_being_written(row.node)
        if not busy:
            return True
        if now - row.since_ns < self._delays.restless_ns and not self.hurried:
            return False
        if self._volume.tree.find(row.node) is not None:
            self._volume.quiesce(row.node)
        return True

    def _start(self, rows: Sequence[JournalRow], *, large: bool) -> None:
        if self._room[large] <= 0:
            return
        try:
            taken = self._take(rows)
        except Exception as error:  # noqa: BLE001 - a bug about these files must not end the mount
            self._met_bug(rows, error)
            return
        if taken is not None:
            self._room[large] -= 1
            self._nursery.start_soon(self._run_claimed, *taken, rows, large)
        elif len(rows) > 1:
            # One of them is in another's way; the others need not wait.
            middle = len(rows) // 2
            self._start(rows[:middle], large=large)
            self._start(rows[middle:], large=large)

    def _take(self, rows: Sequence[JournalRow]) -> tuple[Scope, Claim] | None:
        """The scope of these rows, claimed and looked at in one step; None when another is in the way."""
        nodes = [row.node for row in rows]
        return self._claim(lambda builder: builder.add_nodes(nodes), rested=frozenset(nodes))

    def _claim(
        self, gather: Callable[[ScopeBuilder], None], rested: Collection[NodeId] = ()
    ) -> tuple[Scope, Claim] | None:
        builder = self._make_builder()
        gather(builder)
        written = self._save_open(builder, rested)
        if written:  # they have rows in the journal now, which belong to the scope
            builder = self._make_builder()
            gather(builder)
        claim = self._ledger.claim(builder.places, builder.folders, builder.shifted, builder.nodes)
        if claim is None:
            return None
        try:
            scope = builder.build()
        except BaseException:
            self._ledger.release(claim)
            raise
        scope.unrested = written
        return scope, claim

    def _save_open(self, builder: ScopeBuilder, rested: Collection[NodeId]) -> frozenset[NodeId]:
        """What programs wrote and did not close yet counts as changed, or the remote's change would win.

        Of those in `rested` that is done, and they may travel.
        """
        volume = self._volume
        here = (node for node in builder.nodes_here() if node not in rested)
        written = frozenset(node for node in here if volume.is_being_written(node))
        for node in written:
            volume.quiesce(node)
        return written

    async def _run_claimed(self, scope: Scope, claim: Claim, rows: Sequence[JournalRow], large: bool) -> None:
        try:
            outcome = await self._run(scope, claim, nodes=[row.node for row in rows])
            if outcome.blocked:
                self._suspects.update(row.node for row in rows)
            else:
                self._suspects.difference_update(row.node for row in rows)
        except Exception as error:  # noqa: BLE001 - a bug about these files must not end the mount
            self._met_bug(rows, error)
        finally:
            self._room[large] += 1
            self._bell.ring()

    def _met_bug(self, rows: Sequence[JournalRow], error: Exception) -> None:
        """Logs it and lets the rows wait, each to be tried alone from now on."""
        problem = note_bug(error)
        now = self._volume.clock()
        self._suspects.update(row.node for row in rows)
        with self._volume.database.transaction:
            for row in rows:
                # A single row waits by itself; one of many may only have been in bad company.
                wait = wait_before_retry(row.attempts + 3, transient=True) if len(rows) == 1 else 1.0
                self._volume.journal.postpone(row.node, row.version, now + int(wait * 1e9), problem)

    async def observe(self, seen: Seen, moves: Iterable[tuple[RelPath, RelPath]]) -> Outcome | None:
        """A cycle about what was seen on the remote; None when another cycle is, or was, in the way."""
        if self._traces.are_unknown:
            return None
        found = tuple(moves)
        taken = self._claim(lambda builder: builder.observe(seen, found))
        return None if taken is None else await self._run(*taken, nodes=())

    async def _run(self, scope: Scope, claim: Claim, *, nodes: Iterable[NodeId]) -> Outcome:
        restless = frozenset(node for node in nodes if self._moving[node] >= _STALE_LIMIT)
        self._condition.cycles += 1
        self._condition.changed()
        try:
            outcome = await self._cycles.run(scope, restless=restless)
        finally:
            self._ledger.release(claim)
            self._condition.cycles -= 1
            self._condition.changed()
        self._count_moving(nodes, outcome)
        self._repeats.note(scope, outcome)
        self._report(outcome)
        return outcome

    def _count_moving(self, nodes: Iterable[NodeId], outcome: Outcome) -> None:
        moved_on = bool(outcome.stale)
        for node in nodes:
            if moved_on and self._volume.journal.has(node):
                self._moving[node] += 1
            else:
                del self._moving[node]
