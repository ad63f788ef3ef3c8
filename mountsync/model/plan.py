"""What one cycle will do: data, decided by `reconcile`, carried out by `engine.apply`.

Side A is the local one (or the first named), side B the remote (or the second).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from mountsync.model.base import Agreed
from mountsync.model.entry import Entry, Problem
from mountsync.model.side import Side
from mountsync.paths import RelPath

__all__ = [
    "Action",
    "Conflict",
    "ConflictPolicy",
    "Delete",
    "MakeDirectory",
    "MakeSymlink",
    "Move",
    "Plan",
    "Put",
    "Resolved",
    "SetAttributes",
    "Side",
    "path_of",
]


@dataclass(frozen=True, slots=True)
class Put:
    """Copy the file at `origin` on the other side to `path`, over `expect` (None: nothing is there).

    `entry` is what the other side holds at `origin`; the copy takes its content, mtime and mode.
    """

    path: RelPath
    origin: RelPath
    entry: Entry
    expect: Entry | None


@dataclass(frozen=True, slots=True)
class MakeDirectory:
    """Make the directory `path`, where nothing is."""

    path: RelPath
    entry: Entry


@dataclass(frozen=True, slots=True)
class MakeSymlink:
    """Make the link `path` with `entry.target`, over `expect` (None: nothing is there)."""

    path: RelPath
    entry: Entry
    expect: Entry | None


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove what is at `path`, which must be `expect`; a directory only when it is empty."""

    path: RelPath
    expect: Entry


@dataclass(frozen=True, slots=True)
class Move:
    """Rename `source`, which must be `expect`, to `target`, over `replace` (None: nothing is there).

    For a directory everything below it moves along. `base` says that this follows a move of the other
    side: once it is done, the rows of base at and below `base` belong at and below `target` (replacing
    what base had at `target`, where nothing is below). None: base does not change.
    """

    source: RelPath
    target: RelPath
    expect: Entry
    replace: Entry | None = None
    base: RelPath | None = None


@dataclass(frozen=True, slots=True)
class SetAttributes:
    """Give `path` the mtime and mode of `entry`; its content is right already."""

    path: RelPath
    entry: Entry
    expect: Entry


Action: TypeAlias = Put | MakeDirectory | MakeSymlink | Delete | Move | SetAttributes


class ConflictPolicy(Enum):
    """What happens where both sides changed and differ. Ties always keep both."""

    MANUAL = "manual"
    KEEP_BOTH = "keep-both"
    NEWER = "newer"
    OLDER = "older"
    LARGER = "larger"
    SMALLER = "smaller"
    A = "a"
    B = "b"


@dataclass(frozen=True, slots=True)
class Conflict:
    """A path that both sides changed differently and that the policy leaves alone.

    None stands for absence.
    """

    path: RelPath
    base: Entry | None
    a: Entry | None
    b: Entry | None
    reason: str


@dataclass(frozen=True, slots=True)
class Resolved:
    """A conflict that the policy settled in this plan; told to the user, needs no hand."""

    path: RelPath
    policy: ConflictPolicy
    winner: Side
    copy: RelPath | None
    """Where the loser's content lives on, on both sides; None when the policy drops it."""


@dataclass(frozen=True, slots=True)
class Plan:
    """All that one cycle will do.

    `to_base` records what both sides already agree on without any action (None: neither has it any
    more) and is written first. Then come all moves of `to_a`, then those of `to_b`, with whatever stands
    before them in the list; every other action finds both sides with their moves done, and its paths
    and origins are meant so. Within one side the order is safe from front to back; apart from the
    moves the sides do not wait for each other.

    `expect` is what the scan saw. A move may give an object a new token; then the new one counts.
    After each other action base holds, at its path, what both sides hold there.
    """

    to_a: tuple[Action, ...] = ()
    to_b: tuple[Action, ...] = ()
    to_base: Mapping[RelPath, Agreed | None] = field(default_factory=dict)
    conflicts: tuple[Conflict, ...] = ()
    resolved: tuple[Resolved, ...] = ()
    problems: Mapping[RelPath, Problem] = field(default_factory=dict)

    def of(self, side: Side) -> tuple[Action, ...]:
        """What is to be done on that side."""
        return self.to_a if side is Side.A else self.to_b

    @property
    def is_empty(self) -> bool:
        """Whether neither side has to change."""
        return not self.to_a and not self.to_b


def path_of(action: Action) -> RelPath:
    """The path at which the action's result stands."""
    return action.target if isinstance(action, Move) else action.path
