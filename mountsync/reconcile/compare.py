"""Whether two entries have the same content, as far as their facts tell."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from mountsync.model.base import Agreed
from mountsync.model.entry import Entry, Kind
from mountsync.model.side import Side


class Comparison(Enum):
    """By what two files of one size are compared. Two known digests always decide, whatever is chosen."""

    HASH = "hash"
    MTIME = "mtime"
    SIZE = "size"


class Verdict(Enum):
    """What the facts say about two contents."""

    SAME = "same"
    DIFFERENT = "different"
    UNKNOWN = "unknown"
    """A digest (or time) is missing, and guessing could lose bytes."""


@dataclass(frozen=True, slots=True)
class Comparator:
    """How contents and times are compared.

    `tolerance_ns` is by how much two times may differ and still count as equal: the coarser of the two
    sides' steps. `fallback` decides where a digest or time is missing; None: the verdict is UNKNOWN.
    """

    comparison: Comparison = Comparison.HASH
    tolerance_ns: int = 0
    fallback: Comparison | None = None

    def without_fallback(self) -> Comparator:
        """The same, but what is missing stays UNKNOWN."""
        return replace(self, fallback=None)

    def same(self, x: Entry | None, y: Entry | None) -> bool:
        """Whether both are known to be equal: absent both, or of one kind and content."""
        return self.verdict(x, y) is Verdict.SAME

    def verdict(self, x: Entry | None, y: Entry | None) -> Verdict:
        """Compares two entries of any two places. Tokens and attributes are not looked at."""
        if x is None or y is None:
            return _verdict(x is y)
        if x.kind is not y.kind:
            return Verdict.DIFFERENT
        if x.kind is Kind.DIRECTORY:
            return Verdict.SAME
        if x.kind is Kind.SYMLINK:
            return _verdict(x.target == y.target)
        return self._files(x, y)

    def since(self, agreed: Agreed, now: Entry, side: Side) -> Verdict:
        """Whether `now` on `side` still is what was agreed. An equal token says yes at no cost."""
        then = agreed.entry
        if then.kind is not now.kind or then.kind is not Kind.FILE:
            return self.verdict(then, now)
        token = agreed.token(side)
        if token is not None and token == now.token:
            return Verdict.SAME
        if then.digest is None and token is not None and now.token is not None and _by_hash(self):
            return Verdict.DIFFERENT
        verdict = self._files(replace(then, mtime_ns=agreed.mtime_ns(side)), now)
        if verdict is Verdict.UNKNOWN and then.digest is None:
            return Verdict.DIFFERENT  # no digest could ever tell; an edit must not be missed
        return verdict

    def near(self, x_ns: int | None, y_ns: int | None) -> bool:
        """Whether two times are equal within the tolerance; a missing time never differs."""
        return x_ns is None or y_ns is None or abs(x_ns - y_ns) <= self.tolerance_ns

    def _files(self, x: Entry, y: Entry) -> Verdict:
        if x.size != y.size:
            return Verdict.DIFFERENT
        if x.digest is not None and y.digest is not None:
            return _verdict(x.digest == y.digest)
        verdict = self._by(self.comparison, x, y)
        if verdict is Verdict.UNKNOWN and self.fallback is not None:
            return self._by(self.fallback, x, y)
        return verdict

    def _by(self, comparison: Comparison, x: Entry, y: Entry) -> Verdict:
        if comparison is Comparison.SIZE:
            return Verdict.SAME
        if comparison is Comparison.HASH or x.mtime_ns is None or y.mtime_ns is None:
            return Verdict.UNKNOWN
        return _verdict(self.near(x.mtime_ns, y.mtime_ns))


def _by_hash(comparator: Comparator) -> bool:
    return comparator.comparison is Comparison.HASH and comparator.fallback is None


def _verdict(equal: object) -> Verdict:
    return Verdict.SAME if equal else Verdict.DIFFERENT
