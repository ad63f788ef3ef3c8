"""Whatever people do on both sides of a pair, and whatever goes wrong: both agree, nothing is lost."""

from __future__ import annotations

import os

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.engine.pair_histories import PATHS, play

trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True

LONG = bool(os.environ.get("MOUNTSYNC_LONG"))
paths = st.sampled_from(PATHS)
sides = st.sampled_from("ab")


def made(name, *more):
    return st.tuples(st.just(name), *more)


def changes(*first):
    """Changes of one side; `first` comes between the name and the paths."""
    return st.one_of(
        made("write", *first, paths),
        made("write", *first, paths),
        made("delete", *first, paths),
        made("mkdir", *first, paths),
        made("rmtree", *first, paths),
        made("symlink", *first, paths),
        made("move", *first, paths, paths),
        made("move", *first, paths, paths),
    )


SYNC = made("sync")
CRASH = made("crash", sides, st.integers(1, 8), st.booleans())
DURING = made("during", sides, st.integers(1, 6), sides, changes())
STATE = made("state", st.sampled_from(["keep", "back", "lose", "damage"]))


def lists(*kinds, size=25):
    return st.lists(st.one_of(*kinds), max_size=size)


def at_most(examples):
    count = examples * 20 if LONG else examples
    return settings(deadline=None, max_examples=count, suppress_health_check=list(HealthCheck))


@given(lists(changes(sides), changes(sides), SYNC))
@at_most(150)
def test_changes_on_both_sides(ops):
    play(ops)


@given(lists(changes(sides), changes(sides), SYNC, CRASH, DURING))
@at_most(150)
def test_crashes_and_changes_during_runs(ops):
    play(ops)


@given(lists(changes(sides), changes(sides), SYNC, CRASH, STATE))
@at_most(100)
def test_lost_damaged_and_restored_state(ops):
    play(ops)


@given(lists(changes(sides), changes(sides), SYNC, DURING, size=15))
@at_most(20)
def test_on_the_local_disk(ops):
    play(ops, local=True)
