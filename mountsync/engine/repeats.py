"""Surprises that do not end: the same step meets the same one again and again, and nothing changes meanwhile.

A surprise says that a side is not as the plan saw it, so it is looked at again and nobody is told: one
look, or a second, is all that a race needs. A storage that refuses a step with such an error for a reason
of its own would be asked for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from mountsync.engine.cycle import Outcome
from mountsync.engine.scope import Scope
from mountsync.engine.settle import Failure, wait_before_retry
from mountsync.model.base import Agreed
from mountsync.model.entry import Entry
from mountsync.model.side import Side
from mountsync.paths import RelPath
from mountsync.state.database import Database
from mountsync.state.journal import Journal
from mountsync.state.tree import NodeId

_PATIENCE: Final = 5
"""So many times in a row, and it is a problem."""
_DOUBT: Final = 3
"""So many times, and the whole remote is looked at: the path alone may not show what is in the way."""
_FIRST_WAIT: Final = 2
"""Attempts that count as made when such a problem waits for the first time: it was tried at once before."""

_Key: TypeAlias = tuple[RelPath, Side, type[Exception]]


@dataclass(frozen=True, slots=True)
class _Sight:
    """What both sides and the base held at a path when a step failed there."""

    versions: frozenset[tuple[NodeId, int]]
    agreed: Agreed | None
    there: Entry | None


class Repeats:
    """Counts surprises, and makes problems of those that do not end."""

    def __init__(self, database: Database, journal: Journal, clock: Callable[[], int]) -> None:
        self._db = database
        self._journal = journal
        self._clock = clock
        self._seen: dict[_Key, tuple[_Sight, int]] = {}

    def note(self, scope: Scope, outcome: Outcome) -> None:
        """Takes in what a cycle met; marks in `outcome` what is stuck and lets that wait as what failed."""
        counts = {failure.path: self._count(failure, scope) for failure in _surprises(outcome)}
        self._forget(outcome, counts)
        outcome.is_doubtful = _DOUBT in counts.values()
        outcome.stuck = frozenset(path for path, count in counts.items() if count >= _PATIENCE)
        if outcome.stuck:
            with self._db.transaction:
                for failure in _surprises(outcome):
                    if failure.path in outcome.stuck:
                        self._postpone(failure, scope)

    def _count(self, failure: Failure, scope: Scope) -> int:
        key = failure.path, failure.side, type(failure.error)
        sight = _sight(failure.path, scope)
        before, count = self._seen.get(key, (sight, 0))
        self._seen[key] = sight, (count + 1 if before == sight else 1)
        return self._seen[key][1]

    def _forget(self, outcome: Outcome, failed: dict[RelPath, int]) -> None:
        """What was looked at without another failure is over, unless its change still waits."""
        for key, (sight, _) in list(self._seen.items()):
            if key[0] in failed or key[0] not in outcome.looked_at:
                continue
            if not any(self._is_pending(*each) for each in sight.versions):
                del self._seen[key]

    def _is_pending(self, node: NodeId, version: int) -> bool:
        row = self._journal.find(node)
        return row is not None and row.version == version

    def _postpone(self, failure: Failure, scope: Scope) -> None:
        now = self._clock()
        for node, version in _sight(failure.path, scope).versions:
            row = self._journal.find(node)
            if row is not None:
                wait = wait_before_retry(row.attempts + _FIRST_WAIT, transient=True)
                self._journal.postpone(node, version, now + int(wait * 1e9), str(failure.error))


def _surprises(outcome: Outcome) -> Iterator[Failure]:
    return (failure for failure in outcome.failures if failure.is_surprise)


def _sight(path: RelPath, scope: Scope) -> _Sight:
    nodes = _nodes_at(path, scope) & scope.versions.keys()
    versions = frozenset((node, scope.versions[node]) for node in nodes)
    return _Sight(versions, scope.base.get(path), scope.b.get(path))


def _nodes_at(path: RelPath, scope: Scope) -> set[NodeId]:
    """What is at a path here, and what was agreed where the remote has it."""
    found: set[NodeId] = set()
    for place in (scope.places.get(path), *(at for at, there in scope.remote_paths.items() if there == path)):
        if place is not None:
            found |= scope.members.get(place, set())
    known = scope.known.get(path)
    return found if known is None else found | {known.node}
