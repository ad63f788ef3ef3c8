"""Programs change things between two effects of a cycle, which is then stopped at any later one."""

from __future__ import annotations

import itertools

import pytest

from tests.parts.stops import AFTERWARDS, EVERYTHING, UNDER_WAY, every_stop


@pytest.mark.parametrize("under_way", UNDER_WAY)
def test_programs_go_on_during_a_cycle(under_way: str) -> None:
    acts, first = list(AFTERWARDS), list(UNDER_WAY).index(under_way)
    some = [(1 if first % 2 else -2, acts[1 + first % (len(acts) - 1)])]
    every = itertools.product((1, -1, 2, -2, 4, -4), acts)
    for during, act in every if EVERYTHING else some:
        every_stop(under_way, itertools.repeat(act), "memory", during=during)
