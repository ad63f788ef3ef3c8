"""Reconciliation, pure: listings in, a plan out. No clock, no disk, no chance."""

from mountsync.reconcile.attributes import modes_differ
from mountsync.reconcile.compare import Comparator, Comparison, Verdict
from mountsync.reconcile.decide import reconcile, wanted_digests
from mountsync.reconcile.renames import infer_moves
from mountsync.reconcile.safety import DeleteLimit, Halt, delete_limit, emptied, too_many_deletes
from mountsync.reconcile.settings import Direction, Evidence, Settings, SideRules

__all__ = [
    "Comparator",
    "Comparison",
    "DeleteLimit",
    "Direction",
    "Evidence",
    "Halt",
    "Settings",
    "SideRules",
    "Verdict",
    "delete_limit",
    "emptied",
    "infer_moves",
    "modes_differ",
    "reconcile",
    "too_many_deletes",
    "wanted_digests",
]
