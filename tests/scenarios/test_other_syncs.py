"""What other two-way syncs pin with their own tests, where it applies here.

The first part follows the rows of a three-list algorithm (drop what is equal, then new, modified,
deleted, then moves, then conflicts), the second the scenarios of `rclone bisync`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mountsync.errors import UsageError
from mountsync.model.plan import ConflictPolicy
from mountsync.model.side import Side
from mountsync.paths import RelPath
from mountsync.reconcile import Comparison, DeleteLimit, Evidence
from mountsync.storage import api
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import get
from tests.parts.failing import failing
from tests.parts.pairs import Pair, kept, memory_pair, old, tree_of


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return memory_pair(tmp_path)


async def fill(pair: Pair, *names: str, **options) -> None:
    for name in names:
        await old(pair.a, name, b"old " + name.encode())
    await pair.sync(**options)


async def move(storage, source: str, target: str) -> None:
    await storage._below.move(RelPath(source), RelPath(target))


# Rows of the algorithm


async def test_equal_content_that_appears_on_both_sides_is_no_difference(pair):
    await fill(pair, "x")
    await old(pair.a, "y", b"same", age=1)
    await old(pair.b, "y", b"same", age=90)
    report = await pair.sync()
    assert not [done for done in report.done if "new" in str(done.action)]
    assert (report.exit_code, len(await pair.agreed())) == (0, 2)


async def test_a_rename_with_an_edit_is_not_taken_for_a_rename(pair):
    await fill(pair, "x", "keep")
    await move(pair.a, "x", "y")
    await old(pair.a, "y", b"edited after the rename", age=1)
    await pair.sync()
    assert await pair.agreed() == {"y": b"edited after the rename", "keep": b"old keep"}


async def test_the_same_rename_on_both_sides_is_silent(pair):
    await fill(pair, "x", "keep")
    await move(pair.a, "x", "d/y")
    await move(pair.b, "x", "d/y")
    assert not (await pair.sync()).done


async def test_renamed_here_and_edited_there_gives_both(pair):
    await fill(pair, "x", "keep")
    await move(pair.a, "x", "y")
    await old(pair.b, "x", b"edited", age=1)
    assert (await pair.sync()).exit_code == 0
    assert (await pair.agreed())["y"] == b"edited"


@pytest.mark.parametrize("evidence", list(Evidence))
async def test_renames_by_each_evidence_end_alike(pair, evidence):
    await fill(pair, "a", "b", "c", renames=evidence)
    for name in "abc":
        await move(pair.a, name, f"d/{name}{name}")
    report = await pair.sync(renames=evidence, confirmed=True)
    assert set(await pair.agreed()) == {"d", "d/aa", "d/bb", "d/cc"}
    renamed = report.counts(Side.B).get("renamed", 0)
    assert renamed == (0 if evidence is Evidence.NONE else 3)


@pytest.mark.parametrize("policy", list(ConflictPolicy))
async def test_resolve_by_each_policy(pair, policy):
    await fill(pair, "x.txt")
    await old(pair.a, "x.txt", b"newer", age=9)
    await old(pair.b, "x.txt", b"longer and older", age=5)
    await pair.sync(conflict=policy)
    a, b = await pair.trees()
    if policy is ConflictPolicy.MANUAL:
        assert (a, b) == ({"x.txt": b"newer"}, {"x.txt": b"longer and older"})
        return
    assert a == b
    if policy is ConflictPolicy.KEEP_BOTH:
        assert sorted(a.values()) == [b"longer and older", b"newer"]
        return
    first = policy in (ConflictPolicy.A, ConflictPolicy.NEWER, ConflictPolicy.SMALLER)
    assert a == {"x.txt": b"newer" if first else b"longer and older"}
    loser = b"longer and older" if first else b"newer"
    assert {*(await kept(pair.a)).values(), *(await kept(pair.b)).values()} >= {loser}


@pytest.mark.parametrize("policy", [ConflictPolicy.LARGER, ConflictPolicy.SMALLER, ConflictPolicy.NEWER])
async def test_ties_keep_both_also_with_an_empty_file(pair, policy):
    await old(pair.a, "x", b"one")
    await old(pair.b, "x", b"two")
    await old(pair.a, "empty", b"")
    await old(pair.b, "empty", b"full", age=3)
    await pair.sync(conflict=policy)
    found = await pair.agreed()
    assert {b"one", b"two"} <= set(found.values())
    assert found["empty"] == (b"" if policy is ConflictPolicy.SMALLER else b"full")


async def test_names_of_255_bytes_can_be_in_conflict(pair):
    name = "n" * 251 + ".txt"
    await old(pair.a, name, b"from a")
    await old(pair.b, name, b"from b!")
    assert (await pair.sync()).exit_code == 0
    found = await pair.agreed()
    assert sorted(found.values()) == [b"from a", b"from b!"]
    assert all(path.endswith(".txt") and len(path) <= 255 for path in found)


async def test_three_places_in_pairs_converge(tmp_path):
    storages = [failing(MemoryStorage(name)) for name in "abc"]
    for storage, name in zip(storages, "xyz", strict=True):
        await old(storage, name, name.encode())
    pairs = [
        Pair(tmp_path / f"{one}{two}", storages[one], storages[two]) for one, two in ((0, 1), (0, 2), (1, 2))
    ]
    for _ in range(2):
        for each in pairs:
            each.folder.mkdir(exist_ok=True)
            each.options["name"] = each.folder.name
            await each.sync()
    assert await tree_of(storages[0]) == await tree_of(storages[1]) == await tree_of(storages[2])
    assert all([not (await each.sync()).done for each in pairs])


async def test_createemptysrcdirs_and_rmdirs(pair):
    await pair.a._below.make_directory(RelPath("empty/deep"))
    await fill(pair, "d/x", "keep")
    assert set(await pair.agreed()) == {"empty", "empty/deep", "d", "d/x", "keep"}
    await pair.b._below.remove_directory(RelPath("empty/deep"))
    await pair.a._below.delete(RelPath("d/x"))
    await pair.sync()
    assert set(await pair.agreed()) == {"empty", "d", "keep"}


# Scenarios of bisync


async def test_all_changed(pair):
    await fill(pair, "x", "y", "z")
    for name in "xyz":
        await old(pair.a, name, b"old " + name.encode(), age=3600)
    report = await pair.sync()
    assert report.counts(Side.B) == {"times and modes": 3}
    assert (await pair.b._below.stat(RelPath("x"))).mtime_ns == (
        await pair.a._below.stat(RelPath("x"))
    ).mtime_ns


@pytest.mark.parametrize("compare", list(Comparison))
async def test_changes_and_compare_all(pair, compare):
    names = [f"file{number}" for number in range(1, 12)]
    await fill(pair, *names, compare=compare)
    await old(pair.b, "file10", b"only on b", age=1)
    await old(pair.a, "file11", b"only on a", age=1)
    await old(pair.b, "file1", b"newer on b", age=2)
    await old(pair.a, "file2", b"newer on a", age=2)
    await pair.b._below.delete(RelPath("file3"))
    await pair.a._below.delete(RelPath("file4"))
    await old(pair.a, "file5", b"both, a", age=3)
    await old(pair.b, "file5", b"both, b..", age=4)
    await old(pair.a, "file6", b"changed, not deleted", age=3)
    await pair.b._below.delete(RelPath("file6"))
    await old(pair.b, "file7", b"changed too, not deleted", age=3)
    await pair.a._below.delete(RelPath("file7"))
    await pair.a._below.delete(RelPath("file8"))
    await pair.b._below.delete(RelPath("file8"))
    assert (await pair.sync(compare=compare)).exit_code == 0
    found = await pair.agreed()
    assert found["file10"] == b"only on b"
    assert found["file11"] == b"only on a"
    assert (found["file1"], found["file2"]) == (b"newer on b", b"newer on a")
    assert not {"file3", "file4", "file8"} & set(found)
    assert {b"both, a", b"both, b.."} <= set(found.values())
    assert (found["file6"], found["file7"]) == (b"changed, not deleted", b"changed too, not deleted")


async def test_check_sync_a_damaged_listing_is_noticed(pair):
    await fill(pair, "x", "y")
    file = pair.folder / "pair.db"
    file.write_bytes(file.read_bytes()[:5000])
    await pair.a._below.delete(RelPath("x"))
    assert (await pair.sync()).unknown is not None
    assert set(await pair.agreed()) == {"x", "y"}


async def test_concurrent_change_is_taken_by_the_next_run(pair):
    await fill(pair, "x")
    await old(pair.a, "y", b"1", age=1)
    pair.b.faults.meanwhile(1, lambda: old(pair.a, "x", b"while it runs", age=2))
    await pair.sync()
    await pair.sync()
    assert await pair.agreed() == {"x": b"while it runs", "y": b"1"}


async def test_volatile_files_made_during_the_run(pair):
    await fill(pair, "x")
    await old(pair.a, "x", b"2", age=1)

    async def many():
        for number in range(50):
            await old(pair.a, f"volatile{number}", b"%d" % number)

    pair.b.faults.meanwhile(1, many)
    assert (await pair.sync()).exit_code == 0
    assert (await pair.sync()).exit_code == 0
    assert len(await pair.agreed()) == 51


async def test_equal_changes_are_left_alone(pair):
    await fill(pair, "x", "y")
    for side in (pair.a, pair.b):
        await old(side, "x", b"the same change", age=4)
    report = await pair.sync()
    assert (report.done, report.exit_code) == ([], 0)


async def test_ext_paths_and_extended_filenames(pair):
    names = [
        "測試_Русский_ _ _ě_áñ👸.txt",
        "dir with space/ü",
        "tab\there",
        'q"uote',
        "new\nline",
        "\udcff\udcfe",
    ]
    await fill(pair, *names[:-1])
    await old(pair.a, names[-1], b"raw")
    await pair.sync()
    assert {path for path, data in (await pair.agreed()).items() if data is not None} == set(names)


async def test_normalization_makes_no_duplicates(tmp_path):
    class Normalizing(MemoryStorage):
        @property
        def info(self):
            return replace(super().info, unicode_normalizing=True)

    pair = Pair(tmp_path, failing(MemoryStorage("a")), failing(Normalizing("b")))
    await old(pair.a, "caf\u00e9", b"1")
    await old(pair.b, "cafe\u0301", b"1")
    await pair.sync()
    assert len(await tree_of(pair.a)) == len(await tree_of(pair.b)) == 1
    assert not (await pair.sync()).done


async def test_max_delete_path1(pair):
    await fill(pair, *(f"f{number}" for number in range(1, 10)))
    for number in range(1, 6):
        await pair.a._below.delete(RelPath(f"f{number}"))
    limit = DeleteLimit(None, 50)
    assert (await pair.sync(max_delete=limit)).exit_code == 5
    assert len(await tree_of(pair.b)) == 9
    assert (await pair.sync(max_delete=DeleteLimit(None, 60))).exit_code == 0
    assert len(await pair.agreed()) == 4


async def test_resync_is_a_union(pair):
    await fill(pair, "x", "y")
    await pair.a._below.delete(RelPath("x"))
    await old(pair.a, "y", b"a's", age=1)
    report = await pair.sync(from_scratch=True)
    assert report.unknown is not None
    found = await pair.agreed()
    assert found["x"] == b"old x"
    assert {b"a's", b"old y"} <= set(found.values())


async def test_filters_and_filtersfile_checks(pair):
    await fill(pair, "x.a", "x.b")
    assert (await pair.sync(patterns=("*.a",))).exit_code == 0
    await old(pair.a, "y.a", b"hidden")
    await old(pair.a, "y.b", b"shown")
    await pair.sync(patterns=("*.a",))
    assert set(await tree_of(pair.b)) == {"x.a", "x.b", "y.b"}
    await pair.sync()
    assert set(await pair.agreed()) == {"x.a", "x.b", "y.a", "y.b"}
    with pytest.raises(UsageError):
        await pair.sync(patterns=("!",))


async def test_backupdir(pair):
    await fill(pair, "x", "d/y", "z")
    await old(pair.a, "x", b"new", age=1)
    await pair.b._below.delete(RelPath("d/y"))
    await pair.sync()
    assert await kept(pair.b) == {"x": b"old x"}
    assert await kept(pair.a) == {"d/y": b"old d/y"}
    assert not (await pair.sync()).done
    assert await get(pair.a._below, "z") == b"old z"


async def test_basic(pair):
    await fill(pair, "file1", "file2")
    await old(pair.a, "file1", b"newer on a", age=1)
    await old(pair.b, "file2", b"newer on b", age=1)
    assert (await pair.sync()).exit_code == 0
    assert await pair.agreed() == {"file1": b"newer on a", "file2": b"newer on b"}


def without_times(name):
    class Timeless(MemoryStorage):
        @property
        def info(self):
            return replace(super().info, mtime_precision_ns=None)

    return failing(Timeless(name), without=(api.SupportsSetMtime,))


@pytest.mark.parametrize("compare", [Comparison.HASH, Comparison.SIZE])
async def test_nomodtime(tmp_path, compare):
    pair = Pair(tmp_path, failing(MemoryStorage("a")), without_times("b"), compare=compare)
    await fill(pair, "x", "y", "z")
    await old(pair.a, "x", b"edited on a", age=1)
    await old(pair.b, "y", b"edited on b, too", age=2)
    await pair.a._below.delete(RelPath("z"))
    assert (await pair.sync()).exit_code == 0
    assert await pair.agreed() == {"x": b"edited on a", "y": b"edited on b, too"}
    assert not (await pair.sync()).done


async def test_rclone_args_and_ignorelistingchecksum(pair):
    """By what two files that were never in sync are compared; what is known to differ always counts."""
    for name, b, age in (("size", b"four", 7), ("time", b"four", 0), ("equal", b"here", 0)):
        await old(pair.a, name, b"here")
        await old(pair.b, name, b, age=age)
    differing = []
    for compare in (Comparison.SIZE, Comparison.MTIME, Comparison.HASH):
        report = await pair.sync(compare=compare, conflict=ConflictPolicy.MANUAL, dry_run=True)
        differing.append([conflict.path for conflict in report.conflicts])
    assert differing == [[], ["size"], ["size", "time"]]


async def test_dry_run(pair):
    await fill(pair, "kept", "edited", "deleted", "renamed")
    await old(pair.a, "edited", b"new", age=1)
    await pair.b._below.delete(RelPath("deleted"))
    await move(pair.a, "renamed", "moved")
    before = [await tree_of(side, ours=True) for side in (pair.a, pair.b)]
    planned = await pair.sync(dry_run=True)
    assert [await tree_of(side, ours=True) for side in (pair.a, pair.b)] == before
    done = await pair.sync()
    assert {side: done.counts(side) for side in Side} == {side: planned.counts(side) for side in Side}
    assert await pair.agreed() == {"kept": b"old kept", "edited": b"new", "moved": b"old renamed"}


async def test_max_delete_path2_force(pair):
    await fill(pair, *(f"f{number}" for number in range(1, 10)))
    for number in range(1, 6):
        await pair.b._below.delete(RelPath(f"f{number}"))
    limit = DeleteLimit(None, 50)
    assert (await pair.sync(max_delete=limit)).exit_code == 5
    assert len(await tree_of(pair.a)) == 9
    assert (await pair.sync(max_delete=limit, confirmed=True)).exit_code == 0
    assert len(await pair.agreed()) == 4


@pytest.mark.parametrize("policy", [ConflictPolicy.A, ConflictPolicy.NEWER, ConflictPolicy.KEEP_BOTH])
async def test_resync_modes(pair, policy):
    """A start from scratch settles what differs as any run does, and what loses is kept."""
    await old(pair.a, "x", b"from a", age=1)
    await old(pair.b, "x", b"from b!", age=9)
    await old(pair.a, "only a", b"1")
    await old(pair.b, "only b", b"2")
    await pair.sync(from_scratch=True, conflict=policy)
    found = await pair.agreed()
    assert (found["only a"], found["only b"]) == (b"1", b"2")
    lost = {**await kept(pair.a), **await kept(pair.b)}
    assert {b"from a", b"from b!"} <= {*found.values(), *lost.values()}
    if policy is not ConflictPolicy.KEEP_BOTH:
        assert found["x"] == (b"from a" if policy is ConflictPolicy.A else b"from b!")


@pytest.mark.parametrize("emptied", ["a", "b"])
async def test_resync_a_normal_run_on_an_emptied_side_halts(pair, emptied):
    await fill(pair, "x", "y")
    side = pair.a if emptied == "a" else pair.b
    for name in ("x", "y"):
        await side._below.delete(RelPath(name))
    assert (await pair.sync()).exit_code == 5
    assert (await pair.sync(from_scratch=True)).exit_code == 0
    assert await pair.agreed() == {"x": b"old x", "y": b"old y"}
