"""A flush ends when nothing can be sent any more, and what waits for nothing is told."""

from __future__ import annotations

import trio

from mountsync.errors import AccessRefused
from mountsync.paths import RelPath
from mountsync.storage.memory import MemoryStorage
from tests.parts.failing import failing
from tests.parts.mounted import Mounted, mounted
from tests.parts.stops import TUNING


async def make(m: Mounted) -> None:
    for path in ("d", "d/s"):
        await m.mkdir(path)
    await m.write("d/s/f", b"text")
    await m.flush()


async def remove(m: Mounted) -> None:
    await m.unlink("d/s/f")
    await m.rmdir("d/s")
    await m.rmdir("d")


async def test_a_removed_folder_waits_no_longer_than_what_is_in_it(quick_clock, home):
    storage = failing(MemoryStorage())
    async with mounted(home, storage, tuning=TUNING) as m:
        await make(m)
        storage.faults.fail_path(RelPath("d/s/f"), AccessRefused("not yours"))
        await remove(m)
        with trio.fail_after(300):
            left = await m.flush()
        assert left.pending == 3
        assert [(problem.path, problem.reason) for problem in left.problems] == [("d/s/f", "not yours")]
        storage.faults.fail_path(RelPath("d/s/f"), None)
        await m.flush(timeout=300)
        assert m.pending() == []
        assert await m.remote_tree() == {}


async def test_what_waits_for_nothing_is_a_problem(quick_clock, home):
    """It should not be; whatever the cause, it is told once, and a flush ends."""
    async with mounted(home, MemoryStorage(), tuning=TUNING) as m:
        await make(m)
        node = (await m.lookup("d/s/f")).id
        await remove(m)
        with m.database.transaction:
            m.database.execute("DELETE FROM journal WHERE node = ?", (node,))
        with trio.fail_after(300):
            left = await m.flush()
        assert left.pending == 2
        assert [problem.path for problem in left.problems] == ["d/s"]
        assert "nothing is tried any more" in left.problems[0].reason
        assert left.state == "waiting-to-retry"
        await trio.sleep(600)
        assert len(m.heard.problems) == 1
    async with mounted(home, m.storage, tuning=TUNING) as m:
        await m.flush(timeout=300)
        assert m.pending() == []
        assert await m.remote_tree() == {}
