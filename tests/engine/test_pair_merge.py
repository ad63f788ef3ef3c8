"""One run of a pair: what each side changed arrives on the other, and nothing is lost."""

from __future__ import annotations

import pytest

from mountsync.errors import PermissionDenied
from mountsync.model.plan import ConflictPolicy
from mountsync.model.side import Side
from mountsync.paths import RelPath
from mountsync.storage import api
from mountsync.storage.memory import MemoryStorage
from tests.parts.failing import failing
from tests.parts.pairs import Pair, kept, local_pair, memory_pair, old, tree_of


@pytest.fixture(params=["memory", "local", "bare"])
def pair(request, home) -> Pair:
    if request.param == "memory":
        return memory_pair(home)
    if request.param == "local":
        return local_pair(home)
    without = (api.SupportsMove, api.SupportsCopy, api.SupportsSymlinks, api.SupportsDigest)
    bare = failing(MemoryStorage("b"), without=without)
    return Pair(home, failing(MemoryStorage("a")), bare)


async def test_first_run_is_a_union(pair):
    await old(pair.a, "only/a", b"1")
    await old(pair.b, "only/b", b"2")
    await old(pair.a, "same", b"both")
    await old(pair.b, "same", b"both", age=5)
    report = await pair.sync()
    assert report.first
    assert report.exit_code == 0
    assert await pair.agreed() == {"only": None, "only/a": b"1", "only/b": b"2", "same": b"both"}


async def test_second_run_does_nothing(pair):
    for number in range(20):
        await old(pair.a, f"d{number % 3}/f{number}", b"%d" % number)
    await pair.sync()
    before = (pair.folder / "pair.db").read_bytes()
    effects = pair.a.faults.effects, pair.b.faults.effects
    report = await pair.sync()
    assert not report.done
    assert report.hashed == 0
    assert (pair.a.faults.effects, pair.b.faults.effects) == effects
    assert (pair.folder / "pair.db").read_bytes() == before


async def test_changes_go_both_ways(pair):
    for name in ("x", "y", "z", "w"):
        await old(pair.a, name, b"old " + name.encode())
    await pair.sync()
    await old(pair.a, "x", b"new x", age=1)
    await old(pair.b, "y", b"new y!", age=2)
    await pair.a.delete(RelPath("z"))
    await pair.b.delete(RelPath("w"))
    report = await pair.sync()
    assert report.exit_code == 0
    assert await pair.agreed() == {"x": b"new x", "y": b"new y!"}
    assert await kept(pair.b) == {"x": b"old x", "z": b"old z"}
    assert await kept(pair.a) == {"y": b"old y", "w": b"old w"}


async def test_edit_beats_delete(pair):
    await old(pair.a, "x", b"old")
    await old(pair.a, "y", b"old")
    await pair.sync()
    await pair.a.delete(RelPath("x"))
    await old(pair.b, "x", b"edited", age=1)
    await pair.b.delete(RelPath("y"))
    await old(pair.a, "y", b"edited too", age=1)
    await pair.sync()
    assert await pair.agreed() == {"x": b"edited", "y": b"edited too"}


async def test_both_edited_keeps_both(pair):
    await old(pair.a, "d/x.txt", b"old")
    await pair.sync()
    await old(pair.a, "d/x.txt", b"from a", age=1)
    await old(pair.b, "d/x.txt", b"from b", age=2)
    report = await pair.sync()
    found = await pair.agreed()
    assert sorted(v for v in found.values() if v) == [b"from a", b"from b"]
    assert len(report.resolved) == 1
    assert all(path.endswith(".txt") for path, data in found.items() if data)
    assert not (await pair.sync()).done


async def test_manual_touches_nothing_and_tells(pair):
    await old(pair.a, "x", b"old")
    await pair.sync()
    await old(pair.a, "x", b"from a", age=1)
    await old(pair.b, "x", b"from b", age=2)
    await old(pair.a, "other", b"goes on")
    report = await pair.sync(conflict=ConflictPolicy.MANUAL)
    assert report.exit_code == 1
    assert [conflict.path for conflict in report.conflicts] == ["x"]
    assert (await tree_of(pair.a))["x"] == b"from a"
    assert await tree_of(pair.b) == {"other": b"goes on", "x": b"from b"}
    await old(pair.b, "x", b"from a", age=3)
    assert (await pair.sync(conflict=ConflictPolicy.MANUAL)).exit_code == 0


async def test_same_edit_on_both_sides_is_no_conflict(pair):
    await old(pair.a, "x", b"old")
    await pair.sync()
    await old(pair.a, "x", b"equal", age=1)
    await old(pair.b, "x", b"equal", age=2)
    report = await pair.sync()
    assert report.exit_code == 0
    assert not report.resolved
    assert await pair.agreed() == {"x": b"equal"}


async def test_type_changes_converge(pair):
    await old(pair.a, "p", b"file")
    await old(pair.a, "q/inner", b"in q")
    await pair.sync()
    await pair.a.delete(RelPath("p"))
    await old(pair.a, "p/now/deep", b"folder")
    await pair.a.delete(RelPath("q/inner"))
    await pair.a._below.remove_directory(RelPath("q"))
    await old(pair.a, "q", b"file now")
    await pair.a._below.make_symlink(RelPath("l"), "target")
    report = await pair.sync()
    assert report.exit_code == 0
    found = await pair.agreed()
    assert found == {"p": None, "p/now": None, "p/now/deep": b"folder", "q": b"file now", "l": "-> target"}
    assert not (await pair.sync()).done


async def test_a_link_becomes_a_file_and_back(pair):
    await pair.a._below.make_symlink(RelPath("l"), "target")
    await pair.sync()
    await old(pair.a, "l", b"file")
    assert (await pair.sync()).exit_code == 0
    assert await pair.agreed() == {"l": b"file"}
    await pair.a._below.make_symlink(RelPath("l"), "again")
    assert (await pair.sync()).exit_code == 0
    assert await pair.agreed() == {"l": "-> again"}


async def test_renames_carry_no_bytes(home):
    pair = memory_pair(home)
    for name in ("one", "two", "d/three", "d/four"):
        await old(pair.a, name, name.encode() * 10)
    await pair.sync()
    below = pair.a._below
    await below.move(RelPath("one"), RelPath("tmp"))
    await below.move(RelPath("two"), RelPath("one"))
    await below.move(RelPath("tmp"), RelPath("two"))
    await below.move(RelPath("d"), RelPath("e"))
    writes = pair.b.faults.calls["write"]
    report = await pair.sync()
    assert pair.b.faults.calls["write"] == writes + 1, "only the mark"
    assert report.counts(Side.B) == {"renamed": 3}
    found = await pair.agreed()
    assert found["one"] == b"two" * 10
    assert found["e/three"] == b"d/three" * 10
    assert not (await pair.sync()).done


async def test_a_bad_path_does_not_stop_the_others(home):
    pair = memory_pair(home)
    for name in ("bad", "good", "more"):
        await old(pair.a, name, name.encode())
    pair.a.faults.fail_path(RelPath("bad"), PermissionDenied("permission denied", path="bad"))
    report = await pair.sync()
    assert report.exit_code == 3
    assert report.problems["bad"].error == "PermissionDenied"
    assert await tree_of(pair.b) == {"good": b"good", "more": b"more"}
    pair.a.faults.fail_path(RelPath("bad"), None)
    assert (await pair.sync()).exit_code == 0
    assert "bad" in await pair.agreed()


async def test_backups_off_keeps_nothing(pair):
    await old(pair.a, "x", b"old")
    await pair.sync(backups=None)
    await pair.a.delete(RelPath("x"))
    await pair.sync(backups=None)
    assert await pair.agreed() == {}
    assert await kept(pair.b) == {}
