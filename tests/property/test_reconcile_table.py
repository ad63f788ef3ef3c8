"""The merge row by row: base, A and B before, both sides after."""

from __future__ import annotations

from dataclasses import replace

import pytest
from reconcile_world import KEEP, Tree, World

from mountsync.model.entry import Problem
from mountsync.model.plan import ConflictPolicy, Move, Plan
from mountsync.model.side import Side
from mountsync.paths import RelPath
from mountsync.reconcile import Evidence, Settings, SideRules

C = " (conflict 2026-11-20 11-30-00 host)"

ROWS: dict[str, tuple[Tree, Tree, Tree, Tree]] = {
    # base, A, B, both afterwards
    "nothing": ({}, {}, {}, {}),
    "equal": ({"p": "1"}, {"p": "1"}, {"p": "1"}, {"p": "1"}),
    "made on A": ({}, {"p": "1"}, {}, {"p": "1"}),
    "made on B": ({}, {}, {"p": "1"}, {"p": "1"}),
    "made equal": ({}, {"p": "1"}, {"p": "1"}, {"p": "1"}),
    "made different": ({}, {"p": "1"}, {"p": "22"}, {"p": "22", f"p{C}": "1"}),
    "edited on A": ({"p": "1"}, {"p": "22"}, {"p": "1"}, {"p": "22"}),
    "edited on B": ({"p": "1"}, {"p": "1"}, {"p": "22"}, {"p": "22"}),
    "edited equal": ({"p": "1"}, {"p": "22"}, {"p": "22"}, {"p": "22"}),
    "edited different": ({"p.c": "1"}, {"p.c": "22"}, {"p.c": "3"}, {"p.c": "3", f"p{C}.c": "22"}),
    "deleted on A": ({"p": "1"}, {}, {"p": "1"}, {}),
    "deleted on B": ({"p": "1"}, {"p": "1"}, {}, {}),
    "deleted on both": ({"p": "1"}, {}, {}, {}),
    "deleted, edited": ({"p": "1"}, {}, {"p": "22"}, {"p": "22"}),
    "edited, deleted": ({"p": "1"}, {"p": "22"}, {}, {"p": "22"}),
    "directory made": ({}, {"d": "/"}, {}, {"d": "/"}),
    "directories made": (
        {},
        {"d": "/", "d/f": "1"},
        {"d": "/", "d/g": "2"},
        {"d": "/", "d/f": "1", "d/g": "2"},
    ),
    "directory deleted": ({"d": "/", "d/f": "1"}, {}, {"d": "/", "d/f": "1"}, {}),
    "directory deleted, file edited in it": (
        {"d": "/", "d/f": "1", "d/g": "2"},
        {},
        {"d": "/", "d/f": "22", "d/g": "2"},
        {"d": "/", "d/f": "22"},
    ),
    "directory deleted, file made deep in it": (
        {"d": "/", "d/e": "/", "d/g": "2"},
        {"d": "/", "d/e": "/", "d/g": "2", "d/e/n": "3"},
        {},
        {"d": "/", "d/e": "/", "d/e/n": "3"},
    ),
    "file becomes directory": ({"p": "1"}, {"p": "/", "p/f": "2"}, {"p": "1"}, {"p": "/", "p/f": "2"}),
    "directory becomes file": ({"p": "/", "p/f": "2"}, {"p": "1"}, {"p": "/", "p/f": "2"}, {"p": "1"}),
    "file becomes link": ({"p": "1"}, {"p": "@t"}, {"p": "1"}, {"p": "@t"}),
    "link becomes file": ({"p": "@t"}, {"p": "@t"}, {"p": "1"}, {"p": "1"}),
    "link changes": ({"p": "@t"}, {"p": "@u"}, {"p": "@t"}, {"p": "@u"}),
    "links differ": ({}, {"p": "@t"}, {"p": "@u"}, {"p": "@u", f"p{C}": "@t"}),
    "file and directory made": (
        {},
        {"p": "1"},
        {"p": "/", "p/f": "2"},
        {"p": "/", "p/f": "2", f"p{C}": "1"},
    ),
    "directory and file made": (
        {},
        {"p": "/", "p/f": "2"},
        {"p": "1"},
        {"p": "/", "p/f": "2", f"p{C}": "1"},
    ),
    "directory becomes file, file edited in it": (
        {"p": "/", "p/f": "2", "p/g": "3"},
        {"p": "1"},
        {"p": "/", "p/f": "22", "p/g": "3"},
        {"p": "/", "p/f": "22", f"p{C}": "1"},
    ),
    "file becomes directory, file edited": (
        {"p": "1"},
        {"p": "/", "p/f": "2"},
        {"p": "22"},
        {"p": "/", "p/f": "2", f"p{C}": "22"},
    ),
    "conflict name is taken": (
        {f"p{C}": "old"},
        {"p": "1", f"p{C}": "old"},
        {"p": "22", f"p{C}": "old"},
        {"p": "22", f"p{C}": "old", f"p{C[:-1]} 2)": "1"},
    ),
}


@pytest.mark.parametrize("name", ROWS)
def test_row(name: str) -> None:
    base, a, b, after = ROWS[name]
    world = World(base, a, b)
    world.sync()
    assert world.tree(Side.A) == world.tree(Side.B) == dict(sorted(after.items()))
    assert world.plan().is_empty


MOVES: dict[str, tuple[Tree, Tree, Tree, Tree, int]] = {
    # base, A, B, both afterwards, renames that follow
    "file": ({"p": "1"}, {"q": "1"}, {"p": "1"}, {"q": "1"}, 1),
    "both alike": ({"p": "1"}, {"q": "1"}, {"q": "1"}, {"q": "1"}, 0),
    "both apart": ({"p": "1"}, {"q": "1"}, {"r": "1"}, {"q": "1", "r": "1"}, 0),
    "moved, edited": ({"p": "1"}, {"q": "1"}, {"p": "22"}, {"q": "22"}, 1),
    "moved, deleted": ({"p": "1"}, {"q": "1"}, {}, {"q": "1"}, 0),
    "moved to where the other made something": (
        {"p": "1"},
        {"q": "1"},
        {"p": "1", "q": "22"},
        {"q": "22", f"q{C}": "1"},
        0,
    ),
    "swap": ({"p": "1", "q": "2"}, {"p": "2", "q": "1"}, {"p": "1", "q": "2"}, {"p": "2", "q": "1"}, 3),
    "chain": ({"p": "1", "q": "2"}, {"q": "1", "r": "2"}, {"p": "1", "q": "2"}, {"q": "1", "r": "2"}, 2),
    "replace": ({"p": "1", "q": "2"}, {"q": "1"}, {"p": "1", "q": "2"}, {"q": "1"}, 1),
    "replace what was edited": (
        {"p": "1", "q": "2"},
        {"q": "1"},
        {"p": "1", "q": "22"},
        {"q": "22", f"q{C}": "1"},
        0,
    ),
    "directory, edit and new file in it": (
        {"d": "/", "d/f": "1", "d/g": "2"},
        {"e": "/", "e/f": "1", "e/g": "2"},
        {"d": "/", "d/f": "11", "d/g": "2", "d/n": "3"},
        {"e": "/", "e/f": "11", "e/g": "2", "e/n": "3"},
        1,
    ),
    "directory into one that was deleted": (
        {"d": "/", "d/f": "1", "t": "/"},
        {"t": "/", "t/d": "/", "t/d/f": "1"},
        {"d": "/", "d/f": "1"},
        {"t": "/", "t/d": "/", "t/d/f": "1"},
        1,
    ),
    "two directories into each other": (
        {"d": "/", "d/f": "1", "e": "/", "e/g": "2"},
        {"e": "/", "e/g": "2", "e/d": "/", "e/d/f": "1"},
        {"d": "/", "d/f": "1", "d/e": "/", "d/e/g": "2"},
        {"e": "/", "e/d": "/", "e/d/f": "1", "d": "/", "d/e": "/", "d/e/g": "2"},
        0,
    ),
    "one directory, two names": (
        {"d": "/", "d/f": "1"},
        {"e": "/", "e/f": "1"},
        {"x": "/", "x/f": "1"},
        {"e": "/", "e/f": "1", "x": "/", "x/f": "1"},
        0,
    ),
}


@pytest.mark.parametrize("name", MOVES)
def test_move(name: str) -> None:
    base, a, b, after, renames = MOVES[name]
    for one, two in ((a, b), (b, a)):
        world = World(base, one, two, replace(KEEP, evidence=Evidence.DIGEST), tokens=False)
        plan = world.sync()
        moves = [x for side in Side for x in plan.of(side) if isinstance(x, Move) and x.base is not None]
        assert len(moves) == renames
        assert world.tree(Side.A) == world.tree(Side.B)
        assert world.plan().is_empty
        if one is a:
            assert world.tree(Side.A) == dict(sorted(after.items()))


@pytest.mark.parametrize(
    ("policy", "kept"),
    [
        (ConflictPolicy.A, "1"),
        (ConflictPolicy.B, "333"),
        (ConflictPolicy.LARGER, "333"),
        (ConflictPolicy.SMALLER, "1"),
    ],
)
def test_policy(policy: ConflictPolicy, kept: str) -> None:
    world = World({"p": "22"}, {"p": "1"}, {"p": "333"}, replace(KEEP, policy=lambda _: policy))
    plan = world.sync()
    assert world.tree(Side.A) == world.tree(Side.B) == {"p": kept}
    assert [(x.path, x.policy, x.copy) for x in plan.resolved] == [("p", policy, None)]


def test_the_policy_is_asked_for_each_path() -> None:
    def policy(path: str) -> ConflictPolicy:
        return ConflictPolicy.MANUAL if path == "q" else ConflictPolicy.A

    world = World({}, {"p": "1", "q": "1"}, {"p": "22", "q": "22"}, replace(KEEP, policy=policy))
    plan = world.sync()
    assert world.tree(Side.B) == {"p": "1", "q": "22"} and world.tree(Side.A)["q"] == "1"
    assert [x.path for x in plan.conflicts] == ["q"]


FILE_MOVER = replace(KEEP, b=SideRules(moves_directories=False))

KNOWN: dict[str, tuple[Settings, Tree, Tree, list[tuple[str, str]], Tree, list[tuple[str, str]]]] = {
    # settings, base, A, moves of A, B, moves of B; both are as A afterwards
    "another directory takes the old name": (
        KEEP,
        {"p": "/"},
        {"q": "/", "p": "/"},
        [("p", "q")],
        {"p": "/"},
        [],
    ),
    "a file replaces one in a directory that moves": (
        KEEP,
        {"b": "2", "d": "/", "d/f": "1", "d/k": "3"},
        {"x": "/", "x/f": "2", "x/k": "3"},
        [("d", "x"), ("b", "x/f")],
        {"b": "2", "d": "/", "d/f": "1", "d/k": "3"},
        [],
    ),
    "a file replaces one that both deleted, file by file": (
        FILE_MOVER,
        {"b": "2", "d": "/", "d/f": "1", "d/k": "3"},
        {"x": "/", "x/f": "2", "x/k": "3"},
        [("d", "x"), ("b", "x/f")],
        {"b": "2", "d": "/", "d/k": "3"},
        [],
    ),
    "a file replaces one in a directory that both moved": (
        KEEP,
        {"p": "/", "p/k": "3", "p/s": "5", "r": "2"},
        {"q": "/", "q/k": "3", "q/s": "2"},
        [("p", "q"), ("r", "q/s")],
        {"q": "/", "q/k": "3", "q/s": "5", "r": "2"},
        [("p", "q")],
    ),
    "a file stays while its directory moves away": (
        KEEP,
        {"p": "/", "p/f": "1", "p/g": "2"},
        {"q": "/", "q/g": "2", "p": "/", "p/f": "1"},
        [("p", "q"), ("p/f", "p/f")],
        {"p": "/", "p/f": "1", "p/g": "2"},
        [],
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_moves_leave_base_exact(name: str) -> None:
    settings, base, a, moves_a, b, moves_b = KNOWN[name]
    world = World(base, a, b, settings)
    world.sync(moves_a=moves_a, moves_b=moves_b)
    assert world.tree(Side.A) == world.tree(Side.B) == dict(sorted(a.items()))
    assert {p: world.value(r.entry) for p, r in sorted(world.base.items())} == world.tree(Side.A)
    assert world.plan() == Plan()


def test_a_directory_with_something_unreadable_is_not_deleted() -> None:
    world = World({"q": "/"}, {"q": "/", "q/p": "1"}, {"p": "/"})
    plan = world.plan(problems_a={RelPath("q/p"): Problem("cannot be read")})
    world.apply(plan)
    assert world.tree(Side.A) == {"p": "/", "q": "/", "q/p": "1"}
    assert set(plan.problems) == {"q/p"}


def test_a_file_that_replaces_one_in_a_moved_directory_is_followed_too() -> None:
    settings, base, a, moves_a, b, _ = KNOWN["a file replaces one in a directory that moves"]
    plan = World(base, a, b, settings).plan(moves_a=moves_a)
    assert [(x.source, x.target) for x in plan.to_b if isinstance(x, Move)] == [("d", "x"), ("b", "x/f")]
    assert len(plan.to_b) == 2 and not plan.to_a
