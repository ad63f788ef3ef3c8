"""What another program pins with its own tests of two-way sync, under the names of those tests.

Here a real job keeps two real storages in sync while somebody else changes them; nobody asks it to
look. The tests of events, over the daemon's socket, are in `tests/cli/test_daemon_events.py`. Where we
go another way on purpose the test shows ours and says why.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import trio

from mountsync.storage import api
from tests.parts.bodies import body
from tests.parts.pairs import kept, tree_of
from tests.parts.sides import KINDS, KeptPair, new_side
from tests.scenarios.test_known_weaknesses import test_find_syncer

__all__ = ["test_find_syncer"]


@pytest.fixture(params=KINDS)
def kinds(request: pytest.FixtureRequest) -> tuple[str, str]:
    a, b = request.param.split("-")
    return a, b


@pytest.fixture
def pair(tmp_path: Path, kinds: tuple[str, str]) -> KeptPair:
    a, b = (new_side(kind, tmp_path, name) for kind, name in zip(kinds, "ab", strict=True))
    return KeptPair(tmp_path / "state", a, b)


async def test_sync_subdirs(pair):
    for side in (pair.a, pair.b):
        await side.put("top", b"1")
        await side.put("d/inner", b"2")
    async with pair.running():
        await pair.a.put("d/inner", b"edited")
        await pair.until_both({"top": b"1", "d": None, "d/inner": b"edited"})
        await pair.b.put("new/one", b"3")
        await pair.b.put("new/two", b"4")
        await pair.until_both(
            {"top": b"1", "d": None, "d/inner": b"edited", "new": None, "new/one": b"3", "new/two": b"4"}
        )


async def test_sync_large_file(pair):
    large = body((16 << 20) + 12_345)
    await pair.a.put("large", large)
    async with pair.running():
        assert await pair.trees() == ({"large": large}, {"large": large})
        await pair.b.append("large", b"and more")
        await pair.until_both({"large": large + b"and more"})


async def test_sync_move_dir(pair):
    async with pair.running():
        await pair.a.move_in("d", {"x": b"1", "e/y": b"2"})
        tree: dict[str, Any] = {"d": None, "d/x": b"1", "d/e": None, "d/e/y": b"2"}
        await pair.until_both(tree)
        await pair.a.put("d/e/z", b"3")
        tree["d/e/z"] = b"3"
        await pair.until_both(tree)
        await pair.b.move("d", "moved")
        await pair.until_both({path.replace("d", "moved", 1): data for path, data in tree.items()})
        await pair.a.move_out("moved")
        await pair.until_both({})
    # Not lost either, as it is there: the other side keeps what went in its backups.
    assert {"moved/x": b"1", "moved/e/y": b"2", "moved/e/z": b"3"}.items() <= (
        await kept(pair.b.storage)
    ).items()


async def test_sync_remove_file(pair):
    for name in ("x", "y"):
        await pair.a.put(name, name.encode())
    async with pair.running():
        await pair.a.remove("x")
        await pair.until_both({"y": b"y"})
        await pair.b.remove("y")
        await pair.until_both({})


async def test_sync_remove_dir(pair):
    for name in ("d/e/f/x", "d/e/y", "d/z", "keep"):
        await pair.a.put(name, name.encode())
    async with pair.running():
        await pair.a.remove_tree("d/e")
        await pair.until_both({"d": None, "d/z": b"d/z", "keep": b"keep"})
        await pair.b.remove_tree("d")
        await pair.until_both({"keep": b"keep"})


async def test_sync_move_file(pair):
    await pair.a.put("x", b"content")
    await pair.a.put("keep", b"kept")
    async with pair.running():
        await pair.a.move("x", "y")
        await pair.until_both({"y": b"content", "keep": b"kept"})
        await pair.b.move_out("y")
        await pair.until_both({"keep": b"kept"})


async def test_sync_simple_conflict(pair):
    await pair.a.put("x", b"from a")
    await pair.b.put("x", b"from b!")
    async with pair.running():
        assert await pair.conflicts() == ["x"]
        await pair.a.put("other", b"goes on")
        await pair.until_trees({"x": b"from a", "other": b"goes on"}, {"x": b"from b!", "other": b"goes on"})
        await pair.a.put("x", b"from a again")
        await pair.b.put("x", b"from b, too")
        await pair.quiet()
        assert [tree["x"] for tree in await pair.trees()] == [b"from a again", b"from b, too"]
        assert await pair.conflicts() == ["x"]


async def test_sync_complex_conflict(pair):
    await pair.a.put("x", b"agreed")
    async with pair.running():
        await pair.job.pause()
        await pair.a.put("x", b"edited on a")
        await pair.b.put("x", b"edited on b!")
        await pair.job.resume(confirm=False)
        await pair.quiet()
        assert [tree["x"] for tree in await pair.trees()] == [b"edited on a", b"edited on b!"]
        assert await pair.conflicts() == ["x"]


async def test_sync_lost_event_delete(tmp_path, kinds):
    deaf = new_side(kinds[0], tmp_path, "a", without=(api.SupportsWatch,))
    pair = KeptPair(tmp_path / "state", deaf, new_side(kinds[1], tmp_path, "b"))
    await pair.a.put("x", b"old")
    await pair.a.put("keep", b"kept")
    async with pair.running():
        await pair.a.put("x", b"an edit of which nobody heard")
        await pair.b.remove("x")
        # There the deleted side stays without the file until a person decides. Here the edit is seen,
        # as both sides are looked at before anything is done, and it wins on both.
        await pair.until_both({"x": b"an edit of which nobody heard", "keep": b"kept"})
        assert await pair.conflicts() == []


@pytest.mark.parametrize("wins", ["a", "b"])
async def test_sync_delete_conflict(pair, wins):
    await pair.a.put("x", b"from a")
    await pair.b.put("x", b"from b!")
    async with pair.running():
        await (pair.b if wins == "a" else pair.a).remove("x")
        await pair.until_both({"x": b"from a" if wins == "a" else b"from b!"})
        await pair.quiet()
        assert await pair.conflicts() == []


async def test_sync_conflict_resolved(pair):
    await pair.a.put("x", b"from a")
    await pair.b.put("x", b"from b!")
    async with pair.running():
        await pair.b.put("x", b"from a")

        async def resolved() -> bool:
            return await pair.conflicts() == []

        await pair.until(resolved)
        await pair.a.put("x", b"the next edit")
        await pair.until_both({"x": b"the next edit"})


async def test_sync_move_from_subdir(pair):
    await pair.a.put("d/x", b"the new one")
    await pair.a.put("x", b"the old one")
    async with pair.running():
        await pair.a.move("d/x", "x")
        await pair.until_both({"d": None, "x": b"the new one"})
    assert b"the old one" in (await kept(pair.b.storage)).values()


async def test_sync_file_dir_conflict(pair):
    await pair.a.put("x", b"the file")
    await pair.b.make_directory("x")
    async with pair.running():
        assert await pair.conflicts() == ["x"]
        await pair.b.put("other", b"goes on")
        await pair.until_trees({"x": b"the file", "other": b"goes on"}, {"x": None, "other": b"goes on"})
        await pair.a.put("x", b"the file, edited")
        await pair.quiet()
        assert (await tree_of(pair.a.storage))["x"] == b"the file, edited"
        assert (await tree_of(pair.b.storage))["x"] is None
        assert (await pair.status()).problems == []


async def test_sync_file_dir_conf_res1(pair):
    await pair.a.put("x", b"the file")
    await pair.b.make_directory("x")
    async with pair.running():
        await pair.b.remove_directory("x")
        await pair.until_both({"x": b"the file"})


async def test_sync_file_dir_conf_res2(pair):
    await pair.a.put("x", b"the file")
    await pair.b.put("x/inner", b"in the folder")
    async with pair.running():
        await pair.a.move("x", "y")
        await pair.until_both({"x": None, "x/inner": b"in the folder", "y": b"the file"})


@pytest.mark.parametrize("remembered", [True, False], ids=["remembered", "first-run"])
async def test_sync_two_containers(tmp_path, kinds, remembered):
    pairs = []
    for name in ("one", "two"):
        a, b = (new_side(kind, tmp_path / name, side) for kind, side in zip(kinds, "ab", strict=True))
        pairs.append(KeptPair(tmp_path / "state", a, b, name=name))
        await a.put("same name", name.encode())
    one, two = pairs
    if remembered:
        for each in pairs:
            async with each.running():
                await each.quiet()
    async with one.running(), two.running():
        await one.a.put("only here", b"1")
        await two.b.put("same name", b"two, edited")
        await one.until_both({"same name": b"one", "only here": b"1"})
        await two.until_both({"same name": b"two, edited"})
        await one.quiet()
        assert await one.trees() == ({"same name": b"one", "only here": b"1"},) * 2


@pytest.mark.parametrize("remembered", [True, False], ids=["remembered", "first-run"])
async def test_get_conflicts_simple(tmp_path, kinds, remembered):
    first, second = kinds
    places = [new_side(kind, tmp_path, name) for kind, name in ((first, "a"), (second, "b"), (first, "c"))]
    for number, place in enumerate(places):
        await place.put("x", b"version %d" % number)
        await place.put("alike", b"the same")
    pairs = [
        KeptPair(tmp_path / "state", places[one], places[two], name=f"{one}{two}")
        for one, two in ((0, 1), (0, 2), (1, 2))
    ]
    found = []
    for each in pairs:
        async with each.running():
            if remembered:
                await each.quiet()
            found.append(await each.conflicts())
    assert found == [["x"], ["x"], ["x"]]
    assert [(await tree_of(place.storage))["x"] for place in places] == [
        b"version %d" % number for number in range(3)
    ]


async def test_lost_events_are_told_and_nothing_is_missed(tmp_path):
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("the kernel's queue is too long to fill quickly")
    pair = KeptPair(tmp_path / "state", new_side("local", tmp_path, "a"), new_side("memory", tmp_path, "b"))
    for name in ("x", "y"):
        await pair.a.put(name, b"1")
    async with pair.running():
        gate = pair.b.storage.faults.hold("list")
        for _ in range(limit):  # twice what the queue holds: a read that is under way may take some
            os.utime(tmp_path / "a/x")
            os.utime(tmp_path / "a/y")
        await pair.a.put("lost/deep/new", b"2")
        with trio.fail_after(60):
            await gate.reached.wait()
        status = await pair.status()
        assert "side A" in (status.reason or "")
        assert "events were lost" in (status.reason or "")
        gate.release()
        await pair.until_both({"x": b"1", "y": b"1", "lost": None, "lost/deep": None, "lost/deep/new": b"2"})
        await pair.until_state("settled")
        status = await pair.status()
        assert status.reason is None
        assert status.totals is not None
        assert status.totals.events_lost == 1
