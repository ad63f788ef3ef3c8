"""What a reconciliation has to know besides the two sides and their base."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

from mountsync.model.plan import ConflictPolicy
from mountsync.model.side import Side
from mountsync.paths import MAX_NAME_BYTES, RelPath
from mountsync.reconcile.compare import Comparator

Policy: TypeAlias = Callable[[RelPath], ConflictPolicy]
Refusal: TypeAlias = Callable[[RelPath], str | None]


class Direction(Enum):
    """Which way changes travel. One-way runs never change side A."""

    BOTH = "both"
    MIRROR = "mirror"
    """B is made equal to A, deletes included."""
    ADD = "add"
    """What A has is brought to B; nothing on B is deleted."""


class Evidence(Enum):
    """By what a move is recognised where it was not seen."""

    NONE = "none"
    DIGEST = "digest"
    SIZE_AND_MTIME = "size-and-mtime"


def keep_both(_path: RelPath) -> ConflictPolicy:
    """The policy that keeps both versions everywhere."""
    return ConflictPolicy.KEEP_BOTH


def hold_any(_path: RelPath) -> str | None:
    """The refusal of a side that can hold every name."""
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class SideRules:
    """What one side can hold and do."""

    can_move: bool = True
    """Moves of the other side can be followed; else they become a new file and a delete."""
    moves_directories: bool = True
    """A directory moves in one step; else its files move one by one."""
    case_sensitive: bool = True
    unicode_normalizing: bool = False
    empty_directories: bool = True
    """False: directories there come and go with the files in them, and are never made or deleted."""
    mtimes: bool = True
    """The mtime of a file can be set, so that a difference is worth an action."""
    times: bool = True
    """What it tells as a file's time is that, and not when it was put there."""
    modes: bool = True
    """The mode can be set."""
    cheap_digests: bool = True
    """Computing a digest costs no transfer. False: a digest is only wanted where it decides a conflict."""
    refusal: Refusal = hold_any
    """Why a path cannot be held, None when it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to reconcile. `when` and `host` go into the names of conflict copies."""

    when: str
    """As in `2026-11-20 11-30-00`."""
    host: str
    comparator: Comparator = field(default_factory=Comparator)
    policy: Policy = keep_both
    a: SideRules = field(default_factory=SideRules)
    b: SideRules = field(default_factory=SideRules)
    direction: Direction = Direction.BOTH
    evidence: Evidence = Evidence.NONE
    """How moves are inferred on a side for which none were given."""
    follows_exchanges: bool = True
    """False: renames in a circle are not followed, so that nothing ever has to stay aside."""
    temporary: str = ".mountsync-moving"
    """The start of a path that is free on both sides, for breaking cycles of moves."""
    max_name_bytes: int = MAX_NAME_BYTES
    """The longest name of a conflict copy."""

    def rules(self, side: Side) -> SideRules:
        """What that side can hold and do."""
        return self.a if side is Side.A else self.b
