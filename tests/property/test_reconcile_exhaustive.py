"""Every (base, A, B) over a few nested paths, through planner and executor, against the oracle."""

from __future__ import annotations

import itertools
import os
import random
import time

import pytest
from reconcile_world import KEEP, Tree, World, describe, leaves

from mountsync.model.plan import ConflictPolicy
from mountsync.model.side import Side
from mountsync.reconcile import Settings

FILES = ("v0", "vA1", "vB22")
LEAVES = (*FILES, "@t")
COMPLETE = bool(os.environ.get("MOUNTSYNC_EXHAUSTIVE"))
SAMPLE = 6_000
CONFLICT = " (conflict 2026-11-20 11-30-00 host)"


def below(path: str, inner: list[Tree]) -> list[Tree]:
    """All trees at `path`: nothing, a leaf, or a directory with one of `inner`."""
    return [{}, *({path: leaf} for leaf in LEAVES), *({path: "/", **tree} for tree in inner)]


NESTED = below("p", below("p/q", below("p/q/r", [{}])))
SIDEWAYS = below("p", [q | s for q in below("p/q", [{}, {"p/q/r": "v0"}]) for s in below("p/s", [{}])])


def check(base: Tree, a: Tree, b: Tree) -> None:
    world = World(base, a, b)
    plan = world.plan()
    try:
        world.apply(plan)
        final = world.tree(Side.A)
        assert final == world.tree(Side.B)
        assert final == {p: world.value(r.entry) for p, r in sorted(world.base.items())}
        again = world.plan()
        assert again.is_empty and not again.to_base and not again.conflicts
        check_oracle(base, a, b, final)
    except AssertionError as error:
        raise AssertionError(f"{base=} {a=} {b=}\n{describe(World(base, a, b), plan)}") from error


def check_oracle(base: Tree, a: Tree, b: Tree, final: Tree) -> None:
    if a == base:
        assert final == b
    if b == base:
        assert final == a
    assert set(leaves(final).values()) <= {*leaves(a).values(), *leaves(b).values()}
    for path in {*base, *a, *b}:
        o, x, y = base.get(path), a.get(path), b.get(path)
        check_path(path, o, x, y, final)
        check_path(path, o, y, x, final)


def check_path(path: str, o: str | None, x: str | None, y: str | None, final: Tree) -> None:
    found = final.get(path)
    if x is not None and x != "/" and x != o:
        places = {p.replace(CONFLICT, "") for p, v in final.items() if v == x}
        assert path in places, "an edit is lost"
    if x == o and x not in ("/", None) and y != o:
        assert found == y
    if x == y and x is not None:
        assert found == x
    if x == "/" and o != "/":
        assert found == "/"
    if x is None and y == o == "/":
        assert (found == "/") is any(p.startswith(f"{path}/") for p in final)


def test_all_states_of_three_nested_paths() -> None:
    started = time.perf_counter()
    cases = list(itertools.product(NESTED, repeat=3))
    for base, a, b in cases:
        check(base, a, b)
    print(f"{len(cases)} states in {time.perf_counter() - started:.1f} s")
    assert len(cases) == 16**3


def test_states_with_a_sibling() -> None:
    started = time.perf_counter()
    cases = itertools.product(SIDEWAYS, repeat=3)
    count = len(SIDEWAYS) ** 3
    chosen = cases if COMPLETE else random.Random(1).sample(list(cases), SAMPLE)
    for base, a, b in chosen:
        check(base, a, b)
    print(f"{count if COMPLETE else SAMPLE} of {count} states in {time.perf_counter() - started:.1f} s")


def test_manual_policy_touches_no_conflict() -> None:
    manual = Settings(when=KEEP.when, host=KEEP.host, policy=lambda _: ConflictPolicy.MANUAL)
    conflicts = 0
    for base, a, b in itertools.product(NESTED, repeat=3):
        world = World(base, a, b, manual)
        plan = world.sync()
        ends = {Side.A: world.tree(Side.A), Side.B: world.tree(Side.B)}
        conflicts += len(plan.conflicts)
        if not plan.conflicts:
            assert ends[Side.A] == ends[Side.B]
        for conflict in plan.conflicts:
            for side, before in ((Side.A, a), (Side.B, b)):
                for tree in (before, ends[side]):
                    assert conflict.path in tree
                inside = {p: v for p, v in before.items() if p.startswith(f"{conflict.path}/")}
                assert inside.items() <= ends[side].items()
                assert before[conflict.path] == ends[side][conflict.path]
        again = world.plan()
        assert again.is_empty
        assert [x.path for x in again.conflicts] == [x.path for x in plan.conflicts]
    assert conflicts > 100


@pytest.mark.parametrize("policy", [ConflictPolicy.A, ConflictPolicy.B])
def test_one_side_wins_where_both_changed_a_file(policy: ConflictPolicy) -> None:
    settings = Settings(when=KEEP.when, host=KEEP.host, policy=lambda _: policy)
    for base, a, b in itertools.product(NESTED, repeat=3):
        world = World(base, a, b, settings)
        world.sync()
        assert world.tree(Side.A) == world.tree(Side.B)
        assert world.plan().is_empty
        winner = a if policy is ConflictPolicy.A else b
        other = b if policy is ConflictPolicy.A else a
        for path, value in leaves(winner).items():
            if value != base.get(path) and other.get(path) != "/":
                assert world.tree(Side.A)[path] == value
