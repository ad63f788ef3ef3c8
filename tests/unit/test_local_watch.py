"""Watching a local folder, descriptors, and the barrier that callers share."""

import os
import shutil
from pathlib import Path

import pytest
import trio

from mountsync.errors import (
    Busy,
    PathError,
    Unreachable,
)
from mountsync.paths import ROOT, RelPath
from mountsync.storage.api import ABSENT
from mountsync.storage.barrier import SharedBarrier
from tests.parts.bodies import get, items, put


def _lose(root):
    root.rename(root.with_name("elsewhere"))


# ---- watching ------------------------------------------------------------------------------------


async def _until(hints, *wanted):
    with trio.fail_after(5):
        seen = set()
        while not seen.issuperset(wanted):
            seen |= await anext(hints)
    return seen


async def test_foreign_changes_are_hinted(storage, root):
    (root / "d").mkdir()
    (root / "old").write_bytes(b"x")
    async with storage.watch() as hints:
        (root / "d" / "new").write_bytes(b"x")
        await _until(hints, "d/new")
        (root / "e" / "deep").mkdir(parents=True)
        (root / "e" / "deep" / "f").write_bytes(b"x")
        await _until(hints, "e", "e/deep/f")
        os.rename(root / "e", root / "moved")
        await _until(hints, "e", "moved")
        (root / "moved" / "deep" / "g").write_bytes(b"x")
        await _until(hints, "moved/deep/g")
        (root / "old").chmod(0o600)
        await _until(hints, "old")
        shutil.rmtree(root / "moved")
        await _until(hints, "moved")


async def test_a_watch_that_lost_events_says_look_everywhere(storage, root):
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    if limit > 100_000:
        pytest.skip("the queue is too long to fill quickly")
    (root / "a").write_bytes(b"")
    (root / "b").write_bytes(b"")
    async with storage.watch() as hints:
        for _ in range(limit // 2 + 10):
            os.utime(root / "a")  # by turns: equal neighbours count once
            os.utime(root / "b")
        (root / "lost" / "folder").mkdir(parents=True)
        await _until(hints, ROOT)
        (root / "lost" / "folder" / "f").write_bytes(b"x")
        await _until(hints, "lost/folder/f")


async def test_a_folder_that_left_the_tree_is_not_watched_any_more(storage, root, tmp_path):
    (root / "d" / "e").mkdir(parents=True)
    async with storage.watch() as hints:
        os.rename(root / "d", tmp_path / "out")
        await _until(hints, "d")
        (tmp_path / "out" / "e" / "f").write_bytes(b"x")
        (root / "end").write_bytes(b"x")
        assert await _until(hints, "end") <= {"d", "end"}


@pytest.mark.parametrize("lose", [_lose, shutil.rmtree])
async def test_a_watch_of_a_lost_root_ends_with_an_error(storage, root, lose):
    (root / "d").mkdir()
    async with storage.watch() as hints:
        lose(root)
        with trio.fail_after(5), pytest.raises(Unreachable):
            while True:
                await anext(hints)


async def test_unfinished_files_are_not_hinted(storage):
    async with storage.watch() as hints:
        await put(storage, "f", b"x")
        assert await _until(hints, "f") == {"f"}


async def test_a_cancelled_watch_gives_its_descriptor_back(storage):
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        with trio.move_on_after(0.01):
            async with storage.watch() as hints:
                await anext(hints)
    assert len(os.listdir("/proc/self/fd")) == before


# ---- no leaks, no shared work lost ---------------------------------------------------------------


async def test_failures_leak_no_descriptors(storage):
    await put(storage, "d/f", b"x")
    before = len(os.listdir("/proc/self/fd"))
    for call in (
        lambda: put(storage, "d/f", b"x", expect=ABSENT),
        lambda: put(storage, "d", b"x"),
        lambda: put(storage, "d/f/g", b"x"),
        lambda: get(storage, "d"),
        lambda: get(storage, "nothing"),
        lambda: storage.move(RelPath("d/f"), RelPath("d/f/x")),
        lambda: storage.copy(RelPath("d/f"), RelPath("d")),
        lambda: items(storage, "d/f"),
        lambda: storage.make_directory(RelPath("d/f")),
    ):
        with pytest.raises(PathError):
            await call()
    assert len(os.listdir("/proc/self/fd")) == before


async def test_a_barrier_is_shared_by_those_who_came_before_it_began(autojump_clock):
    runs = []

    async def work():
        runs.append(trio.current_time())
        await trio.sleep(10)

    barrier = SharedBarrier(work)
    done = []

    async def caller(delay):
        await trio.sleep(delay)
        await barrier.wait()
        done.append((delay, trio.current_time()))

    start = trio.current_time()
    async with trio.open_nursery() as nursery:
        for delay in (0, 1, 2, 3):
            nursery.start_soon(caller, delay)
    assert len(runs) == 2, "the first runs alone, the three that came meanwhile share the next"
    assert [(delay, round(at - start)) for delay, at in sorted(done)] == [(0, 10), (1, 20), (2, 20), (3, 20)]


async def test_a_barrier_that_fails_tells_its_caller_and_the_next_tries_again(autojump_clock):
    outcomes = [Busy("no"), None]

    async def work():
        await trio.sleep(1)
        outcome = outcomes.pop(0)
        if outcome:
            raise outcome

    barrier = SharedBarrier(work)
    with pytest.raises(Busy):
        await barrier.wait()
    await barrier.wait()
    assert outcomes == []
