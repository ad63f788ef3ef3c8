"""A folder takes the name of one that was removed, while the removal is still on its way to the remote.

Nobody flushes: that would make the removal and the rename one change, and they are two.
"""

from __future__ import annotations

import pytest
import trio

from mountsync.storage.memory import MemoryStorage
from tests.engine.histories import without_empty
from tests.parts.mounted import Mounted, mounted, storage_tree
from tests.parts.stops import REMOTES, TUNING, Interrupted, inodes

OLD = ("d/f", "d/s/h", "d/s/t/u")
NEW = ("e/f", "e/g", "e/s/h", "e/s/i", "e/s/t/u", "e/s/t/v")


async def make_folders(m: Mounted) -> None:
    for path in ("d", "d/s", "d/s/t", "e", "e/s", "e/s/t"):
        await m.mkdir(path)
    for path in (*OLD, *NEW):
        await m.write(path, b"content of " + path.encode())


async def remove_old(m: Mounted) -> None:
    for path in OLD:
        await m.unlink(path)
    for path in ("d/s/t", "d/s", "d"):
        await m.rmdir(path)


async def take_the_name(m: Mounted) -> None:
    await m.rename("e", "d")


async def take_the_name_and_write(m: Mounted) -> None:
    await m.rename("e", "d")
    await m.write("d/s/t/v", b"written after the rename")
    await m.write("d/s/t/n", b"new")


async def take_the_name_after_another(m: Mounted) -> None:
    await m.rename("e", "z")
    await m.rename("z/s", "z/s2")
    await m.rename("z", "d")


@pytest.mark.parametrize("remote", REMOTES)
@pytest.mark.parametrize("act", [take_the_name, take_the_name_and_write, take_the_name_after_another])
@pytest.mark.parametrize("nth", [1, -3], ids=["at the first removal", "after the last"])
async def test_a_folder_takes_the_name_of_a_removed_one(quick_clock, home, remote, act, nth):
    storage = REMOTES[remote].make(MemoryStorage()._tree)
    removal, left = Interrupted(storage, abs(nth), after=nth < 0), []
    async with mounted(home, storage, tuning=TUNING) as m:

        async def go_on() -> None:
            await act(m)
            left.append((await m.local_tree(), await inodes(m)))

        await make_folders(m)
        await m.flush()
        await remove_old(m)
        removal.act = go_on
        with trio.fail_after(60):
            while not left:
                await trio.sleep(0.1)
        await m.settled(patience=600)
        wanted, ids = left[0]
        assert await m.local_tree() == wanted
        assert await inodes(m) == ids
        there = await storage_tree(storage)
        assert there == (without_empty(wanted) if REMOTES[remote].flat else wanted)
        assert m.session.problems == {}
        m.check()
