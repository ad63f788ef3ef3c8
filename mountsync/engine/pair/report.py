"""What a run did, left and refused; the same values for words, JSON and exit codes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from mountsync.engine.pair.record import Done
from mountsync.model.entry import Kind, Problem
from mountsync.model.plan import (
    Action,
    Conflict,
    Delete,
    MakeDirectory,
    MakeSymlink,
    Move,
    Put,
    Resolved,
    SetAttributes,
    Side,
)
from mountsync.paths import RelPath, is_ours
from mountsync.reconcile import Halt


@dataclass(slots=True)
class Report:
    """One run. `dry_run`: the actions are those that would be done."""

    dry_run: bool = False
    first: bool = False
    """Both sides were never synced before: what they hold was put together."""
    unknown: str | None = None
    """Why nothing was concluded from the last sync; what both sides hold was put together."""
    whole: bool = False
    """Both sides were listed; else only some paths were looked at."""
    halt: Halt | None = None
    done: list[Done] = field(default_factory=list)
    conflicts: tuple[Conflict, ...] = ()
    resolved: list[Resolved] = field(default_factory=list)
    problems: dict[RelPath, Problem] = field(default_factory=dict)
    entries: dict[Side, int] = field(default_factory=lambda: {Side.A: 0, Side.B: 0})
    bytes_moved: Counter[Side] = field(default_factory=Counter)
    hashed: int = 0
    """Contents that were read only to know their digest."""
    backups: dict[Side, int] = field(default_factory=lambda: {Side.A: 0, Side.B: 0})
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 clean, 1 conflicts are left, 3 some paths failed, 5 halted."""
        if self.halt is not None:
            return 5
        if self.problems:
            return 3
        return 1 if self.conflicts else 0

    def counts(self, side: Side) -> dict[str, int]:
        """How many actions of each kind were done on a side, by their word."""
        found = Counter(word_of(done.action) for done in self.done if done.side is side and is_told(done))
        return {word: found[word] for word in WORDS if found[word]}


WORDS = ("new", "updated", "renamed", "deleted", "new folders", "removed folders", "times and modes")


def word_of(action: Action) -> str:
    """What an action is called."""
    match action:
        case Put() | MakeSymlink():
            return "new" if action.expect is None else "updated"
        case Move():
            return "renamed"
        case MakeDirectory():
            return "new folders"
        case SetAttributes():
            return "times and modes"
        case Delete():
            return "removed folders" if action.expect.kind is Kind.DIRECTORY else "deleted"


def is_told(done: Done) -> bool:
    """Whether a person wants to know: a stay at a temporary name is not counted."""
    return not (isinstance(done.action, Move) and is_ours(done.action.target))
