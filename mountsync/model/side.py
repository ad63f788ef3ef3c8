"""The two replicas of a pair."""

from __future__ import annotations

from enum import Enum


class Side(Enum):
    """One of the two replicas."""

    A = "a"
    B = "b"

    @property
    def other(self) -> Side:
        """The replica across."""
        return Side.B if self is Side.A else Side.A
