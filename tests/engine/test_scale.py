"""A large remote: quick to mount, small in memory, never in the way of other tasks.

`MOUNTSYNC_SCALE=100000` runs the whole size (a minute or so); the default is a tenth of it.
"""

from __future__ import annotations

import gc
import os
import time
import tracemalloc
from pathlib import Path

import pytest
import trio

from mountsync.engine.assembly import Tuning
from mountsync.storage.local import LocalStorage
from tests.parts.failing import failing
from tests.parts.mounted import mounted

FILES = int(os.environ.get("MOUNTSYNC_SCALE", "10000"))
FOLDERS = FILES // 100
KEPT = 4 << 20
"""Bytes for what does not grow with the tree: nodes in use, caches of statements."""
LONGEST_BLOCK_S = 0.05
"""No task may keep the others waiting for longer than this on a machine that does other things too."""


@pytest.fixture
def crowd(home: Path) -> Path:
    folder = home / "there"
    for number in range(FOLDERS):
        inside = folder / f"folder-{number:04d}"
        inside.mkdir(parents=True)
        for name in range(100):
            (inside / f"file-{name:03d}.txt").write_bytes(b"content %d" % name)
    return folder


class Ticker:
    """Measures for how long other tasks are kept waiting, in time of the processor: the machine is shared."""

    def __init__(self) -> None:
        self.waits: list[float] = []

    async def run(self) -> None:
        last = time.thread_time()
        while True:
            await trio.lowlevel.checkpoint()
            now = time.thread_time()
            self.waits.append(now - last)
            last = now
            if len(self.waits) % 50 == 0:
                await trio.sleep(0.0005)
                last = time.thread_time()


def clock() -> int:
    return time.time_ns()


def unit() -> float:
    """Processor seconds of a fixed piece of work, about a tenth of one: what they are worth just now.

    On a machine that is shared a second of the processor does more or less, by several times.
    """
    began = time.process_time()
    table = {number: str(number) for number in range(300_000)}
    sum(map(len, table.values()))
    return time.process_time() - began


async def test_a_large_remote(home, crowd):
    gc.collect()
    gc.freeze()  # as a mount does: what the tests themselves hold is not the engine's
    remote = failing(LocalStorage(str(crowd)))
    tuning = Tuning(host="here", poll_interval=0)
    began = time.process_time()
    ticker = Ticker()
    async with mounted(home / "state", remote, tuning=tuning, clock=clock) as m:
        names = await m.names()
        ready = time.process_time() - began
        assert len(names) == FOLDERS
        assert ready < 25 * unit()
        began = time.process_time()
        assert len(await m.names("folder-0007")) == 100
        assert time.process_time() - began < 25 * unit()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ticker.run)
            began = time.perf_counter()
            await m.flush()
            first = time.perf_counter() - began
            effects = remote.faults.effects
            began = time.perf_counter()
            await m.flush()
            idle = time.perf_counter() - began
            nursery.cancel_scope.cancel()
        assert m.tree.count() == FILES + FOLDERS + 1
        assert remote.faults.effects == effects == 0
        assert remote.faults.calls["read"] == 0
        waits = sorted(ticker.waits)
        late = waits[-len(waits) // 1000 - 1]
        print(f"\nready {ready:.3f} s, scan {first:.1f} s, idle scan {idle:.1f} s")
        print(f"longest block {waits[-1] * 1e3:.1f} ms, 99.9 % under {late * 1e3:.2f} ms")
        assert waits[-1] < LONGEST_BLOCK_S
        m.check()
    gc.unfreeze()


async def test_memory_for_each_entry(home, crowd):
    remote = LocalStorage(str(crowd))
    async with mounted(home / "state", remote, tuning=Tuning(host="here", poll_interval=0), clock=clock) as m:
        gc.collect()
        tracemalloc.start()
        try:
            await m.flush()
            await m.flush()
            gc.collect()
            now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        entries = m.tree.count()
        print(f"\n{now / entries:.0f} bytes of heap for each entry, {peak / entries:.0f} at the peak")
        assert now < 400 * entries + KEPT
        assert peak < 800 * entries + KEPT


async def test_one_crowded_folder(home):
    folder = home / "there" / "crowded"
    folder.mkdir(parents=True)
    for number in range(10_000):
        (folder / f"file-{number:05d}").touch()
    async with mounted(home / "state", LocalStorage(str(home / "there")), clock=clock) as m:
        began = time.process_time()
        assert len(await m.names("crowded")) == 10_000
        took = time.process_time() - began
        worth = unit()
        print(f"\nls of 10,000: {took:.2f} s, {took / worth:.1f} units")
        assert took < 25 * worth
