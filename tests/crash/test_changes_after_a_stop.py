"""The world stops at every effect of a cycle; before the next one begins, programs go on changing things."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import pytest

from tests.parts.stops import AFTERWARDS, EVERYTHING, REMOTES, UNDER_WAY, Case, every_stop, run_case


@pytest.mark.parametrize("under_way", UNDER_WAY)
@pytest.mark.parametrize("remote", REMOTES)
def test_programs_go_on_after_a_stop(remote: str, under_way: str) -> None:
    for afterwards, steps in _chosen(under_way):
        every_stop(under_way, afterwards, remote, steps=steps)


def _chosen(under_way: str) -> Iterator[tuple[Iterable[str], int]]:
    """What is done after each stop: in turn another thing, or each of all."""
    acts = list(AFTERWARDS)
    if EVERYTHING:
        yield from ((itertools.repeat(act), steps) for steps in (0, 4, 17) for act in acts)
    else:
        first = list(UNDER_WAY).index(under_way)
        yield itertools.islice(itertools.cycle(acts), first, None), 0


FOUND = [
    # Folders that lost sight of files, or came back, after a stop.
    Case("rename_folder", 5, "rename_the_folders", "memory"),
    Case("rename_folder_and_make_it_again", 8, "rename_the_folders_often", "memory"),
    Case("remove_some", 1, "rename_the_folders", "memory"),
    Case("rename_folder_and_make_it_again", 1, "nothing", "immovable"),
    Case("rename_folder", 3, "rename_back", "immovable"),
    Case("save", 1, "rename_the_folders", "flat"),
    Case("turn_around", 7, "rename_the_folders", "flat"),
    Case("turn_around", 8, "remove_everything", "flat"),
    Case("link", 5, "rotate", "flat"),
    # A folder took the name that another one had, whose removal was under way, and counted as agreed there.
    Case("rename_folder", 12, "rename_back", "flat", 4),
    # The scan had begun when the folder was renamed.
    *(Case("rename_folder_and_make_it_again", 1, "write_again", "memory", steps) for steps in range(12, 21)),
]


@pytest.mark.parametrize("case", FOUND, ids=repr)
def test_what_once_went_wrong(case: Case) -> None:
    run_case(case)
