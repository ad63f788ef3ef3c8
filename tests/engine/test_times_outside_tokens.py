"""Times on a storage whose tokens do not cover them: they reach the other mounts, and no more happens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mountsync.model.entry import Kind
from mountsync.paths import RelPath
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import put
from tests.parts.failing import failing
from tests.parts.mounted import EPOCH_NS, mounted

T0, T1, T2 = EPOCH_NS + 1, EPOCH_NS + 10**9, EPOCH_NS + 2 * 10**9


class Sidecar(MemoryStorage):
    """As MemoryStorage, whose `set_mtime` leaves the token as it was."""

    @property
    def info(self):
        return replace(super().info, times_outside_tokens=True)


@pytest.fixture
def tree():
    return MemoryStorage()._tree


def storage(tree):
    return failing(Sidecar("one", tree=tree))


async def time_there(m, path: str = "f") -> int | None:
    found = await m.storage.stat(RelPath(path))
    assert found is not None
    assert found.kind is Kind.FILE
    return found.mtime_ns


async def time_here(m, path: str = "f") -> int:
    return (await m.lookup(path)).mtime_ns


async def both(one, two) -> None:
    for _ in range(2):
        for m in (one, two):
            assert (await m.flush()).pending == 0


async def test_a_touch_reaches_the_other_mount_and_nothing_travels(quick_clock, home, tree):
    async with mounted(home / "1", storage(tree)) as one, mounted(home / "2", storage(tree)) as two:
        await one.write("f", b"text")
        await one.setattr("f", mtime_ns=T0)
        await both(one, two)
        assert (await time_here(two), await two.read("f")) == (T0, b"text")
        node = (await two.lookup("f")).id
        before = (one.storage.faults.effects, two.storage.faults.calls["read"])
        await one.setattr("f", mtime_ns=T1)
        await both(one, two)
        assert [await time_here(m) for m in (one, two)] == [T1, T1]
        assert (await two.lookup("f")).id == node
        assert [call for call, _ in one.storage.faults.log[before[0] :]] == ["set_mtime"]
        assert two.storage.faults.log == []
        assert two.storage.faults.calls["read"] == before[1]
        assert one.heard.conflicts == two.heard.conflicts == []
        assert await one.names() == ["f"]


async def test_a_file_that_was_never_read_gets_the_time_without_a_download(quick_clock, home, tree):
    async with mounted(home / "1", storage(tree)) as one, mounted(home / "2", storage(tree)) as two:
        await one.write("f", b"text")
        await both(one, two)
        await two.names()
        await one.setattr("f", mtime_ns=T1)
        await both(one, two)
        assert await time_here(two) == T1
        assert two.storage.faults.calls["read"] == 0
        assert await two.read("f") == b"text"


async def test_where_both_set_a_time_the_later_one_holds(quick_clock, home, tree):
    async with mounted(home / "1", storage(tree)) as one, mounted(home / "2", storage(tree)) as two:
        for name in ("f", "g"):
            await one.write(name, b"text")
        await both(one, two)
        await two.names()
        one.storage.faults.offline = two.storage.faults.offline = True
        for m, first, second in ((one, T1, T2), (two, T2, T1)):
            await m.setattr("f", mtime_ns=first)
            await m.setattr("g", mtime_ns=second)
        one.storage.faults.offline = two.storage.faults.offline = False
        await both(one, two)
        for name in ("f", "g"):
            assert [await time_here(m, name) for m in (one, two)] == [T2, T2]
            assert await time_there(one, name) == T2
        assert sorted(await one.names()) == sorted(await two.names()) == ["f", "g"]
        assert one.heard.conflicts == two.heard.conflicts == []
        done = one.storage.faults.effects, two.storage.faults.effects
        await both(one, two)
        assert (one.storage.faults.effects, two.storage.faults.effects) == done


async def test_a_time_set_elsewhere_and_an_edit_here(quick_clock, home, tree):
    async with mounted(home / "1", storage(tree)) as one, mounted(home / "2", storage(tree)) as two:
        await one.write("f", b"text")
        await both(one, two)
        await two.names()
        await two.write("f", b"edited")
        await one.setattr("f", mtime_ns=T1)
        await both(one, two)
        assert await one.read("f") == await two.read("f") == b"edited"
        assert await one.names() == ["f"]
        assert await time_here(one) == await time_here(two) == await time_there(one)


async def test_within_the_step_of_the_storage_nothing_has_changed(quick_clock, home, tree):
    class Coarse(Sidecar):
        @property
        def info(self):
            return replace(super().info, mtime_precision_ns=10**9)

    remote = failing(Coarse("one", tree=tree))
    async with mounted(home, remote) as m:
        await m.write("f", b"text")
        await m.setattr("f", mtime_ns=T1 + 5)
        await m.flush()
        await remote._below.set_mtime(RelPath("f"), T1)
        await m.flush()
        assert await time_here(m) == T1 + 5


async def test_times_that_a_listing_makes_up_say_nothing(quick_clock, home, tree):
    remote = failing(MemoryStorage("one", tree=tree))
    async with mounted(home, remote) as m:
        await put(remote, "f", b"text")
        await m.flush()
        before = await time_here(m)
        await remote._below.set_mtime(RelPath("f"), T1)
        await m.flush()
        assert await time_here(m) == before
