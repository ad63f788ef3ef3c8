"""One side changes, the other follows."""

from __future__ import annotations

from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import put
from tests.parts.failing import failing
from tests.parts.mounted import mounted


async def test_what_is_written_arrives(quick_clock, home):
    remote = failing(MemoryStorage())
    async with mounted(home, remote) as m:
        await m.mkdir("d")
        await m.write("d/f", b"one")
        await m.symlink("l", "d/f")
        await m.settled()
        assert await m.remote_tree() == {"d": None, "d/f": b"one", "l": "d/f"}
        await m.write("d/f", b"two!")
        await m.flush()
        assert await m.remote_tree() == {"d": None, "d/f": b"two!", "l": "d/f"}
        m.check()


async def test_what_the_remote_has_is_shown(quick_clock, home):
    remote = failing(MemoryStorage())
    await put(remote, "d/f", b"one")
    await put(remote, "g", b"")
    async with mounted(home, remote) as m:
        assert await m.local_tree() == {"d": None, "d/f": b"one", "g": b""}
        await put(remote, "d/f", b"second")
        await put(remote, "n/x/y", b"new")
        await remote.delete("g")
        await m.flush()
        assert await m.local_tree() == {
            "d": None, "d/f": b"second", "n": None, "n/x": None, "n/x/y": b"new"
        }  # fmt: skip
        m.check()
