"""What earlier versions left in the state, so that a change stayed pending for ever: a start mends it."""

from __future__ import annotations

import pytest

from mountsync.storage.memory import MemoryStorage
from mountsync.vfs import fsck
from tests.parts.mounted import Mounted, mounted
from tests.parts.stops import TUNING


async def make(m: Mounted) -> None:
    await m.mkdir("d")
    await m.mkdir("d/s")
    await m.write("d/f", b"text")
    await m.write("d/s/g", b"more")
    await m.settled()


async def lose_place(m: Mounted) -> None:
    """What was agreed in a directory that another one replaced stays, and the removals are pending."""
    await m.unlink("d/s/g")
    await m.rmdir("d/s")
    with m.database.transaction:
        m.base.remove(*next((row.parent, row.name) for row in m.base.children(1)))


async def lose_removal(m: Mounted) -> None:
    """Of a removed directory's entry it is not known that it was removed."""
    node = (await m.lookup("d/s/g")).id
    await m.unlink("d/s/g")
    await m.rmdir("d/s")
    with m.database.transaction:
        m.database.execute("DELETE FROM journal WHERE node = ?", (node,))


async def lose_replacement(m: Mounted) -> None:
    """Of something it is not known that something else is in its place."""
    node = (await m.lookup("d/f")).id
    await m.unlink("d/f")
    await m.write("d/f", b"other text")
    with m.database.transaction:
        m.database.execute("DELETE FROM journal")
    assert node != (await m.lookup("d/f")).id


@pytest.mark.parametrize(
    ("lose", "named", "count"),
    [
        (lose_place, "no agreed directory", 2),
        (lose_removal, "left it unnoticed", 1),
        (lose_replacement, "left it unnoticed", 1),
    ],
)
async def test_the_next_start_mends_it(quick_clock, home, lose, named, count):
    storage = MemoryStorage()
    async with mounted(home, storage, tuning=TUNING) as m:
        await make(m)
    async with mounted(home, storage, tuning=TUNING, running=False) as m:
        await lose(m)
        found = fsck.check(m.database, m.store)
        assert len(found) == count
        assert all(named in line for line in found)
        wanted = await m.local_tree()
    async with mounted(home, storage, tuning=TUNING) as m:
        assert m.recovered.misplaced + m.recovered.unnoted >= count
        m.check()
        await m.flush(timeout=1000)
        assert m.pending() == []
        assert m.session.problems == {}
        assert (await m.remote_tree()).items() >= wanted.items()
        assert await m.local_tree() == await m.remote_tree()
        m.check()
