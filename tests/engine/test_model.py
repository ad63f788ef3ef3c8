"""Whatever happens, and in whatever order: both sides agree in the end and nothing is lost."""

from __future__ import annotations

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mountsync.storage.api import SupportsCopy, SupportsMove
from tests.engine.histories import PATHS, play

trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True

paths = st.sampled_from(PATHS)
one = lambda name: st.tuples(st.just(name), paths)  # noqa: E731
two = lambda name: st.tuples(st.just(name), paths, paths)  # noqa: E731
plain = lambda name: st.tuples(st.just(name))  # noqa: E731

LOCAL = st.one_of(
    one("local_write"), one("local_write"), one("local_save"), one("local_unlink"), one("local_mkdir"),
    one("local_rmdir"), two("local_rename"), two("local_rename"), one("local_hold"), plain("local_let_go"),
    one("local_symlink"), two("local_link"), one("local_chmod"), one("local_read"),
)  # fmt: skip
REMOTE = st.one_of(
    one("remote_write"), one("remote_write"), one("remote_delete"), one("remote_mkdir"), one("remote_rmdir"),
    two("remote_move"), two("remote_move"), one("remote_symlink"), one("remote_chmod"),
)  # fmt: skip
TIME = st.one_of(
    st.tuples(st.just("steps"), st.integers(1, 60)),
    st.tuples(st.just("wait"), st.sampled_from([0.1, 1.1, 5.0])),
    plain("flush"),
    plain("poll"),
)
TROUBLE = st.one_of(plain("offline"), plain("online"), plain("crash"))


FOUND = [
    [("remote_write", "d/a"), ("remote_write", "e/a"), ("local_rename", "e/a", "d/b"),
     ("remote_move", "e/a", "e/s")],
    [("remote_write", "d/b"), ("local_write", "d/b"), ("wait", 2.0), ("local_chmod", "d/b"),
     ("remote_delete", "d/b")],
    [("local_mkdir", "e"), ("remote_write", "e"), ("local_save", "e/a")],
    [("remote_write", "e/a"), ("flush",), ("remote_mkdir", "a"), ("local_rename", "e", "a")],
    [("local_save", "b"), ("flush",), ("remote_write", "b"), ("local_rename", "b", "e"), ("wait", 2.0),
     ("local_unlink", "e")],
    [("remote_write", "d/s/b"), ("local_rename", "d/s", "d/a"), ("local_write", "d/s")],
    [("remote_write", "d/s"), ("local_chmod", "d/s"), ("remote_move", "d/s", "a"), ("remote_write", "d/s/a")],
    [("steps", 7), ("local_symlink", "a"), ("offline",), ("flush",)],
    [("local_mkdir", "d"), ("local_write", "d/a"), ("local_write", "d/b"), ("flush",),
     ("remote_move", "d", "e"), ("local_write", "d/a"), ("local_write", "d/s")],
    [("remote_symlink", "d/b"), ("remote_write", "e/a"), ("wait", 0.1), ("local_rename", "e/a", "d/a"),
     ("remote_move", "e", "d/a"), ("flush",)],
    [("remote_mkdir", "b"), ("local_rename", "b", "a"), ("remote_rmdir", "b")],
    [("remote_mkdir", "b"), ("local_rename", "b", "a"), ("remote_rmdir", "b"), ("remote_write", "b")],
    [("remote_mkdir", "d"), ("remote_write", "e/a"), ("flush",), ("local_rename", "e/a", "d/a"),
     ("local_write", "e/a"), ("remote_move", "e", "d/a"), ("flush",)],
    [("remote_write", "b"), ("local_rename", "b", "a"), ("remote_move", "b", "a"), ("remote_write", "b"),
     ("wait", 0.1)],
]  # fmt: skip


def lists(*kinds):
    return st.lists(st.one_of(*kinds), max_size=30)


quick = settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))


@given(lists(LOCAL, LOCAL, REMOTE, TIME, TIME))
@quick
def test_both_sides_change(ops):
    play(ops)


@given(lists(LOCAL, LOCAL, REMOTE, TIME, TIME, TROUBLE))
@quick
def test_both_sides_change_and_things_go_wrong(ops):
    play(ops)


@given(
    lists(LOCAL, LOCAL, REMOTE, TIME, TIME, TROUBLE),
    st.sampled_from([(SupportsMove,), (SupportsMove, SupportsCopy)]),
)
@quick
def test_remotes_that_cannot_rename(ops, without):
    play(ops, without=without)


@given(lists(LOCAL, LOCAL, REMOTE, TIME, TIME, TROUBLE))
@quick
def test_remotes_without_directories(ops):
    play(ops, flat=True)


@given(st.lists(st.one_of(LOCAL, TIME), max_size=30))
@quick
def test_only_this_side_changes(ops):
    """Then the remote ends as the mount, and no conflict is ever seen."""
    history = play(ops)
    assert not [line for line in history.tree if "conflict" in line]


@pytest.mark.parametrize(
    "ops",
    [
        [("local_mkdir", "d"), ("flush",)],
        [("local_mkdir", "a"), ("local_mkdir", "e")],
        [("local_write", "b"), ("remote_write", "d/s/b")],
        [("remote_write", "d/s"), ("flush",), ("remote_move", "d/s", "e/s")],
        [("local_mkdir", "d"), ("local_write", "d/a"), ("flush",), ("local_rename", "d", "e")],
        [("remote_write", "d/b"), ("local_rename", "d/b", "d/a"), ("local_mkdir", "d/b")],
    ],
    ids=range(6),
)
def test_once_found_without_directories(ops):
    play(ops, flat=True)


# What was once found by longer runs


@pytest.mark.parametrize("ops", FOUND, ids=range(len(FOUND)))
def test_once_found(ops):
    for without in ((), (SupportsMove,), (SupportsMove, SupportsCopy)):
        play(ops, without=without)
