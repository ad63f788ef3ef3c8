"""What a pair is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from mountsync.formats.sizes import Bandwidth
from mountsync.model.plan import ConflictPolicy
from mountsync.paths import RelPath
from mountsync.reconcile import Comparison, DeleteLimit, Direction, Evidence

DEFAULT_KEEP_DAYS: Final = 30.0
DEFAULT_KEEP_RUNS: Final = 100


@dataclass(frozen=True, slots=True)
class BackupRules:
    """How long backups stay: each run's folder goes when it is too old or one of too many."""

    keep_days: float = DEFAULT_KEEP_DAYS
    keep_runs: int = DEFAULT_KEEP_RUNS


@dataclass(frozen=True, slots=True, kw_only=True)
class PairOptions:
    """How a pair is synced; the same for one run and for a job."""

    name: str
    """The job's name: a folder of backups and the word for it in messages."""
    host: str
    direction: Direction = Direction.BOTH
    conflict: ConflictPolicy = ConflictPolicy.MANUAL
    policies: tuple[tuple[str, ConflictPolicy], ...] = ()
    """Policies by gitignore pattern; the last one that matches a path wins."""
    compare: Comparison = Comparison.HASH
    fallback: Comparison | None = None
    """What decides where `compare` cannot; None: the path becomes a problem."""
    renames: Evidence = Evidence.DIGEST
    max_delete: DeleteLimit = field(default_factory=DeleteLimit)
    patterns: tuple[str, ...] = ()
    """Gitignore patterns of what is invisible on both sides."""
    only: RelPath | None = None
    """The one file or link that a one-way run is about: all else is invisible, and is not looked at."""
    backups: BackupRules | None = field(default_factory=BackupRules)
    """None: nothing is kept of what is overwritten or deleted."""
    transfers: int = 4
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    confirmed: bool = False
    """A person has looked and wants what a safety stop would refuse."""
    from_scratch: bool = False
    """As if both sides were never synced: nothing is deleted, what differs is a conflict."""
