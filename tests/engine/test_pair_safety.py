"""What must never happen in a run of a pair, and what a run does when something is in the way."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace

import apsw
import pytest
import trio

from mountsync.engine.pair.backups import kept_in, restore
from mountsync.engine.pair.comparing import differences
from mountsync.engine.pair.opening import opened_state
from mountsync.engine.pair.options import BackupRules
from mountsync.errors import Busy, NoSpace, NotFound, StateLocked, Unreachable, UsageError
from mountsync.model.entry import Problem
from mountsync.model.plan import ConflictPolicy
from mountsync.model.side import Side
from mountsync.model.status import SessionState
from mountsync.paths import RelPath
from mountsync.reconcile import Comparison, DeleteLimit, Direction
from mountsync.storage import api
from mountsync.storage.api import NameRules
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import get
from tests.parts.failing import Crashed, failing
from tests.parts.pairs import OLD_NS, Pair, kept, local_pair, memory_pair, old, tree_of

DAY_NS = 86_400 * 10**9


async def synced(home, *names, **options):
    pair = memory_pair(home, **options)
    for name in names:
        await old(pair.a, name, b"old " + name.encode())
    await pair.sync()
    return pair


def later(pair, path, data, age=9):
    return lambda: old(pair, path, data, age=age)


# The record of the last sync


async def test_an_older_record_deletes_nothing(home):
    pair = await synced(home, "x", "y")
    saved = (home / "pair.db").read_bytes()
    await pair.a.delete(RelPath("x"))
    await pair.sync()
    await old(pair.a, "x", b"old x")
    (home / "pair.db").write_bytes(saved)
    report = await pair.sync()
    assert "older" in report.unknown
    assert (await pair.agreed())["x"] == b"old x"


async def test_a_lost_record_is_a_union_and_is_told(home):
    pair = await synced(home, "x", "y")
    (home / "pair.db").unlink()
    await pair.a.delete(RelPath("x"))
    report = await pair.sync()
    assert "lost" in report.unknown
    assert set(await pair.agreed()) == {"x", "y"}
    await pair.a.delete(RelPath("x"))
    await pair.sync()
    assert set(await pair.agreed()) == {"y"}


@pytest.mark.parametrize("at", [0, 20, 4096, 5000, 9000, 12000])
async def test_a_damaged_record_is_put_aside(home, at):
    pair = await synced(home, *(f"f{number}" for number in range(40)))
    data = bytearray((home / "pair.db").read_bytes())
    at = min(at, len(data) - 700)
    data[at : at + 600] = bytes(byte ^ 0x5A for byte in data[at : at + 600])
    (home / "pair.db").write_bytes(data)
    await pair.a.delete(RelPath("f1"))
    report = await pair.sync()
    assert report.unknown is not None or "f1" not in await pair.agreed()
    assert not (await pair.sync()).done


async def test_a_row_that_went_missing_is_noticed(home):

    pair = await synced(home, "x", "y", "z")
    connection = apsw.Connection(str(home / "pair.db"))
    connection.execute("DELETE FROM base WHERE path = x'78'")
    connection.close()
    assert "missing" in (await pair.sync()).unknown


async def test_a_replaced_side_is_not_emptied_onto_the_other(home):
    pair = await synced(home, "x", "y", "z")
    empty = Pair(home, failing(MemoryStorage("a")), pair.b)
    report = await empty.sync()
    assert report.halt.state is SessionState.HALTED_EMPTIED
    assert report.exit_code == 5
    assert len(await tree_of(pair.b)) == 3
    report = await empty.sync(from_scratch=True)
    assert len(await empty.agreed()) == 3


async def test_two_runs_exclude_each_other(home):
    pair = await synced(home, "x")
    with opened_state(home, dry_run=False), pytest.raises(StateLocked, match="syncs this pair now"):
        await pair.sync()
    assert (await pair.sync()).exit_code == 0


# Races


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
async def test_an_edit_before_any_effect_is_not_lost(home, nth):
    pair = await synced(home, "x", "y", "z")
    await old(pair.a, "x", b"new", age=1)
    await pair.a.delete(RelPath("y"))
    await old(pair.a, "w", b"from a", age=1)

    async def meddle():
        for name in ("x", "y", "w"):
            await old(pair.b, name, b"b's " + name.encode(), age=5)

    pair.b.faults.meanwhile(nth, meddle)
    report = await pair.sync()
    assert report.exit_code == 0
    await pair.sync()  # what came too late for the first run
    contents = {
        *(await pair.agreed()).values(),
        *(await kept(pair.b)).values(),
        *(await kept(pair.a)).values(),
    }
    assert {b"new", b"from a", b"b's x", b"b's y", b"b's w", b"old z"} <= contents
    assert {b"b's x", b"b's y", b"b's w"} <= set((await pair.agreed()).values())


async def test_an_edit_of_what_is_renamed_stays(home):
    pair = await synced(home, "x")
    await pair.a._below.move(RelPath("x"), RelPath("y"))
    pair.b.faults.meanwhile(1, later(pair.b, "x", b"edited"))
    assert (await pair.sync()).exit_code == 0
    assert b"edited" in (await pair.agreed()).values()


async def test_a_file_that_comes_back_is_not_deleted(home):
    pair = await synced(home, "x", "y")
    await pair.a.delete(RelPath("x"))
    await old(pair.a, "n", b"n")
    pair.b.faults.meanwhile(1, later(pair.a, "x", b"old x", age=0))
    assert (await pair.sync()).exit_code == 0
    assert (await pair.agreed())["x"] == b"old x"


# What cannot be read, written or reached


async def test_an_unreadable_directory_is_not_deleted(home):
    pair = await synced(home, "d/x", "d/y", "z")
    below = pair.a._below
    real = below.list

    def blind(path, *, recursive):
        return real(path, recursive=recursive) if path else _Blind(real(path, recursive=recursive))

    below.list = blind
    await old(pair.a, "new", b"new")
    report = await pair.sync()
    assert report.exit_code == 3
    assert set(await tree_of(pair.b)) == {"d", "d/x", "d/y", "new", "z"}
    below.list = real
    assert (await pair.sync()).exit_code == 0


class _Blind:
    """A listing in which `d` cannot be looked into."""

    def __init__(self, inner):
        self._inner = inner

    async def __aenter__(self):
        batches = await self._inner.__aenter__()
        found = [item async for batch in batches for item in batch]
        shown = [item for item in found if not item[0].startswith("d/")]
        shown.append((RelPath("d"), Problem("permission denied", transient=False)))
        return _Once(shown)

    async def __aexit__(self, *error):
        return await self._inner.__aexit__(*error)


class _Once:
    def __init__(self, items):
        self._items = [items]

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self._items:
            raise StopAsyncIteration
        return self._items.pop()


async def test_a_listing_that_breaks_off_concludes_nothing(home):
    pair = await synced(home, "x", "y")
    pair.a.faults.fail_next("list", Unreachable("gone"))
    with pytest.raises(Unreachable):
        await pair.sync()
    assert len(await tree_of(pair.b)) == 2


async def test_a_side_that_goes_away_in_the_middle_ends_the_run_and_nothing_is_lost(home, autojump_clock):
    pair = memory_pair(home)
    for number in range(10):
        await old(pair.a, f"f{number}", b"%d" % number)
    pair.b.faults.fail_effect(5, Unreachable("gone"))
    with pytest.raises(Unreachable):
        await pair.sync()
    await pair.sync()
    assert len(await pair.agreed()) == 10


async def test_what_is_busy_is_tried_again_in_the_same_run(home, autojump_clock):
    pair = memory_pair(home)
    await old(pair.a, "x", b"1")
    pair.b.faults.fail_next("write", Busy("held by another program"))
    assert (await pair.sync()).exit_code == 0
    assert await pair.agreed() == {"x": b"1"}


async def test_a_full_side_is_a_problem_and_no_lock_out(home, autojump_clock):
    pair = await synced(home, "y")
    await old(pair.a, "x", b"1")
    await pair.b.delete(RelPath("y"))
    pair.b.faults.fail_path(RelPath("x"), NoSpace("no space left"))
    report = await pair.sync()
    assert report.exit_code == 3
    assert report.problems["x"].error == "NoSpace"
    assert set(await tree_of(pair.a)) == {"x"}
    pair.b.faults.fail_path(RelPath("x"), None)
    assert (await pair.sync()).exit_code == 0


async def test_names_that_one_side_cannot_hold_are_their_own_problem(home):
    b = failing(MemoryStorage("b", names=NameRules(forbidden=frozenset(":"))))
    pair = Pair(home, failing(MemoryStorage("a")), b)
    await old(pair.a, "a:b", b"1")
    await old(pair.a, "d/c", b"2")
    report = await pair.sync()
    assert report.problems["a:b"].error == "NameRefused"
    assert await tree_of(pair.b) == {"d": None, "d/c": b"2"}


async def test_names_are_never_merged_by_case(home):
    class Folding(MemoryStorage):
        @property
        def info(self):
            return replace(super().info, case_sensitive=False)

    pair = Pair(home, failing(MemoryStorage("a")), failing(Folding("b")))
    await old(pair.a, "Name", b"1")
    await old(pair.a, "name", b"2")
    report = await pair.sync()
    assert report.exit_code == 3
    assert len(report.problems) == 1
    assert len(await tree_of(pair.b)) == 1
    assert await tree_of(pair.a) == {"Name": b"1", "name": b"2"}


# Limits


async def test_too_many_deletes_halt_and_renames_do_not_count(home):
    pair = await synced(home, *(f"d/f{number}" for number in range(40)))
    await pair.a._below.move(RelPath("d"), RelPath("e"))
    report = await pair.sync(max_delete=DeleteLimit(5, None))
    assert report.exit_code == 0
    for number in range(6):
        await pair.a.delete(RelPath(f"e/f{number}"))
    report = await pair.sync(max_delete=DeleteLimit(5, None))
    assert report.halt.state is SessionState.HALTED_DELETES
    assert len(await tree_of(pair.b)) == 41
    assert (await pair.sync(max_delete=DeleteLimit(5, None), confirmed=True)).exit_code == 0
    assert len(await pair.agreed()) == 35


# Comparing


async def test_times_that_one_side_lacks_are_refused_or_fall_back(home):
    class Timeless(MemoryStorage):
        @property
        def info(self):
            return replace(super().info, mtime_precision_ns=None)

    pair = Pair(home, failing(MemoryStorage("a")), failing(Timeless("b")))
    with pytest.raises(UsageError, match="no times"):
        await pair.sync(compare=Comparison.MTIME)
    assert (await pair.sync(compare=Comparison.MTIME, fallback=Comparison.SIZE)).exit_code == 0


async def test_equal_size_and_time_are_found_different_by_hash(home):
    pair = memory_pair(home)
    await old(pair.a, "x", b"one")
    await old(pair.b, "x", b"two")
    report = await pair.sync(conflict=ConflictPolicy.MANUAL)
    assert [conflict.path for conflict in report.conflicts] == ["x"]


async def test_nothing_is_hashed_twice(home):
    without = (api.SupportsDigest,)
    pair = Pair(
        home, failing(MemoryStorage("a"), without=without), failing(MemoryStorage("b"), without=without)
    )
    for number in range(5):
        await old(pair.a, f"both{number}", b"%d" % number)
        await old(pair.b, f"both{number}", b"%d" % number)
        await old(pair.a, f"mine{number}", b"m%d" % number)
    report = await pair.sync()
    assert report.hashed == 10
    reads = pair.a.faults.calls["read"], pair.b.faults.calls["read"]
    assert reads[0] == 5 + 5 + 1, "each was read once: to compare, or on its way; and the mark"
    assert reads[1] == 5 + 1
    await old(pair.a, "both0", b"edited", age=3)
    await pair.a._below.move(RelPath("mine1"), RelPath("moved"))
    report = await pair.sync()
    assert report.counts(Side.B) == {"updated": 1, "renamed": 1}
    assert pair.b.faults.calls["read"] == reads[1] + 1, "only the mark"
    (home / "pair.db").rename(home / "gone")
    shutil.copyfile(home / "gone", home / "pair.db")
    assert (await pair.sync()).hashed == 0


# Filters


async def test_excluded_is_invisible_and_keeps_its_folder(home):
    pair = await synced(home, "d/x", "d/.cache/y", "z", patterns=(".cache/", "*.o"))
    assert set(await tree_of(pair.b)) == {"d", "d/x", "z"}
    await old(pair.b, "d/b.o", b"object")
    await pair.a.delete(RelPath("d/x"))
    await pair.a._below.move(RelPath("d"), RelPath("e"))
    report = await pair.sync()
    assert report.exit_code == 0
    assert set(await tree_of(pair.b)) == {"d", "d/b.o", "e", "z"}
    assert not (await pair.sync()).done
    assert await get(pair.a._below, "e/.cache/y") == b"old d/.cache/y"


async def test_a_filter_that_comes_later_deletes_nothing(home):
    pair = await synced(home, "a.log", "b.log", "c")
    report = await pair.sync(patterns=("*.log",))
    assert not report.done
    await pair.a.delete(RelPath("a.log"))
    await pair.sync(patterns=("*.log",))
    assert set(await tree_of(pair.b)) == {"a.log", "b.log", "c"}


# Backups


async def test_backups_go_when_they_are_old_or_many(home):
    pair = await synced(home, "x")
    for number in range(6):
        await old(pair.a, "x", b"%d" % number, age=number + 1)
        await pair.sync(backups=BackupRules(keep_runs=3))
    assert [each.path for each in await kept_in(pair.b._below)] == ["x"] * 3
    pair.skew_ns += 40 * DAY_NS
    await old(pair.a, "x", b"last", age=99)
    await pair.sync(backups=BackupRules())
    assert len(await kept_in(pair.b._below)) == 1


async def test_a_backup_comes_back_and_keeps_what_was_there(home):
    pair = await synced(home, "d/x")
    await old(pair.a, "d/x", b"second", age=1)
    await pair.sync()
    [first] = await kept_in(pair.b._below)
    await restore(pair.b._below, first, now_ns=pair.clock_ns() + DAY_NS, job="test")
    await pair.sync()
    assert (await pair.agreed())["d/x"] == b"old d/x"
    assert b"second" in [await get(pair.b._below, each.place) for each in await kept_in(pair.b._below)]


async def test_a_failed_overwrite_leaves_the_old_version(home, autojump_clock):
    pair = await synced(home, "x")
    await old(pair.a, "x", b"new", age=1)
    pair.b.faults.fail_next("write", NoSpace("no space left"), times=5)
    assert (await pair.sync()).exit_code == 3
    assert (await tree_of(pair.b))["x"] == b"old x"


# One way


@pytest.mark.parametrize("compare", list(Comparison))
async def test_one_way_never_changes_the_source(home, compare):
    pair = memory_pair(home, direction=Direction.MIRROR, compare=compare)
    await old(pair.a, "x", b"from a")
    await old(pair.a, "d/y", b"2")
    await old(pair.b, "x", b"longer than that of a")
    await old(pair.b, "z", b"3")
    effects = pair.a.faults.effects
    assert (await pair.sync()).exit_code == 0
    assert pair.a.faults.effects == effects
    assert await pair.agreed() == {"x": b"from a", "d": None, "d/y": b"2"}
    assert await kept(pair.b) == {"x": b"longer than that of a", "z": b"3"}
    assert not (await pair.sync()).done


async def test_adding_deletes_nothing(home):
    pair = memory_pair(home, direction=Direction.ADD)
    await old(pair.a, "x", b"1")
    await old(pair.b, "y", b"2")
    await pair.sync()
    assert await tree_of(pair.b) == {"x": b"1", "y": b"2"}
    assert await tree_of(pair.a) == {"x": b"1"}


# Crashes


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("nth", range(1, 12))
async def test_a_crash_at_any_effect_is_run_again(home, nth, after):
    pair = await synced(home, "x", "y", "z", "d/1", "d/2")
    below = pair.a._below
    await below.move(RelPath("x"), RelPath("t"))
    await below.move(RelPath("y"), RelPath("x"))
    await below.move(RelPath("t"), RelPath("y"))
    await below.move(RelPath("d"), RelPath("e"))
    await below.delete(RelPath("z"))
    await old(pair.a, "z/now a folder", b"1")
    await old(pair.a, "new", b"2")
    pair.b.faults.crash_at(nth, after=after)
    try:
        await pair.sync()
    except BaseException as error:
        group = error if isinstance(error, BaseExceptionGroup) else BaseExceptionGroup("", [error])
        assert group.split(Crashed)[1] is None
    pair.b.faults.crashed = False
    pair.b.faults._planned.clear()
    assert (await pair.sync()).exit_code == 0
    found = await pair.agreed()
    assert found == {
        "x": b"old y", "y": b"old x", "z": None, "z/now a folder": b"1", "new": b"2",
        "e": None, "e/1": b"old d/1", "e/2": b"old d/2",
    }  # fmt: skip
    assert not (await pair.sync()).done
    assert not [path for path in await tree_of(pair.b, ours=True) if path.startswith(".mountsync/moving/")]


async def test_a_run_that_is_stopped_remembers_what_it_did(home):
    without = (api.SupportsDigest,)
    a, b = (failing(MemoryStorage(name), without=without) for name in "ab")
    pair = Pair(home, a, b, transfers=1)
    for number in range(10):
        await old(a, f"f{number}", b"%d" % number)
    with trio.CancelScope() as scope:

        async def stop():
            scope.cancel()

        b.faults.meanwhile(6, stop)
        await pair.sync()
    done = len(await tree_of(b))
    assert 4 <= done < 10
    reads = b.faults.calls["read"]
    report = await pair.sync()
    assert report.hashed == 0
    assert b.faults.calls["read"] == reads + 1, "only the mark"
    assert len(await pair.agreed()) == 10


# On the disk


async def test_same_second_and_same_size_edits_are_found(home):
    pair = local_pair(home)
    (home / "a/x").write_text("one")
    await pair.sync()
    (home / "a/x").write_text("two")
    await pair.sync()
    assert (home / "b/x").read_text() == "two"


async def test_special_files_are_told_and_stop_nothing(home):
    pair = local_pair(home)
    os.mkfifo(home / "a/pipe")
    (home / "a/link").symlink_to("/nowhere/at/all")
    (home / "a/x").write_text("1")
    with trio.fail_after(20):
        report = await pair.sync()
    assert set(report.problems) == {"pipe"}
    assert await tree_of(pair.b) == {"link": "-> /nowhere/at/all", "x": b"1"}


async def test_odd_names_and_modes_travel(home):
    pair = local_pair(home)
    names = [b"a b ", b" lead", b"new\nline", b"\xff\xfe", "ünïcödé".encode(), b'q"uote', b"x" * 250]
    for name in names:
        with open(os.fsencode(home / "a") + b"/" + name, "wb") as file:
            file.write(name)
    os.chmod(os.fsencode(home / "a") + b"/" + names[0], 0o751)
    assert (await pair.sync()).exit_code == 0
    assert sorted(os.listdir(os.fsencode(home / "b"))) == sorted([*names, b".mountsync"])
    assert os.stat(os.fsencode(home / "b") + b"/" + names[0]).st_mode & 0o777 == 0o751
    assert not (await pair.sync()).done


async def test_times_travel(home):
    pair = local_pair(home)
    (home / "a/x").write_text("1")
    os.utime(home / "a/x", ns=(0, OLD_NS + 123_456_789))
    await pair.sync()
    assert (home / "b/x").stat().st_mtime_ns == OLD_NS + 123_456_789


# A source that is not there


class Begun(MemoryStorage):
    """Its root comes into being with the first object in it."""

    async def stat(self, path):
        async with self.list(RelPath(""), recursive=False) as batches:
            empty = not [item async for batch in batches for item in batch]
        return None if empty and not path else await super().stat(path)


@pytest.mark.parametrize("direction", [Direction.MIRROR, Direction.ADD])
@pytest.mark.parametrize("dry_run", [False, True])
async def test_a_source_that_does_not_exist_is_no_empty_one(home, direction, dry_run):
    pair = Pair(home, Begun(), MemoryStorage("b"), direction=direction)
    await old(pair.b, "x", b"1")
    with pytest.raises(NotFound, match="source"):
        await pair.sync(dry_run=dry_run)
    assert await tree_of(pair.b) == {"x": b"1"}


async def test_a_target_or_a_side_may_begin(home):
    pair = Pair(home, MemoryStorage("a"), Begun("b"), direction=Direction.MIRROR)
    await pair.sync()
    await old(pair.a, "x", b"1")
    await pair.sync()
    assert await tree_of(pair.b) == {"x": b"1"}
    both = Pair(home / "both", Begun("c"), MemoryStorage("d"))
    await old(both.b, "x", b"1")
    await both.sync()
    assert await tree_of(both.a) == {"x": b"1"}


async def test_an_empty_source_is_followed(home):
    pair = Pair(home, MemoryStorage("a"), MemoryStorage("b"), direction=Direction.MIRROR)
    await old(pair.b, "x", b"1")
    await pair.sync()
    assert await tree_of(pair.b) == {}


async def test_a_comparison_with_what_does_not_exist(home):
    for sides in ((Begun(), MemoryStorage()), (MemoryStorage(), Begun())):
        with pytest.raises(NotFound, match="does not exist"):
            await differences(*sides, by_content=False)
