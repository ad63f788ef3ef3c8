"""What another sync program was seen to do wrong, W1 to W29: here it goes right.

Each test is named after one observation. W10 is in `tests/engine/test_pair_jobs.py`, W16 and W17 are in
`tests/cli/test_daemon.py`, W18, W20, W21 and W23 in `tests/cli/test_daemon_events.py`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from mountsync.control import wire
from mountsync.control.protocol import StateEvent
from mountsync.engine.pair.syncers import EngineSyncer, LocalSyncer, find_syncer, loadable_syncers
from mountsync.errors import Corrupt, NoSpace, PermissionDenied, Unreachable
from mountsync.model.plan import ConflictPolicy
from mountsync.model.side import Side
from mountsync.model.status import SessionState
from mountsync.paths import RelPath
from mountsync.reconcile import Direction
from mountsync.storage import api
from mountsync.storage.memory import MemoryStorage
from tests.parts.clocks import working_clock
from tests.parts.failing import failing
from tests.parts.pairs import Pair, kept, local_pair, memory_pair, old, tree_of
from tests.parts.shell import Shell
from tests.parts.sides import KeptPair, new_side


@pytest.fixture
def clock() -> Iterator[MockClock]:
    with working_clock() as clock:
        yield clock


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return memory_pair(tmp_path)


async def fill(pair: Pair, *names: str) -> None:
    for name in names:
        await old(pair.a, name, b"old " + name.encode())
    await pair.sync()


async def test_w1_a_read_error_on_one_side_wipes_nothing(pair):
    await fill(pair, "x", "d/y", "z")
    pair.a.faults.fail_next("list", Unreachable("input/output error"))
    with pytest.raises(Unreachable):
        await pair.sync()
    assert len(await tree_of(pair.b)) == 4
    for name in ("x", "d/y", "z"):
        await pair.a._below.delete(RelPath(name))
    await pair.a._below.remove_directory(RelPath("d"))
    assert (await pair.sync()).halt.state is SessionState.HALTED_EMPTIED
    assert len(await tree_of(pair.b)) == 4


async def test_w2_create_create_overwrites_nothing(pair):
    await old(pair.a, "x", b"from a")
    await old(pair.b, "x", b"from b!")
    report = await pair.sync(conflict=ConflictPolicy.MANUAL)
    assert report.exit_code == 1
    assert (await tree_of(pair.a), await tree_of(pair.b)) == ({"x": b"from a"}, {"x": b"from b!"})


async def test_w3_an_edit_between_look_and_write_survives(pair):
    await fill(pair, "x")
    await old(pair.a, "x", b"new", age=1)
    pair.b.faults.meanwhile(1, lambda: old(pair.b, "x", b"meanwhile", age=2))
    await pair.sync()
    assert {b"new", b"meanwhile"} <= set((await pair.agreed()).values())


async def test_w4_an_error_in_the_middle_leaves_the_old_file_whole(tmp_path):
    pair = local_pair(tmp_path)
    (tmp_path / "a/x").write_bytes(b"1" * (3 << 20))
    await pair.sync()
    (tmp_path / "a/x").write_bytes(b"2" * (3 << 20))
    pair.a.faults.fail_path(RelPath("x"), Corrupt("input/output error"))
    report = await pair.sync()
    assert report.exit_code == 3
    assert (tmp_path / "b/x").read_bytes() == b"1" * (3 << 20)
    pair.a.faults.fail_path(RelPath("x"), None)
    assert (await pair.sync()).exit_code == 0
    assert (tmp_path / "b/x").read_bytes() == b"2" * (3 << 20)
    assert sorted(os.listdir(tmp_path / "b")) == [".mountsync", "x"]


async def test_w5_changes_while_nobody_looked_are_understood(pair):
    await fill(pair, "edited", "deleted", "kept")
    await old(pair.a, "edited", b"while away", age=1)
    await pair.b._below.delete(RelPath("deleted"))
    report = await pair.sync()
    assert report.exit_code == 0
    assert await pair.agreed() == {"edited": b"while away", "kept": b"old kept"}


async def test_w6_saving_by_rename_leaves_no_temporary_file(tmp_path):
    pair = local_pair(tmp_path)
    (tmp_path / "a/doc").write_text("old")
    await pair.sync()
    for number in range(3):
        (tmp_path / "a/.doc~").write_text(f"new {number}")
        (tmp_path / "a/.doc~").rename(tmp_path / "a/doc")
        await pair.sync()
        assert await pair.agreed() == {"doc": f"new {number}".encode()}


async def test_w7_an_edit_beats_a_delete_in_either_order(pair):
    await fill(pair, "x", "y", "z")
    await old(pair.b, "x", b"edit", age=1)
    await pair.a._below.delete(RelPath("x"))
    await pair.a._below.delete(RelPath("y"))
    await old(pair.b, "y", b"edit too", age=1)
    assert (await pair.sync()).exit_code == 0
    assert await pair.agreed() == {"x": b"edit", "y": b"edit too", "z": b"old z"}


async def test_w7b_a_new_file_in_a_deleted_folder_survives(pair):
    await fill(pair, "d/x", "d/e/y", "z")
    for name in ("d/x", "d/e/y"):
        await pair.a._below.delete(RelPath(name))
    for name in ("d/e", "d"):
        await pair.a._below.remove_directory(RelPath(name))
    await old(pair.b, "d/new", b"new")
    assert (await pair.sync()).exit_code == 0
    assert await pair.agreed() == {"d": None, "d/new": b"new", "z": b"old z"}


async def test_w8_a_source_that_changes_while_it_is_copied_is_never_torn(tmp_path):
    pair = local_pair(tmp_path)
    (tmp_path / "a/x").write_bytes(b"1" * (2 << 20))

    async def meddle():
        (tmp_path / "a/x").write_bytes(b"2" * (2 << 20))

    pair.b.faults.meanwhile(1, meddle)
    await pair.sync()
    assert (tmp_path / "b/x").read_bytes() in (b"1" * (2 << 20), b"2" * (2 << 20))
    await pair.sync()
    assert (tmp_path / "b/x").read_bytes() == b"2" * (2 << 20)


async def test_w9_a_folder_that_moves_out_stops_nothing(tmp_path):
    pair = local_pair(tmp_path)
    (tmp_path / "a/d").mkdir()
    (tmp_path / "a/d/x").write_text("1")
    (tmp_path / "a/y").write_text("2")
    await pair.sync()
    (tmp_path / "a/d").rename(tmp_path / "out")
    (tmp_path / "out/x").write_text("changed outside")
    assert (await pair.sync()).exit_code == 0
    assert await pair.agreed() == {"y": b"2"}


async def test_w9_a_folder_that_moves_out_does_not_end_the_watch(tmp_path):
    pair = KeptPair(tmp_path / "state", *(new_side("local", tmp_path, name) for name in "ab"))
    await pair.a.put("d/x", b"1")
    async with pair.running():
        (tmp_path / "a/d").rename(tmp_path / "out")
        (tmp_path / "out/x").write_text("changed outside")
        await pair.until_both({})
        await pair.a.put("y", b"2")
        await pair.until_both({"y": b"2"})
        assert (await pair.status()).reason is None


async def test_w11_one_way_is_one_way(pair):
    await old(pair.a, "x", b"1")
    await old(pair.b, "theirs", b"2")
    await pair.sync(direction=Direction.MIRROR)
    assert await tree_of(pair.a) == {"x": b"1"}
    await old(pair.a, "y", b"3")
    await pair.sync(direction=Direction.MIRROR)
    assert await tree_of(pair.b) == {"x": b"1", "y": b"3"}


async def test_w12_one_bad_file_poisons_nothing(pair):
    for name in ("a", "bad", "c"):
        await old(pair.a, name, name.encode())
    pair.a.faults.fail_path(RelPath("bad"), PermissionDenied("permission denied", path="bad"))
    report = await pair.sync()
    assert (report.exit_code, list(report.problems)) == (3, ["bad"])
    assert await tree_of(pair.b) == {"a": b"a", "c": b"c"}
    pair.a.faults.fail_path(RelPath("bad"), None)
    assert (await pair.sync()).exit_code == 0


async def test_w13_a_fifo_blocks_nothing(tmp_path):
    pair = local_pair(tmp_path)
    os.mkfifo(tmp_path / "a/pipe")
    (tmp_path / "a/x").write_text("1")
    with trio.fail_after(60):
        await pair.sync()
    assert await tree_of(pair.b) == {"x": b"1"}


async def test_w14_resolved_conflicts_disappear_and_the_exit_code_tells(pair):
    await old(pair.a, "x", b"from a")
    await old(pair.b, "x", b"from b!")
    assert (await pair.sync(conflict=ConflictPolicy.MANUAL)).exit_code == 1
    assert len((await pair.sync(conflict=ConflictPolicy.MANUAL)).conflicts) == 1
    await pair.b._below.delete(RelPath("x"))
    assert (await pair.sync(conflict=ConflictPolicy.MANUAL)).exit_code == 0
    assert await pair.agreed() == {"x": b"from a"}


async def test_w15_an_edit_within_the_same_second_and_of_the_same_size_is_seen(tmp_path):
    pair = local_pair(tmp_path)
    (tmp_path / "a/x").write_text("one")
    await pair.sync()
    for text in ("two", "six", "ten"):
        (tmp_path / "a/x").write_text(text)
        await pair.sync()
        assert (tmp_path / "b/x").read_text() == text


def test_w19_names_and_messages_are_escaped():
    event = StateEvent(job='a"b', state="failed", reason='he said "no"\n\udcff')
    assert json.loads(wire.encode(event))["reason"] == 'he said "no"\n\udcff'


def test_w22_a_plug_in_that_cannot_be_imported_is_told_and_left_out(monkeypatch):
    class Point:
        name, value = "bad", "nowhere:Syncer"

        def load(self):
            raise ImportError("no module named nowhere")

    class Empty(Point):
        name, value = "empty", "somewhere:Empty"

        def load(self):
            return object

    monkeypatch.setattr("mountsync.engine.pair.syncers._plug_ins", lambda: [Point(), Empty()])
    found, refused = loadable_syncers()
    assert found == [LocalSyncer, EngineSyncer]
    assert len(refused) == 2
    assert "no module named nowhere" in refused[0]


def test_find_syncer(monkeypatch):
    class Half(EngineSyncer):
        SYNCER_NAME, SOURCE_TYPES = "half", ("memory",)

    class Exact(EngineSyncer):
        SYNCER_NAME, SOURCE_TYPES, TARGET_TYPES = "exact", ("memory",), ("local",)

    class Mounted(EngineSyncer):
        SYNCER_NAME, SOURCE_TYPES, TARGET_TYPES, REQUIRES_MOUNT = "mounted", ("s3",), ("s3",), True

    class OneShotOnly(EngineSyncer):
        SYNCER_NAME, SOURCE_TYPES, TARGET_TYPES, CONTINUOUS = "once", ("modal",), ("modal",), False

    class Point:
        def __init__(self, kind):
            self.name, self.value, self.load = kind.SYNCER_NAME, "x:y", lambda: kind

    points = [Point(kind) for kind in (Half, Exact, Mounted, OneShotOnly)]
    monkeypatch.setattr("mountsync.engine.pair.syncers._plug_ins", lambda: points)
    chosen = {
        ("memory", "local"): "exact", ("memory", "modal"): "half", ("s3", "s3"): "engine",
        ("local", "local"): "local", ("modal", "modal"): "once", ("chunker", "local"): "engine",
    }  # fmt: skip
    for one_shot in (False, True):
        for one_way in (False, True):
            for (source, target), name in chosen.items():
                syncer = find_syncer(source, target, one_shot=one_shot, unidirectional=one_way)
                assert name == syncer.SYNCER_NAME
    assert find_syncer("modal", "modal", continuous=True).SYNCER_NAME == "engine"


async def test_w24_modes_times_and_links_are_kept(tmp_path):
    pair = local_pair(tmp_path)
    (tmp_path / "a/run").write_text("#!/bin/sh")
    (tmp_path / "a/run").chmod(0o755)
    os.utime(tmp_path / "a/run", ns=(0, 1_600_000_000_987_654_321))
    (tmp_path / "a/link").symlink_to("run")
    await pair.sync()
    found = (tmp_path / "b/run").stat()
    assert (found.st_mode & 0o777, found.st_mtime_ns) == (0o755, 1_600_000_000_987_654_321)
    assert os.readlink(tmp_path / "b/link") == "run"
    (tmp_path / "b/run").chmod(0o700)
    await pair.sync()
    assert (tmp_path / "a/run").stat().st_mode & 0o777 == 0o700


async def test_w25_a_rename_moves_no_bytes(tmp_path):
    pair = local_pair(tmp_path)
    (tmp_path / "a/d").mkdir()
    (tmp_path / "a/d/x").write_text("content")
    await pair.sync()
    inode = (tmp_path / "b/d/x").stat().st_ino
    (tmp_path / "a/d").rename(tmp_path / "a/e")
    report = await pair.sync()
    assert report.counts(Side.B) == {"renamed": 1}
    assert (tmp_path / "b/e/x").stat().st_ino == inode


async def test_w26_names_that_are_not_unicode_travel(tmp_path):
    pair = local_pair(tmp_path)
    with open(os.fsencode(tmp_path) + b"/a/\xff\xfe", "wb") as file:
        file.write(b"1")
    assert (await pair.sync()).exit_code == 0
    assert b"\xff\xfe" in os.listdir(os.fsencode(tmp_path / "b"))
    assert not (await pair.sync()).done


async def test_w27_each_content_is_read_once_and_never_again(tmp_path):
    without = (api.SupportsDigest,)
    a, b = (failing(MemoryStorage(name), without=without) for name in "ab")
    pair = Pair(tmp_path, a, b)
    for number in range(10):
        await old(a, f"f{number}", b"%d" % number)
    await pair.sync()
    marks = 1
    assert (a.faults.calls["read"], b.faults.calls["read"]) == (10 + marks, marks)
    await pair.sync()
    assert (a.faults.calls["read"], b.faults.calls["read"]) == (10 + 2 * marks, 2 * marks)
    await old(a, "f3", b"edited", age=1)
    await pair.sync()
    assert (a.faults.calls["read"], b.faults.calls["read"]) == (11 + 3 * marks, 3 * marks)


async def test_w28_patterns_dry_run_and_backups(pair):
    await old(pair.a, "x", b"1")
    await old(pair.a, "x.tmp", b"2")
    report = await pair.sync(dry_run=True, patterns=("*.tmp",))
    assert [done.action.path for done in report.done] == ["x"]
    assert await tree_of(pair.b) == {}
    await pair.sync(patterns=("*.tmp",))
    assert await tree_of(pair.b) == {"x": b"1"}
    await pair.a._below.delete(RelPath("x"))
    await pair.sync(patterns=("*.tmp",), confirmed=True)
    assert await kept(pair.b) == {"x": b"1"}


@pytest.mark.parametrize("folder_side", ["a", "b"])
async def test_w29_a_file_against_a_folder_is_a_conflict_from_both_sides(pair, folder_side):
    here, there = (pair.a, pair.b) if folder_side == "a" else (pair.b, pair.a)
    await old(here, "x/inner", b"in the folder")
    await old(there, "x", b"the file")
    await old(there, "other", b"goes on")
    report = await pair.sync(conflict=ConflictPolicy.MANUAL)
    assert [conflict.path for conflict in report.conflicts] == ["x"]
    assert (await tree_of(here))["other"] == b"goes on"
    assert (await tree_of(here))["x/inner"] == b"in the folder"
    assert (await tree_of(there))["x"] == b"the file"
    await there._below.delete(RelPath("x"))
    assert (await pair.sync(conflict=ConflictPolicy.MANUAL)).exit_code == 0
    assert (await pair.agreed())["x/inner"] == b"in the folder"


async def test_a_full_disk_tells_and_the_next_run_goes_on(pair, clock):
    await old(pair.a, "x", b"1")
    pair.b.faults.fail_next("write", NoSpace("no space left"), times=9)
    assert (await pair.sync()).exit_code == 3
    pair.b.faults._next.clear()
    assert (await pair.sync()).exit_code == 0


def test_a_user_sees_exit_codes(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    shell = Shell(tmp_path / "home")
    for side in "ab":
        (tmp_path / side).mkdir()
        (tmp_path / side / "x").write_text(side)
    assert shell.here("bisync", str(tmp_path / "a"), str(tmp_path / "b")).code == 1
    assert shell.here("bisync", str(tmp_path / "a"), str(tmp_path / "none")).code == 3
