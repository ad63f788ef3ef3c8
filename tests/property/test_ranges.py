"""Interval arithmetic against sets of single bytes."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from mountsync.content import ranges
from mountsync.content.evict import Candidate, victims

_range = st.tuples(st.integers(0, 40), st.integers(0, 40))
_ranges = st.lists(_range, max_size=8)


def covered(found: list[tuple[int, int]]) -> set[int]:
    return {at for start, stop in found for at in range(start, stop)}


def is_normal(found: list[tuple[int, int]]) -> bool:
    return all(start < stop for start, stop in found) and all(
        left[1] < right[0] for left, right in itertools.pairwise(found)
    )


@given(_ranges)
def test_normal_covers_the_same_bytes(given_ranges: list[tuple[int, int]]) -> None:
    found = ranges.normal(given_ranges)
    assert is_normal(found)
    assert covered(found) == covered(given_ranges)
    assert ranges.total(found) == len(covered(found))


@given(_ranges, _range)
def test_missing_is_what_nothing_covers(given_ranges: list[tuple[int, int]], asked: tuple[int, int]) -> None:
    found = ranges.missing(ranges.normal(given_ranges), *asked)
    assert is_normal(found)
    assert covered(found) == set(range(*asked)) - covered(given_ranges)


@given(_ranges, st.integers(0, 40))
def test_clip(given_ranges: list[tuple[int, int]], stop: int) -> None:
    whole = ranges.normal(given_ranges)
    assert covered(ranges.clip(whole, stop)) == {at for at in covered(whole) if at < stop}


_candidates = st.lists(
    st.builds(Candidate, st.integers(1, 99), st.integers(0, 50), st.integers(0, 9)),
    unique_by=lambda candidate: candidate.node,
)


@given(_candidates, st.integers(-5, 200))
def test_victims_free_enough_and_no_more(candidates: list[Candidate], excess: int) -> None:
    chosen = victims(candidates, excess)
    by_node = {candidate.node: candidate for candidate in candidates}
    freed = sum(by_node[node].size for node in chosen)
    assert freed >= excess or len(chosen) == sum(c.size > 0 for c in candidates)
    if chosen:
        assert freed - by_node[chosen[-1]].size < excess
        spared = [c for c in candidates if c.node not in chosen and c.size]
        assert all(c.used_ns >= by_node[chosen[-1]].used_ns for c in spared)
    else:
        assert excess <= 0 or not any(c.size for c in candidates)
