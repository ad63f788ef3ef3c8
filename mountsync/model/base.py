"""What both sides last agreed on, path by path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeAlias

from mountsync.model.entry import Entry, Token
from mountsync.model.side import Side
from mountsync.paths import RelPath


@dataclass(frozen=True, slots=True)
class Agreed:
    """One path on which both sides were found equal.

    `entry` holds the content facts (kind, size, digest, target) and the agreed mtime and mode; its
    `token` is None, because a token belongs to one side. `a` and `b` are the tokens that the sides had
    then, None where a side had none. `a_mtime_ns`, `b_mtime_ns`, `a_mode` and `b_mode` are the times and
    modes as each side reported them (they differ where one side is coarse or sets its own); None: those
    of `entry` hold.
    """

    entry: Entry
    a: Token | None = None
    b: Token | None = None
    a_mtime_ns: int | None = None
    b_mtime_ns: int | None = None
    a_mode: int | None = None
    b_mode: int | None = None

    def token(self, side: Side) -> Token | None:
        """The token that `side` had when both agreed."""
        return self.a if side is Side.A else self.b

    def mtime_ns(self, side: Side) -> int | None:
        """The time that `side` reported when both agreed."""
        own = self.a_mtime_ns if side is Side.A else self.b_mtime_ns
        return self.entry.mtime_ns if own is None else own

    def mode(self, side: Side) -> int | None:
        """The mode that `side` reported when both agreed."""
        own = self.a_mode if side is Side.A else self.b_mode
        return self.entry.mode if own is None else own


Base: TypeAlias = Mapping[RelPath, Agreed]
"""Path to what was agreed there. The root itself is not in it."""


def agree(a: Entry, b: Entry) -> Agreed:
    """The record of two entries, one of each side, that are known to be equal in content.

    A digest, time or mode that only one side knows is taken from it; where both know one, from A.
    """
    entry = replace(
        a,
        token=None,
        digest=a.digest or b.digest,
        mtime_ns=b.mtime_ns if a.mtime_ns is None else a.mtime_ns,
        mode=b.mode if a.mode is None else a.mode,
    )
    return Agreed(entry, a.token, b.token, a.mtime_ns, b.mtime_ns, a.mode, b.mode)
