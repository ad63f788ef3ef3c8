"""Interval arithmetic over half-open byte ranges `(start, stop)`. Pure.

A *set of ranges* is a list sorted by start whose members are not empty, do not overlap and do not touch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeAlias

Range: TypeAlias = tuple[int, int]


def normal(ranges: Iterable[Range]) -> list[Range]:
    """The set of ranges that covers exactly the same bytes."""
    found: list[Range] = []
    for start, stop in sorted(ranges):
        if start >= stop:
            continue
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], stop))
        else:
            found.append((start, stop))
    return found


def missing(present: Sequence[Range], start: int, stop: int) -> list[Range]:
    """What of `[start, stop)` no range of the set covers, in order."""
    found: list[Range] = []
    for left, right in present:
        if right <= start:
            continue
        if left >= stop:
            break
        if left > start:
            found.append((start, left))
        start = right
    if start < stop:
        found.append((start, stop))
    return found


def total(ranges: Iterable[Range]) -> int:
    """How many bytes a set of ranges covers."""
    return sum(stop - start for start, stop in ranges)


def clip(ranges: Iterable[Range], stop: int) -> list[Range]:
    """The part of a set of ranges that lies before `stop`."""
    return [(left, min(right, stop)) for left, right in ranges if left < stop]
