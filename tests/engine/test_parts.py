"""The small parts of the engine, each by itself."""

from __future__ import annotations

import pytest
import trio

from mountsync.engine.apply import LARGE, Executor, Lanes
from mountsync.engine.ledger import Ledger
from mountsync.engine.scope import ScopeBuilder
from mountsync.engine.settle import wait_before_retry
from mountsync.engine.storage_replica import nothing_hidden
from mountsync.engine.transfers import Pace, Transfers
from mountsync.errors import NoSpace, Stale, Unreachable
from mountsync.model.entry import DIRECTORY, Entry, Kind, Token
from mountsync.model.plan import Delete, MakeDirectory, Move, Plan, Put, Side
from mountsync.paths import RelPath
from mountsync.state.tree import ROOT_ID, NodeId
from mountsync.storage.memory import MemoryStorage
from mountsync.storage.sources import BytesSource
from tests.parts.bodies import put
from tests.parts.failing import failing
from tests.parts.mounted import mounted

# Ledger


def claim(ledger: Ledger, *names: bytes, folders=(), shifted=(), nodes=()):
    return ledger.claim([(ROOT_ID, name) for name in names], folders, shifted, nodes)


def test_cycles_share_no_place_no_node_and_no_moving_directory():
    ledger = Ledger()
    first = claim(ledger, b"a", folders=[NodeId(5)], nodes=[NodeId(9)])
    assert first is not None
    assert claim(ledger, b"a") is None
    assert claim(ledger, b"b", shifted=[NodeId(5)]) is None
    assert claim(ledger, b"b", nodes=[NodeId(9)]) is None
    second = claim(ledger, b"c", shifted=[NodeId(6)])
    assert second is not None
    assert claim(ledger, b"d", folders=[NodeId(6)]) is None
    ledger.release(first)
    ledger.release(second)
    assert ledger.is_idle
    assert claim(ledger, b"a", b"d", folders=[NodeId(6)], shifted=[NodeId(5)]) is not None


def test_an_observation_is_void_where_a_cycle_worked_since():
    ledger = Ledger()
    with ledger.looking() as early:
        held = claim(ledger, b"a")
        assert not early.holds_for((ROOT_ID, b"a"))
        ledger.release(held)
        assert not early.holds_for((ROOT_ID, b"a"))
        assert early.holds_for((ROOT_ID, b"b"))
        with ledger.looking() as late:
            assert late.holds_for((ROOT_ID, b"a"))
    with ledger.looking() as fresh:
        assert fresh.holds_for((ROOT_ID, b"a"))


def test_waits_grow_with_attempts_up_to_minutes():
    for attempts in range(40):
        wait = wait_before_retry(attempts, transient=True)
        assert min(2.0 * 2**attempts, 600.0) / 2 <= wait <= min(2.0 * 2**attempts, 600.0)
    assert wait_before_retry(0, transient=False) == 3600.0


async def test_a_bandwidth_limit_is_shared(quick_clock):
    pace = Pace(1000)
    began = trio.current_time()

    async def take(count: int) -> None:
        for _ in range(count):
            await pace.take(100)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(take, 10)
        nursery.start_soon(take, 10)
    assert trio.current_time() - began == pytest.approx(1.9)


# Scopes


@pytest.fixture
async def tree(home):
    storage = failing(MemoryStorage())
    for name in ("d/s/f", "d/g", "e/h"):
        await put(storage, name, name.encode())
    return storage


def scope_of(m, *paths: str, hidden=nothing_hidden):
    builder = ScopeBuilder(m.tree, m.base, m.journal, hidden)
    builder.add_nodes(m.tree.resolve(path.encode()) for path in paths)
    return builder.build()


async def test_a_renamed_directory_is_one_move(quick_clock, home, tree):
    async with mounted(home, tree, running=False) as m:
        await m.local_tree()
        await m.rename("d", "n")
        await m.write("n/s/f", b"edited")
        scope = scope_of(m, "n/s/f")
        assert scope.moves_a == [("d", "n")]
        assert scope.a.keys() >= {"n", "n/s", "n/s/f"}
        assert scope.b.keys() >= {"d", "d/s", "d/s/f"}
        assert "d/g" not in scope.b


async def test_nested_renames_and_swaps(quick_clock, home, tree):
    async with mounted(home, tree, running=False) as m:
        await m.local_tree()
        await m.rename("d/s", "e/s")
        await m.rename("e", "n")
        scope = scope_of(m, "n/s")
        assert sorted(scope.moves_a) == [("d/s", "n/s"), ("e", "n")]
        await m.rename("d", "n", 2)
        scope = scope_of(m, "n", "d", "d/s")
        assert sorted(scope.moves_a) == [("d", "n"), ("d/s", "d/s"), ("e", "d")]


async def test_hard_links_are_looked_at_together(quick_clock, home, tree):
    async with mounted(home, tree, running=False) as m:
        await m.local_tree()
        await m.link("d/g", "e/link")
        await m.append("d/g", b"!")
        scope = scope_of(m, "d/g")
        assert {"d/g", "e/link"} <= scope.a.keys()
        assert len({scope.a[RelPath(path)].token for path in ("d/g", "e/link")}) == 1


async def test_hidden_names_are_on_no_side(quick_clock, home, tree):
    async with mounted(home, tree, running=False) as m:
        await m.local_tree()
        await m.rename("d/g", "d/secret")
        scope = scope_of(m, "d/secret", hidden=lambda path, *, is_directory: path.endswith("secret"))
        assert "d/secret" not in scope.a
        assert scope.b.keys() >= {"d/g"}
        assert scope.moves_a == []


# Executor


class Spy:
    """A side that notes what it is asked for, and fails or waits where it is told to."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.errors: dict[str, Exception] = {}
        self.gates: dict[str, trio.Event] = {}
        self.running = 0
        self.most = 0

    async def _do(self, path: str) -> Entry:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await trio.lowlevel.checkpoint()
            if path in self.gates:
                await self.gates[path].wait()
            if path in self.errors:
                raise self.errors[path]
        finally:
            self.running -= 1
        self.done.append(path)
        return Entry(Kind.FILE, token=Token("t"))

    async def put(self, action, source):
        return await self._do(action.path)

    async def make_directory(self, action):
        return await self._do(action.path)

    async def delete(self, action):
        await self._do(action.path)

    async def move(self, action):
        return await self._do(action.target)

    async def barrier(self) -> None:
        self.done.append("barrier")

    def body(self, path, entry):
        return Body(entry.size)


class Body:
    def __init__(self, size: int) -> None:
        self._size = size

    async def __aenter__(self):
        return BytesSource(b"x" * min(self._size, 10))

    async def __aexit__(self, *what) -> None:
        """Nothing is open."""


class Notes:
    def __init__(self) -> None:
        self.good: list[str] = []
        self.bad: dict[str, Exception] = {}

    def done(self, side, action, entry) -> None:
        self.good.append(getattr(action, "path", None) or action.target)

    def failed(self, side, action, error) -> None:
        self.bad[getattr(action, "path", None) or action.target] = error

    def settle_moves(self) -> None:
        self.good.append("moves are written down")


async def run(*to_b, transfers: int = 4, prepare=lambda b: None):
    a, b, notes = Spy(), Spy(), Notes()
    prepare(b)

    async def no_hash(_side, _source):
        return None

    executor = Executor(a, b, notes, Lanes(transfers), Transfers(), no_hash)
    await executor.run(Plan(to_b=to_b))
    return b, notes


def file_to(path: str, size: int = 1) -> Put:
    return Put(RelPath(path), RelPath(path), Entry(Kind.FILE, size), None)


async def test_parents_come_before_what_is_in_them_and_go_after_it():
    b, _ = await run(
        Move(RelPath("x"), RelPath("y"), DIRECTORY),
        MakeDirectory(RelPath("d"), DIRECTORY),
        MakeDirectory(RelPath("d/s"), DIRECTORY),
        file_to("d/s/f"),
        Delete(RelPath("old/f"), Entry(Kind.FILE)),
        Delete(RelPath("old"), DIRECTORY),
    )
    assert b.done == ["y", "d", "d/s", "d/s/f", "old/f", "old", "barrier"]


async def test_one_bad_path_stops_only_what_depends_on_it():
    def prepare(b):
        b.errors = {"d": NoSpace("full"), "f3": Stale("changed")}

    actions = [MakeDirectory(RelPath("d"), DIRECTORY), file_to("d/f"), *(file_to(f"f{n}") for n in range(8))]
    _, notes = await run(*actions, prepare=prepare)
    assert sorted(notes.bad) == ["d", "d/f", "f3"]
    assert notes.bad["d/f"].transient  # tried again as soon as the directory is
    assert len(notes.good) == 7


async def test_nothing_takes_the_place_of_what_could_not_be_moved_away():
    def prepare(b):
        b.errors = {"y": Stale("changed")}

    moves = [Move(RelPath(a), RelPath(b), Entry(Kind.FILE)) for a, b in (("x", "y"), ("w", "x"), ("u", "v"))]
    b, notes = await run(*moves, file_to("x/f"), file_to("w2"), prepare=prepare)
    assert sorted(notes.bad) == ["x", "x/f", "y"]
    assert isinstance(notes.bad["x"], Stale)
    assert b.done == ["v", "w2", "barrier"]


async def test_once_out_of_reach_nothing_more_is_tried():
    def prepare(b):
        b.errors = {f"f{n}": Unreachable("gone") for n in range(1000)}

    b, notes = await run(*(file_to(f"f{n}") for n in range(1000)), prepare=prepare)
    assert len(notes.bad) == 1000
    assert b.most <= 8


async def test_no_more_bodies_at_once_than_allowed_and_a_lane_for_small_ones():
    gate = trio.Event()

    def prepare(b):
        b.gates = {f"large{n}": gate for n in range(5)}

    async with trio.open_nursery() as nursery:
        found = []

        async def go() -> None:
            large = [file_to(f"large{n}", LARGE + 1) for n in range(5)]
            small = [file_to(f"small{n}") for n in range(20)]
            found.append(
                await run(*large, *small, transfers=3, prepare=lambda b: (spies.append(b), prepare(b)))
            )

        spies: list[Spy] = []
        nursery.start_soon(go)
        await trio.testing.wait_all_tasks_blocked()
        assert len(spies[0].done) == 20  # all small ones, while large ones wait
        gate.set()
    assert spies[0].most <= 3
    assert len(found[0][1].good) == 25


async def test_cancelled_at_any_moment_nothing_is_half_recorded(quick_clock, home):
    """A cycle that is cancelled leaves base and journal as they were, and the next one goes on."""
    for moment in range(1, 40, 3):
        storage = failing(MemoryStorage())
        async with mounted(home / str(moment), storage, running=False) as m:
            await m.mkdir("d") if await m.names() == [] else None
            await m.write("d/f", b"1")
            m.condition.looked = True
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(m.engine.session.dispatcher.run)
                    m.dispatcher.hurried = 1
                    m.dispatcher.ring()
                    for _ in range(moment):
                        await trio.lowlevel.checkpoint()
                    scope.cancel()
            m.dispatcher.hurried = 0
        async with mounted(home / str(moment), storage) as m:
            await m.flush()
            assert await m.remote_tree() == await m.local_tree() == {"d": None, "d/f": b"1"}
            m.check()


@pytest.mark.parametrize("side", list(Side))
def test_sides_have_two_ends(side):
    assert side.other.other is side
