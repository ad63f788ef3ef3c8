"""Which contents go when the cache is too large. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Candidate:
    """A clean content that nobody holds and nobody pinned.

    `size` is what it takes on the local disk, in bytes; `used_ns` is its last use.
    """

    node: int
    size: int
    used_ns: int


def victims(candidates: Iterable[Candidate], excess: int) -> list[int]:
    """Nodes whose contents free at least `excess` bytes, least recently used first.

    All candidates that take space when even they are not enough; none when nothing has to go.
    """
    chosen: list[int] = []
    for candidate in sorted(candidates, key=lambda c: (c.used_ns, c.node)):
        if excess <= 0:
            break
        if candidate.size > 0:
            chosen.append(candidate.node)
            excess -= candidate.size
    return chosen
