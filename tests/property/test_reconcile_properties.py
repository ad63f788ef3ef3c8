"""What must hold for every pair of histories: convergence, no loss, no invention, a second run idle."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reconcile_histories import MOVING, PLAIN, History, worlds
from reconcile_world import KEEP, Tree, World, leaves

from mountsync.model.entry import Problem
from mountsync.model.plan import Action, ConflictPolicy, Delete, Move, Plan, Put
from mountsync.model.side import Side
from mountsync.paths import RelPath, is_within
from mountsync.reconcile import Direction, Evidence, Settings, SideRules, reconcile

FEW = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
MANY = settings(FEW, max_examples=200)

Given = tuple[Tree, History, History]


def world_of(given_world: Given, rules: Settings = KEEP, *, tokens: bool = True) -> World:
    base, a, b = given_world
    return World(base, a.tree, b.tree, rules, tokens=tokens)


def assert_settled(world: World) -> None:
    assert world.tree(Side.A) == world.tree(Side.B)
    again = world.plan()
    assert again == Plan(to_base=again.to_base)
    assert None not in again.to_base.values()  # what arrived by a move may be noted late, never wrongly
    world.apply(again)
    assert {p: world.value(r.entry) for p, r in sorted(world.base.items())} == world.tree(Side.A)
    assert world.plan() == Plan()


def assert_nothing_lost(given_world: Given, final: Tree) -> None:
    """New and edited contents stay, and so does what neither side deleted nor edited."""
    base, a, b = given_world
    kept = set(leaves(final).values())
    written = {n.value for h in (a, b) for n in h.nodes.values() if n.born is None or n.edited}
    assert written - {"/"} <= kept
    at_a, at_b = a.places(), b.places()
    for path, value in leaves(base).items():
        if path in at_a and path in at_b and not at_a[path][1].edited and not at_b[path][1].edited:
            assert value in kept
    assert kept <= {*leaves(a.tree).values(), *leaves(b.tree).values()}


def assert_deletes_arrive(given_world: Given, final: Tree) -> None:
    """What one side deleted and the other neither edited nor moved is gone."""
    base, a, b = given_world
    for one, other in ((a, b), (b, a)):
        gone, stays, moved = one.places(), other.places(), {s for s, _ in other.moves}
        for path, value in leaves(base).items():
            if path not in gone and path in stays and path not in moved and not stays[path][1].edited:
                assert value not in final.values() or value == "the same on both"


def check(given_world: Given, rules: Settings, *, known: bool, tokens: bool = True) -> World:
    world = world_of(given_world, rules, tokens=tokens)
    moves = {"moves_a": given_world[1].moves, "moves_b": given_world[2].moves} if known else {}
    world.sync(**moves)
    assert_settled(world)
    assert_nothing_lost(given_world, world.tree(Side.A))
    assert_deletes_arrive(given_world, world.tree(Side.A))
    return world


@MANY
@given(worlds(PLAIN))
def test_histories_without_moves_converge_without_loss(x: Given) -> None:
    check(x, KEEP, known=False)


@MANY
@given(worlds(MOVING))
def test_known_moves_converge_without_loss(x: Given) -> None:
    check(x, KEEP, known=True)


@MANY
@given(worlds(MOVING))
def test_inferred_moves_converge_without_loss(x: Given) -> None:
    check(x, replace(KEEP, evidence=Evidence.DIGEST), known=False, tokens=False)


@FEW
@given(worlds(MOVING))
def test_moves_seen_as_create_and_delete_converge_without_loss(x: Given) -> None:
    check(x, KEEP, known=False)


FILE_MOVER = SideRules(moves_directories=False)
NO_MOVER = SideRules(can_move=False)


@MANY
@given(worlds(MOVING), st.sampled_from([FILE_MOVER, NO_MOVER]), st.sampled_from([FILE_MOVER, SideRules()]))
def test_sides_that_move_only_files_or_nothing(x: Given, one: SideRules, two: SideRules) -> None:
    check(x, replace(KEEP, a=one, b=two), known=True)
    check(x, replace(KEEP, a=two, b=one), known=True)


@MANY
@given(worlds(MOVING, size=8), st.data())
def test_a_stop_after_any_action_is_repaired(x: Given, data: st.DataObject) -> None:
    world = world_of(x)
    moves = {"moves_a": x[1].moves, "moves_b": x[2].moves}
    plan = world.plan(**moves)
    whole = world_of(x)
    whole.apply(plan)
    stop = data.draw(st.integers(0, len(whole.done)))
    world.done = _Fuse(stop)  # type: ignore[assignment]  # counts what a list would keep
    try:
        world.apply(plan)
    except _StopError:
        world.done = []
    world.sync()
    assert_settled_but_for_temporary(world)
    assert_nothing_lost(x, world.tree(Side.A))


def assert_settled_but_for_temporary(world: World) -> None:
    assert world.tree(Side.A) == world.tree(Side.B)
    assert world.plan() == Plan()


class _StopError(Exception):
    pass


class _Fuse:
    def __init__(self, left: int) -> None:
        self.left = left

    def append(self, _: Action) -> None:
        if self.left == 0:
            raise _StopError
        self.left -= 1


@FEW
@given(worlds(MOVING), st.booleans())
def test_one_sided_changes_win_exactly(x: Given, ours: bool) -> None:
    base, a, _ = x
    idle = History(base, "z")
    case = (base, a, idle) if ours else (base, idle, a)
    for known in (True, False):
        assert check(case, KEEP, known=known).tree(Side.A) == dict(sorted(a.tree.items()))


@FEW
@given(worlds(MOVING))
def test_equal_trees_need_nothing_whatever_base_says(x: Given) -> None:
    base, a, _ = x
    world = World(base, a.tree, a.tree)
    plan = world.sync()
    assert plan.is_empty and not plan.conflicts and not plan.problems
    assert_settled(world)


@FEW
@given(worlds(MOVING))
def test_equal_moves_on_both_sides_need_nothing(x: Given) -> None:
    base, a, _ = x
    world = World(base, a.tree, a.tree)
    plan = world.sync(moves_a=a.moves, moves_b=a.moves)
    assert plan.is_empty and not plan.conflicts and not plan.problems
    assert_settled(world)


@FEW
@given(worlds(MOVING))
def test_lost_base_is_a_union(x: Given) -> None:
    _, a, b = x
    world = World({}, a.tree, b.tree)
    plan = world.sync()
    assert not any(isinstance(action, Delete) for side in Side for action in plan.of(side))
    assert_settled(world)
    kept = set(leaves(world.tree(Side.A)).values())
    assert kept == {*leaves(a.tree).values(), *leaves(b.tree).values()}


@FEW
@given(worlds(MOVING), st.randoms(use_true_random=False))
def test_the_plan_does_not_depend_on_any_order(x: Given, chance: random.Random) -> None:
    world, other = world_of(x), world_of(x)
    for mapping in (other.base, *other.sides.values()):
        items = list(mapping.items())
        chance.shuffle(items)
        mapping.clear()
        mapping.update(items)
    shuffled = [chance.sample(h.moves, len(h.moves)) for h in x[1:]]
    plan = world.plan(moves_a=x[1].moves, moves_b=x[2].moves)
    assert other.plan(moves_a=shuffled[0], moves_b=shuffled[1]) == plan
    world.apply(plan)
    other.apply(plan, b_first=True)
    assert world.tree(Side.A) == other.tree(Side.A) and world.tree(Side.B) == other.tree(Side.B)


def mirrored(plan: Plan) -> Plan:
    def without_rows(actions: tuple[Action, ...]) -> tuple[Action, ...]:
        return tuple(replace(x, base=None) if isinstance(x, Move) else x for x in actions)

    return replace(plan, to_a=without_rows(plan.to_b), to_b=without_rows(plan.to_a))


@MANY
@given(worlds(MOVING), st.sampled_from([ConflictPolicy.MANUAL, ConflictPolicy.LARGER]))
def test_swapping_the_sides_swaps_the_plan(x: Given, policy: ConflictPolicy) -> None:
    base, a, b = x
    rules = replace(KEEP, policy=lambda _: policy)
    there = World(base, a.tree, b.tree, rules, tokens=False).plan(a.moves, b.moves)
    back = World(base, b.tree, a.tree, rules, tokens=False).plan(b.moves, a.moves)
    if policy is ConflictPolicy.LARGER and any(r.copy for r in there.resolved):
        return  # ties keep both, and there B keeps the name
    assert mirrored(mirrored(there)).to_a == mirrored(back).to_a
    assert mirrored(mirrored(there)).to_b == mirrored(back).to_b
    assert [c.path for c in there.conflicts] == [c.path for c in back.conflicts]


@FEW
@given(worlds(MOVING))
def test_manual_policy_loses_nothing_anywhere(x: Given) -> None:
    world = world_of(x, replace(KEEP, policy=lambda _: ConflictPolicy.MANUAL))
    plan = world.sync(moves_a=x[1].moves, moves_b=x[2].moves)
    for side, history in ((Side.A, x[1]), (Side.B, x[2])):
        kept = set(leaves(world.tree(side)).values())
        assert {n.value for n in history.nodes.values() if n.edited or n.born is None} - {"/"} <= kept
    if not plan.conflicts:
        assert world.tree(Side.A) == world.tree(Side.B)
    again = world.plan()
    assert again.is_empty
    assert [c.path for c in again.conflicts] == [c.path for c in plan.conflicts]


@MANY
@given(worlds(MOVING), st.data())
def test_what_cannot_be_read_is_never_deleted_nor_touched(x: Given, data: st.DataObject) -> None:
    base, a, b = x
    everything = sorted({*base, *a.tree, *b.tree})
    if not everything:
        return
    bad = RelPath(data.draw(st.sampled_from(everything)))
    for side in Side:
        world = world_of(x)
        problems = {bad: Problem("cannot be read")}
        before = {s: world.tree(s) for s in Side}
        plan = world.plan(**{f"problems_{side.value}": problems})  # type: ignore[arg-type]  # one keyword
        world.apply(plan)
        assert bad in plan.problems
        for s in Side:
            inside = {p: v for p, v in before[s].items() if is_within(RelPath(p), bad)}
            after = {p: v for p, v in world.tree(s).items() if is_within(RelPath(p), bad)}
            assert inside == after
        world.sync()
        assert_settled(world)
        assert_nothing_lost(x, world.tree(Side.A))


@MANY
@given(worlds(MOVING), st.data())
def test_known_moves_around_what_cannot_be_read(x: Given, data: st.DataObject) -> None:
    base, a, b = x
    everything = sorted({*base, *a.tree, *b.tree})
    if not everything:
        return
    bad = RelPath(data.draw(st.sampled_from(everything)))
    world = world_of(x)
    plan = world.plan(a.moves, b.moves, problems_b={bad: Problem("cannot be read")})
    before = {v for p, v in leaves(b.tree).items() if is_within(RelPath(p), bad)}
    world.apply(plan)
    assert before <= set(leaves(world.tree(Side.B)).values())
    world.sync()
    assert_settled(world)
    assert_nothing_lost(x, world.tree(Side.A))


@FEW
@given(worlds(MOVING), st.booleans())
def test_mirror_makes_the_target_equal_and_leaves_the_source(x: Given, known: bool) -> None:
    world = world_of(x, replace(KEEP, direction=Direction.MIRROR))
    plan = world.sync(moves_a=x[1].moves if known else ())
    assert not plan.to_a and not plan.conflicts and not plan.problems
    assert world.tree(Side.B) == world.tree(Side.A) == dict(sorted(x[1].tree.items()))
    assert world.plan().is_empty


@FEW
@given(worlds(MOVING), st.booleans())
def test_adding_never_deletes_on_the_target(x: Given, known: bool) -> None:
    world = world_of(x, replace(KEEP, direction=Direction.ADD))
    plan = world.sync(moves_a=x[1].moves if known else ())
    assert not plan.to_a
    assert not any(isinstance(action, Delete) for action in plan.to_b)
    before, after = x[2].tree, world.tree(Side.B)
    blocked = [c.path for c in plan.conflicts]
    for path, value in x[1].tree.items():
        if not any(is_within(RelPath(path), c) for c in blocked):
            assert after[path] == value
    if not known:
        assert set(before) <= set(after)
    assert world.plan().is_empty


@FEW
@given(worlds(MOVING))
def test_a_side_without_empty_directories(x: Given) -> None:
    base, a, b = x
    flat = replace(KEEP, b=SideRules(empty_directories=False, moves_directories=False))
    world = World(base, a.tree, leaves(b.tree), flat)
    world.sync(moves_a=a.moves, moves_b=[(s, t) for s, t in b.moves if b.tree[t] != "/"])
    assert leaves(world.tree(Side.A)) == leaves(world.tree(Side.B)) == world.tree(Side.B)
    assert world.plan().is_empty
    assert_nothing_lost((base, a, b), world.tree(Side.A))
    for path, value in a.tree.items():
        empty = value == "/" and not any(p.startswith(f"{path}/") for p in a.tree)
        if empty and not any(is_within(RelPath(path), RelPath(leaf)) for leaf in leaves(b.tree)):
            assert world.tree(Side.A).get(path) == "/"


def test_a_renamed_directory_is_one_move_and_edits_follow() -> None:
    base = {"d": "/", "d/f": "one", "d/g": "two", "d/s": "/", "d/s/h": "three"}
    world = World(base, {}, {}, replace(KEEP, evidence=Evidence.DIGEST))
    world = World(
        base,
        {p.replace("d", "e", 1): v for p, v in base.items()},
        {**base, "d/g": "edited"},
        replace(KEEP, evidence=Evidence.DIGEST),
    )
    plan = world.sync()
    assert [(x.source, x.target) for x in plan.to_b if isinstance(x, Move)] == [("d", "e")]
    assert [x.path for x in plan.to_a if isinstance(x, Put)] == ["e/g"]
    assert len(plan.to_a) == len(plan.to_b) == 1
    assert world.tree(Side.A)["e/g"] == "edited"
    assert_settled(world)


def test_reconcile_reads_what_it_is_given_and_changes_nothing() -> None:
    world = World({"p": "old"}, {"p": "new"}, {"p": "old"})
    before = (dict(world.sides[Side.A]), dict(world.sides[Side.B]), dict(world.base))
    reconcile(world.scan(Side.A), world.scan(Side.B), world.base, settings=KEEP)
    assert before == (world.sides[Side.A], world.sides[Side.B], world.base)
