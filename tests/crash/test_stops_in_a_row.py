"""The world stops in the midst of a cycle, and again in the next life, while programs change things."""

from __future__ import annotations

import pytest

from tests.parts.stops import EVERYTHING, REMOTES, Case, run_case
from tests.parts.stops_again import Life, Lives, random_lives

_RUNS = 4000 if EVERYTHING else 60


@pytest.mark.parametrize("part", range(4))
@pytest.mark.parametrize("remote", REMOTES)
def test_programs_go_on_after_two_stops(remote: str, part: int) -> None:
    for seed in range(part, _RUNS, 4):
        run_case(random_lives(remote, seed))


FOUND: list[Case] = [
    # A link was renamed to the name of a file, where links are objects of another name: both stayed.
    Lives("link", 5, "nothing", "flat", between=(Life("rotate", 5),)),
    Lives("link", 5, "rotate", "flat", 40, between=(Life("rotate", 8),)),
    Lives("link", 5, "save_again", "flat", 40, between=(Life("rotate", 6, 17),)),
    Lives("link", 1, "make_again", "flat", 17, between=(Life("rotate", 6, 40),)),
    Lives("link", 2, "write_again", "flat", 40, between=(Life("rotate", 9, 40),)),
    Lives("link", 7, "chmod_all", "flat", 17, between=(Life("rotate", 7, 40),)),
    Lives("link", 7, "rename_back", "flat", between=(Life("rotate", 11),)),
    Lives("link", 5, "write_same_size", "flat", 4, between=(Life("rotate", 8),)),
    # A renamed file was sent, and then written; size and time are those of what was there before.
    Lives("rename_files", 7, "write_again", "flat", between=(Life("rotate", 8),)),
    Lives("swap", 7, "write_same_size", "immovable", between=(Life("rotate", 7, 4),)),
    Lives("swap", 10, "make_again", "flat", between=(Life("rotate", 8, 4),)),
    Lives("swap", 10, "make_again", "immovable", between=(Life("rotate", 8, 4),)),
    # A rename that was a copy and no removal yet counted as done, because the time of the copy was to be set.
    Lives("chmod", 2, "nothing", "flat", 17, between=(Life("rename_the_folders_often", 9),)),
    Lives("chmod", 3, "rename_the_folders", "flat", between=(Life("rename_files_away", 7),)),
    # What made room for something of another kind was taken for removed by others, and removed here.
    *(Case("swap_kinds", stop_at, "swap_back", "flat") for stop_at in (5, 6, 7, 8, 10)),
    *(Case("swap_kinds", stop_at, "rotate", "flat") for stop_at in range(5, 11)),
]


@pytest.mark.parametrize("case", FOUND, ids=repr)
def test_what_went_wrong_after_stops_in_a_row(case: Case) -> None:
    run_case(case)
