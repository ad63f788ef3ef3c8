"""Turns due journal rows and observations into cycles that run side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import trio

from mountsync.engine.apply import LARGE
from mountsync.engine.bell import Bell
from mountsync.engine.condition import Condition
from mountsync.engine.cycle import MountCycles, Outcome
from mountsync.engine.ledger import Claim, Ledger
from mountsync.engine.observe import Seen
from mountsync.engine.scope import ScopeBuilder
from mountsync.paths import RelPath
from mountsync.state.journal import JournalRow
from mountsync.state.tree import NodeId
from mountsync.vfs.volume import Volume

_BATCH: Final = 128
"""Small changes in one cycle: many enough to share a barrier, few enough to plan in a millisecond or so."""
_CYCLES: Final = 3
"""Cycles of small changes that run at once: one transfers while another waits for its barrier."""
_RESTLESS_NS: Final = 60_000_000_000
"""A file that is written all the time is uploaded this long after its first change."""
_STALE_LIMIT: Final = 3
"""After so many attempts that met a moving file, a copy of it is uploaded."""


@dataclass(frozen=True, slots=True)
class Delays:
    """When a change is due, in ns."""

    write_ns: int
    restless_ns: int = _RESTLESS_NS


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
        *,
        delays: Delays,
        transfers: int,
    ) -> None:
        self._volume = volume
        self._cycles = cycles
        self._ledger = ledger
        self._condition = condition
        self._make_builder = make_builder
        self._nursery = nursery
        self._report = report
        self._delays = delays
        self._bell = Bell()
        self._room = {False: _CYCLES, True: transfers}
        self._moving: Counter[NodeId] = Counter()
        self.hurried = 0
        """How many people wait: then what changed is due at once."""
        volume.journal.on_note = self._bell.ring
        ledger.on_release = self._bell.ring

    def ring(self) -> None:
        """Looks for due rows soon."""
        self._bell.ring()

    async def run(self) -> None:
        """Starts cycles as rows become due; for ever."""
        while True:
            await self._condition.until(lambda: self._condition.may_work)
            self._start_due()
            await self._wait()

    async def _wait(self) -> None:
        due = self._volume.journal.next_due_ns(self._delay_ns, self._delays.restless_ns)
        if due is None:
            await self._bell.wait()
            return
        rest = (due - self._volume.clock()) / 1e9
        if rest > 0:
            await self._bell.wait_at_most(rest)
        else:
            await self._bell.wait_at_most(1.0)  # all that is due is being worked on, or rests on disk

    @property
    def _delay_ns(self) -> int:
        return 0 if self.hurried else self._delays.write_ns

    def _start_due(self) -> None:
        now = self._volume.clock()
        rows = self._volume.journal.due(now - self._delay_ns, now - self._delays.restless_ns, now, 4 * _BATCH)
        ready = [row for row in rows if self._is_ready(row, now)]
        large = [row for row in ready if self._size(row) > LARGE]
        small = [row for row in ready if self._size(row) <= LARGE]
        for row in large:
            self._start([row], large=True)
        for first in range(0, len(small), _BATCH):
            self._start(small[first : first + _BATCH], large=False)

    def _size(self, row: JournalRow) -> int:
        node = self._volume.tree.find(row.node)
        return node.size if node is not None and node.is_file else 0

    def _is_ready(self, row: JournalRow, now: int) -> bool:
        busy = not row.ready or self._volume.is_busy(row.node)
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
        builder = self._make_builder()
        builder.add_nodes(row.node for row in rows)
        claim = self._ledger.claim(builder.places, builder.folders, builder.shifted)
        if claim is not None:
            self._room[large] -= 1
            self._nursery.start_soon(self._run_claimed, builder, claim, rows, large)
        elif len(rows) > 1:
            # One of them is in another's way; the others need not wait.
            middle = len(rows) // 2
            self._start(rows[:middle], large=large)
            self._start(rows[middle:], large=large)

    async def _run_claimed(
        self,
        builder: ScopeBuilder,
        claim: Claim,
        rows: Sequence[JournalRow],
        large: bool,
    ) -> None:
        try:
            await self._run(builder, claim, confirmed=False, nodes=[row.node for row in rows])
        finally:
            self._room[large] += 1
            self._bell.ring()

    async def observe(self, seen: Seen, moves: Iterable[tuple[RelPath, RelPath]], *, confirmed: bool) -> bool:
        """A cycle about what was seen on the remote; False when another cycle is in the way."""
        builder = self._make_builder()
        builder.observe(seen, tuple(moves))
        claim = self._ledger.claim(builder.places, builder.folders, builder.shifted)
        if claim is None:
            return False
        await self._run(builder, claim, confirmed=confirmed, nodes=())
        return True

    async def _run(
        self, builder: ScopeBuilder, claim: Claim, *, confirmed: bool, nodes: Iterable[NodeId]
    ) -> None:
        restless = frozenset(node for node in nodes if self._moving[node] >= _STALE_LIMIT)
        self._condition.cycles += 1
        self._condition.changed()
        try:
            outcome = await self._cycles.run(builder.build(), confirmed=confirmed, restless=restless)
        finally:
            self._ledger.release(claim)
            self._condition.cycles -= 1
            self._condition.changed()
        self._count_moving(nodes, outcome)
        self._report(outcome)

    def _count_moving(self, nodes: Iterable[NodeId], outcome: Outcome) -> None:
        moved_on = bool(outcome.stale)
        for node in nodes:
            if moved_on and self._volume.journal.has(node):
                self._moving[node] += 1
            else:
                del self._moving[node]
