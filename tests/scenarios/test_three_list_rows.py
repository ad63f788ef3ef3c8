"""The rows of a sync that compares both listings first and then asks the previous ones, under its names.

What it does otherwise is said where it is: it tags both versions where we keep one under a conflict
name, and it never syncs some names that travel here.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from mountsync.errors import StateLocked
from mountsync.model.plan import ConflictPolicy
from mountsync.model.side import Side
from mountsync.paths import RelPath, ancestors
from mountsync.reconcile import Comparison, Evidence
from mountsync.storage import api
from mountsync.storage.memory import MemoryStorage
from tests.parts.failing import failing
from tests.parts.pairs import Pair, kept, memory_pair, old, tree_of


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return memory_pair(tmp_path)


@pytest.fixture(params=["a", "b"])
def turned(request: pytest.FixtureRequest, pair: Pair) -> tuple[object, object]:
    """Both sides, in both orders: every row holds for either."""
    return (pair.a, pair.b) if request.param == "a" else (pair.b, pair.a)


async def fill(pair: Pair, *names: str, **options) -> None:
    for name in names:
        await old(pair.a, name, b"old " + name.encode())
    await pair.sync(**options)


async def delete(storage, path: str) -> None:
    await storage._below.delete(RelPath(path))


async def move(storage, source: str, target: str) -> None:
    await storage._below.move(RelPath(source), RelPath(target))


async def test_new_on_one_side(pair, turned):
    await fill(pair, "x")
    await old(turned[0], "d/new", b"1", age=1)
    await pair.sync()
    assert await pair.agreed() == {"x": b"old x", "d": None, "d/new": b"1"}


async def test_deleted_and_unchanged_is_deleted_and_backed_up(pair, turned):
    await fill(pair, "x", "y")
    await delete(turned[0], "x")
    await pair.sync()
    assert await pair.agreed() == {"y": b"old y"}
    assert (await kept(turned[0]), await kept(turned[1])) == ({}, {"x": b"old x"})


async def test_delete_conflict_the_modified_copy_wins(pair, turned):
    await fill(pair, "x", "y")
    await delete(turned[0], "x")
    await old(turned[1], "x", b"modified", age=1)
    report = await pair.sync(conflict=ConflictPolicy.A)
    assert (report.exit_code, await pair.agreed()) == (0, {"x": b"modified", "y": b"old y"})


async def test_modified_on_one_side_is_not_tagged_and_the_old_bytes_are_kept(pair, turned):
    await fill(pair, "x")
    await old(turned[0], "x", b"modified", age=1)
    await pair.sync()
    assert await pair.agreed() == {"x": b"modified"}
    assert (await kept(turned[0]), await kept(turned[1])) == ({}, {"x": b"old x"})


async def test_no_previous_list_is_a_conflict(pair):
    await old(pair.a, "x", b"from a")
    await old(pair.b, "x", b"from b!")
    report = await pair.sync(conflict=ConflictPolicy.MANUAL)
    assert [conflict.path for conflict in report.conflicts] == ["x"]


async def test_move_attribs(pair):
    """Renames are followed by content: also where size, time or candidates would leave a doubt."""
    await fill(pair, "alone", "moved into")
    for name in ("twin 1", "twin 2"):
        await old(pair.a, name, b"the same in both")
    await pair.sync()
    await move(pair.a, "alone", "d/alone")
    await move(pair.a, "moved into", "moved")
    await move(pair.a, "twin 1", "d/twin 1")
    await move(pair.a, "twin 2", "d/twin 2")
    writes = pair.b.faults.calls["write"]
    report = await pair.sync(confirmed=True)
    assert report.counts(Side.B).get("renamed", 0) == 4
    assert pair.b.faults.calls["write"] == writes + 1, "the mark of the pair, and no body"
    assert (await pair.agreed())["d/twin 2"] == b"the same in both"


async def test_move_attribs_a_source_that_was_edited_there_is_followed_with_its_edit(pair, turned):
    await fill(pair, "x", "keep")
    await move(turned[0], "x", "y")
    await old(turned[1], "x", b"edited meanwhile", age=1)
    await pair.sync()
    assert await pair.agreed() == {"y": b"edited meanwhile", "keep": b"old keep"}


async def test_avoid_relist(pair):
    """What is remembered is what a listing would tell: the next run has nothing to hash and to do."""
    await fill(pair, "x", "d/y", "d/z", "gone")
    await old(pair.b, "x", b"edited", age=1)
    await move(pair.a, "d/y", "e/y")
    await delete(pair.b, "gone")
    await old(pair.a, "new", b"new", age=2)
    await pair.sync()
    report = await pair.sync()
    assert (report.done, report.hashed) == ([], 0)


async def test_reuse_hash(pair):
    await fill(pair, "x", "y", "z")
    await old(pair.a, "y", b"edited", age=1)
    read = pair.a.faults.calls["digest"]
    await pair.sync()
    assert pair.a.faults.calls["digest"] - read <= 1


@pytest.mark.parametrize("compare", list(Comparison))
async def test_no_hashes(tmp_path, compare):
    bare = (api.SupportsDigest, api.SupportsHashes)
    pair = Pair(
        tmp_path,
        failing(MemoryStorage("a"), without=bare),
        failing(MemoryStorage("b"), without=bare),
        compare=compare,
    )
    await fill(pair, "x", "y")
    await old(pair.a, "x", b"edited", age=1)
    assert (await pair.sync()).exit_code == 0
    assert await pair.agreed() == {"x": b"edited", "y": b"old y"}


async def test_hash_compare_sync(pair):
    await old(pair.a, "x", b"same size 1")
    await old(pair.b, "x", b"same size 2")
    report = await pair.sync(compare=Comparison.HASH, conflict=ConflictPolicy.A)
    assert (report.exit_code, await pair.agreed()) == (0, {"x": b"same size 1"})


async def test_locks(pair):
    gate_reached = []

    async def second_run():
        with pytest.raises(StateLocked):
            await pair.sync()
        gate_reached.append(True)

    await old(pair.a, "x", b"1")
    pair.b.faults.meanwhile(1, second_run)
    assert (await pair.sync()).exit_code == 0
    assert gate_reached == [True]
    assert (await pair.sync()).exit_code == 0, "nothing is left that would have to be broken"


@pytest.mark.parametrize("without", [(api.SupportsMove,), (api.SupportsMove, api.SupportsCopy)])
async def test_disable_moves(tmp_path, without):
    pair = Pair(
        tmp_path, failing(MemoryStorage("a"), without=without), failing(MemoryStorage("b"), without=without)
    )
    await fill(pair, "d/x", "y", "z", "keep")
    await move(pair.a, "d/x", "moved")
    await delete(pair.a, "y")
    await old(pair.a, "z", b"edited", age=1)
    assert (await pair.sync(confirmed=True)).exit_code == 0
    found = await pair.agreed()
    assert {path: data for path, data in found.items() if data is not None} == {
        "moved": b"old d/x", "z": b"edited", "keep": b"old keep",
    }  # fmt: skip
    assert {"y": b"old y", "z": b"old z"}.items() <= (await kept(pair.b)).items()


async def test_emptydir(pair):
    for name in ("was empty", "stays/empty"):
        for side in (pair.a, pair.b):
            await side._below.make_directory(RelPath(name))
    await fill(pair, "emptied/x", "last at the root")
    await delete(pair.a, "emptied/x")
    await pair.a._below.remove_directory(RelPath("emptied"))
    await delete(pair.a, "last at the root")
    await pair.sync(confirmed=True)
    assert set(await pair.agreed()) == {"was empty", "stays", "stays/empty"}


_SHAPES = {
    "whole": {"d/": "e/"},
    "into another": {"d/": "other/d/"},
    "into a new one": {"d/": "new/deep/d/"},
    "one level up": {"d/sub/": "sub/"},
    "partial": {"d/1": "e/1"},
    "nested": {"d/sub/": "e/sub/", "d/": "f/"},
    "into itself": {"d/1": "d/sub/1", "d/2": "d/sub/2"},
    "contents": {"d/1": "other/1", "d/2": "other/2", "d/sub/": "other/sub/"},
    "renamed and moved": {"d/": "other/renamed/", "other/x": "other/y"},
}


@pytest.mark.parametrize("evidence", [Evidence.DIGEST, Evidence.NONE])
@pytest.mark.parametrize("shape", _SHAPES)
async def test_directory_moves(pair, turned, shape, evidence):
    names = ("d/1", "d/2", "d/sub/3", "d/sub/deep/4", "d/excluded.no", "other/x", "keep")
    options = {"patterns": ("*.no",), "renames": evidence, "confirmed": True}
    await fill(pair, *(name for name in names if not name.endswith(".no")), **options)
    here, there = turned
    await old(there, "d/excluded.no", b"stays where it is")
    for source, target in _SHAPES[shape].items():
        await make_parents(here, target.rstrip("/"))
        await move(here, source.rstrip("/"), target.rstrip("/"))
    wanted = {path: data for path, data in (await tree_of(here)).items() if data is not None}
    assert (await pair.sync(**options)).exit_code == 0
    found = {path: data for path, data in (await tree_of(there)).items() if data is not None}
    excluded = {path: data for path, data in found.items() if path.endswith(".no")}
    assert {path: data for path, data in found.items() if path not in excluded} == wanted
    assert list(excluded.values()) == [b"stays where it is"]
    assert not (await pair.sync(**options)).done


async def make_parents(storage, path: str) -> None:
    for folder in reversed([*ancestors(RelPath(path))]):
        if folder and await storage._below.stat(folder) is None:
            await storage._below.make_directory(folder)
