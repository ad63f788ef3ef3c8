"""A folder that the remote refuses to list is not an empty one."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest
import trio

from mountsync.engine.assembly import Tuning
from mountsync.errors import Busy, PathError, errno_of
from mountsync.model.entry import Problem
from mountsync.paths import ROOT, RelPath, is_within
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import put
from tests.parts.mounted import expect_error, mounted

WHY = "too many files"
D = RelPath("d")
TUNING = Tuning(host="here", write_delay=1.0, poll_interval=30.0)


class Refusing(MemoryStorage):
    """Refuses to list some folders: by an error, or, as `tells`, by a problem in the listing."""

    def __init__(self) -> None:
        super().__init__("refusing")
        self.refused: set[RelPath] = set()
        self.tells: Problem | None = None

    @asynccontextmanager
    async def list(self, path, *, recursive):
        async with super().list(path, recursive=recursive) as batches:
            found = [item async for batch in batches for item in batch]
        bad = {each for each in self.refused if is_within(each, path) and (recursive or each == path)}
        if bad and not recursive and self.tells is None:
            raise PathError(WHY, path=path)
        problem = self.tells or Problem(WHY, transient=False)
        seen = [item for item in found if not any(_is_inside(item[0], each) for each in bad)]
        yield _Batches([[*seen, *((each, problem) for each in bad)]])


def _is_inside(path: RelPath, folder: RelPath) -> bool:
    return path != folder and is_within(path, folder)


class _Batches:
    def __init__(self, batches) -> None:
        self._left = iter(batches)

    def __aiter__(self):
        return self

    async def __anext__(self):
        for batch in self._left:
            return batch
        raise StopAsyncIteration


@pytest.fixture(params=["raises", "tells"])
async def remote(request):
    storage = Refusing()
    if request.param == "tells":
        storage.tells = Problem(WHY, transient=False)
    await put(storage, "d/f", b"1")
    await put(storage, "e", b"2")
    return storage


async def problems_of(m) -> dict[str, str]:
    return {each.path: each.reason for each in (await m.steering.status()).problems}


@pytest.mark.parametrize("running", [False, True])
async def test_a_refused_folder_is_an_error_and_not_empty(quick_clock, home, remote, running):
    remote.refused = {D}
    async with mounted(home, remote, tuning=TUNING, running=running) as m:
        assert sorted(await m.names()) == ["d", "e"]
        error = await expect_error(PathError, m.names("d"))
        assert errno_of(error) == 5
        await expect_error(PathError, m.read("d/f"))
        await expect_error(PathError, m.rmdir("d"))
        await expect_error(PathError, m.write("d/new", b""))
        assert await m.read("e") == b"2"
        assert "d" in await m.names()
        if running:
            await m.session.scan()
            assert await problems_of(m) == {"d": WHY}
        remote.refused = set()
        assert await m.read("d/f") == b"1"
        if running:
            await m.flush()
            assert await problems_of(m) == {}


async def test_a_refused_root_is_a_problem_and_not_settled(quick_clock, home, remote):
    remote.refused = {ROOT}
    async with mounted(home, remote, tuning=TUNING) as m:
        await expect_error(PathError, m.names())
        await trio.sleep(100)
        assert (await m.steering.status()).state == "waiting-to-retry"
        assert await problems_of(m) == {"": WHY}
        remote.refused = set()
        await trio.sleep(100)
        assert (await m.steering.status()).state == "settled"
        assert await problems_of(m) == {}
        assert sorted(await m.names()) == ["d", "e"]


async def test_what_is_known_of_a_root_that_is_refused_later_stays(quick_clock, home, remote):
    async with mounted(home, remote, tuning=TUNING) as m:
        await m.local_tree()
        remote.refused = {ROOT}
        await trio.sleep(100)
        assert (await m.steering.status()).state == "waiting-to-retry"
        assert sorted(await m.names()) == ["d", "e"]
        await m.write("e", b"new")
        await m.settled()
        remote.refused = set()
        assert (await m.flush()).state == "settled"
        assert (await m.remote_tree())["e"] == b"new"


async def test_what_may_pass_is_busy(quick_clock, home):
    remote = Refusing()
    await put(remote, "d/f", b"1")
    remote.refused, remote.tells = {D}, Problem(WHY)
    async with mounted(home, remote, tuning=TUNING, running=False) as m:
        await m.names()
        await expect_error(Busy, m.names("d"))
        await expect_error(Busy, m.rmdir("d"))
