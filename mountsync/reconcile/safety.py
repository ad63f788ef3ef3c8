"""Safety stops: what looks like an accident waits for a person."""

from __future__ import annotations

from dataclasses import dataclass

from mountsync.errors import UsageError
from mountsync.model.listing import Scan
from mountsync.model.plan import Delete, Move, Plan, path_of
from mountsync.model.side import Side
from mountsync.model.status import SessionState
from mountsync.paths import RelPath, ancestors

DEFAULT_SHARE = 50
DEFAULT_COUNT = 20


@dataclass(frozen=True, slots=True)
class Halt:
    """Why nothing may be changed until a person confirms. `side` is the one that would suffer or did."""

    state: SessionState
    side: Side
    reason: str


@dataclass(frozen=True, slots=True)
class DeleteLimit:
    """A plan halts when it deletes more than `count` entries and more than `percent` of base on a side.

    None: that half does not restrict, the other decides alone.
    """

    count: int | None = DEFAULT_COUNT
    percent: float | None = DEFAULT_SHARE

    def exceeded(self, deletes: int, base_size: int) -> bool:
        """Whether that many deletes are too many for a base of that many entries."""
        if self.count is None and self.percent is None:
            return False
        over_count = self.count is None or deletes > self.count
        return over_count and (self.percent is None or deletes * 100 > self.percent * base_size)


def delete_limit(text: str) -> DeleteLimit:
    """The limit that a user wrote: `100`, `25%` or `off`. Raises UsageError."""
    word = text.strip()
    try:
        if word == "off":
            return DeleteLimit(None, None)
        if word.endswith("%"):
            return DeleteLimit(None, _positive(float(word[:-1])))
        return DeleteLimit(int(_positive(int(word))), None)
    except ValueError:
        raise UsageError(
            f"{text!r} is no limit for deletes", hint="use a number, a percentage or off"
        ) from None


def _positive(number: float) -> float:
    if not 0 <= number < float("inf"):
        raise ValueError(number)
    return number


def emptied(scan: Scan, side: Side, base_size: int) -> Halt | None:
    """A halt when a full scan of a side finds nothing where base had more than one entry.

    A scan with problems is no proof of emptiness and halts nothing: what is unreadable is skipped.
    """
    if base_size <= 1 or scan.entries or scan.problems:
        return None
    reason = f"side {side.value} is empty now but held {base_size} entries at the last sync"
    return Halt(SessionState.HALTED_EMPTIED, side, reason)


def too_many_deletes(plan: Plan, base_size: int, limit: DeleteLimit) -> Halt | None:
    """A halt when the plan deletes too much on one side. Moves and overwrites are no deletes."""
    for side in Side:
        count = deletes_on(plan, side)
        if limit.exceeded(count, base_size):
            reason = f"{count} of {base_size} entries would be deleted on side {side.value}"
            return Halt(SessionState.HALTED_DELETES, side, reason)
    return None


def deletes_on(plan: Plan, side: Side) -> int:
    """How many entries the plan takes away from a side for good."""
    actions = plan.of(side)
    made = {path_of(action) for action in actions if not isinstance(action, Delete)}
    left = _left_behind(plan, side)
    return sum(isinstance(x, Delete) and x.path not in made and x.path not in left for x in actions)


def _left_behind(plan: Plan, side: Side) -> set[RelPath]:
    """Directories out of which files were moved: deleting them completes a rename."""
    moved = (action.source for action in plan.of(side) if isinstance(action, Move))
    return {above for source in moved for above in ancestors(source)}
