"""Renames that the storage does not do in one step between some of its places."""

from __future__ import annotations

from dataclasses import replace

import pytest
import trio

from mountsync.errors import Unreachable, Unsupported
from mountsync.paths import RelPath, parts_of
from mountsync.storage.api import ABSENT
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import body, put
from tests.parts.failing import failing
from tests.parts.mounted import Killed, mounted
from tests.parts.pairs import Pair, tree_of


class Divided(MemoryStorage):
    """Its top folders are different places, as volumes and buckets are. It renames no folders."""

    def __init__(self) -> None:
        super().__init__("divided")
        self._info = replace(self._info, moves_directories=False, stable_tokens=False)

    async def move(self, source, target, *, expect=None, replace=ABSENT):
        _refuse(source, target)
        return await super().move(source, target, expect=expect, replace=replace)

    async def copy(self, source, target, *, expect=None, replace=ABSENT):
        _refuse(source, target)
        return await super().copy(source, target, expect=expect, replace=replace)


def _refuse(source, target) -> None:
    if parts_of(source)[0] != parts_of(target)[0]:
        raise Unsupported("not between these", path=source)


@pytest.fixture
def remote():
    return failing(Divided())


async def test_of_files_cold_and_warm(quick_clock, home, remote):
    await put(remote, "one/cold", body(300_000))
    await put(remote, "two/other", b"1")
    async with mounted(home, remote) as m:
        await m.write("one/warm", b"2")
        await m.flush()
        await m.names("two")
        await m.rename("one/cold", "two/cold")
        await m.rename("one/warm", "two/other")
        status = await m.flush()
        assert (status.state, status.pending, status.problems) == ("settled", 0, [])
        wanted = {"one": None, "two": None, "two/cold": body(300_000), "two/other": b"2"}
        assert await m.remote_tree() == wanted
        assert await m.local_tree() == wanted


async def test_of_a_folder(quick_clock, home, remote):
    await put(remote, "one/d/a", b"1")
    await put(remote, "one/d/e/b", b"2")
    await put(remote, "two/c", b"3")
    async with mounted(home, remote) as m:
        await m.local_tree()
        await m.rename("one/d", "two/d")
        await m.flush()
        assert (await m.remote_tree())["two/d/e/b"] == b"2"
        assert await m.remote_tree() == await m.local_tree()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("effect", [2, 3, 4])
async def test_half_done_at_the_death_of_the_process(quick_clock, home, remote, effect, after):
    await put(remote, "one/f", body(1000))
    await put(remote, "two/c", b"3")
    async with mounted(home, remote) as m:
        await m.local_tree()
        await m.rename("one/f", "two/f")
        remote.faults.fail_effect(effect, Unreachable("cut"), after=after)
        await trio.sleep(3)
        raise Killed
    async with mounted(home, remote) as m:
        await m.flush()
        wanted = {"one": None, "two": None, "two/c": b"3", "two/f": body(1000)}
        assert await m.remote_tree() == wanted
        assert await m.local_tree() == wanted


async def test_of_a_pair(home, remote):
    pair = Pair(home, MemoryStorage("here"), remote)
    await put(pair.a, "one/f", body(1000))
    await put(pair.a, "two/c", b"3")
    await pair.sync()
    await pair.a.move(RelPath("one/f"), RelPath("two/f"))
    report = await pair.sync()
    assert report.problems == {}
    assert (await tree_of(pair.b))["two/f"] == body(1000)
    assert "one/f" not in await tree_of(pair.b)
