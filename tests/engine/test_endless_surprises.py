"""A step that a storage refuses again and again with an error that only asks for another look.

One such refusal is a race; one that never ends is a problem of its path, and nobody waits for it for ever.
"""

from __future__ import annotations

import pytest
import trio

from mountsync.errors import (
    AlreadyExists,
    Busy,
    DirectoryNotEmpty,
    IsADirectory,
    NotADirectory,
    NotFound,
    Stale,
)
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import get, put
from tests.parts.failing import failing
from tests.parts.mounted import expect_error, mounted

ALWAYS = 1000
SURPRISES = [NotFound, Stale, AlreadyExists, IsADirectory, NotADirectory, DirectoryNotEmpty]


@pytest.fixture
def remote():
    return failing(MemoryStorage())


@pytest.mark.parametrize("kind", SURPRISES)
async def test_a_folder_that_can_never_be_made_is_a_problem(quick_clock, home, remote, kind):
    remote.faults.fail_next("make_directory", kind("the storage says so"), ALWAYS)
    async with mounted(home, remote) as m:
        await m.mkdir("d")
        await m.write("d/f", b"1")
        await m.write("other", b"2")
        with trio.fail_after(120):
            status = await m.flush()
        assert {p.path: p.error for p in status.problems if p.path == "d"} == {"d": kind.__name__}
        assert "the storage says so" in next(p.reason for p in status.problems if p.path == "d")
        assert all(p.retry_at is not None for p in status.problems)
        assert status.state == "waiting-to-retry"
        assert status.pending == 2
        assert await get(m.storage, "other") == b"2"
        assert {p.path for p in m.heard.problems} == {"d", "d/f"}


async def test_it_is_tried_again_and_the_problem_goes(quick_clock, home, remote):
    remote.faults.fail_next("make_directory", NotFound("the storage says so"), ALWAYS)
    async with mounted(home, remote) as m:
        await m.mkdir("d")
        await m.write("d/f", b"1")
        assert (await m.flush()).problems
        calls = remote.faults.calls["make_directory"]
        await trio.sleep(600)
        assert 3 < remote.faults.calls["make_directory"] - calls < 15  # the waits grow
        assert [p.path for p in (await m.steering.status()).problems] == ["d", "d/f"]
        remote.faults._next.clear()
        await m.settled(1200)
        assert (await m.steering.status()).problems == []
        assert await m.remote_tree() == {"d": None, "d/f": b"1"}


async def test_an_unmount_that_drains_ends_with_what_is_left(quick_clock, home, remote):
    remote.faults.fail_next("write", Stale("it is another object"), ALWAYS)
    async with mounted(home, remote) as m:
        await m.write("f", b"1")
        with trio.fail_after(120):
            error = await expect_error(Busy, m.steering.shutdown(drain=True))
        assert "1 changes could not be replicated" in str(error)


async def test_what_cannot_be_removed_there_is_a_problem(quick_clock, home, remote):
    await put(remote, "f", b"1")
    async with mounted(home, remote) as m:
        await m.names()
        remote.faults.fail_next("delete", Stale("it is another object"), ALWAYS)
        await m.unlink("f")
        with trio.fail_after(120):
            status = await m.flush()
        assert [(p.path, p.error) for p in status.problems] == [("f", "Stale")]


async def test_races_stay_quiet(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        for call, kind in (("make_directory", NotFound), ("write", Stale), ("move", AlreadyExists)):
            remote.faults.fail_next(call, kind("not now"), 2)
        await m.mkdir("d")
        await m.write("d/f", b"1")
        assert (await m.flush()).pending == 0
        await m.rename("d/f", "g")
        status = await m.flush()
        assert (status.pending, status.problems, m.heard.problems) == (0, [], [])
        assert await m.remote_tree() == {"d": None, "g": b"1"}


async def test_a_file_that_somebody_writes_there_all_the_time_stays_quiet(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.write("f", b"0")
        await m.flush()
        for number in range(8):

            async def theirs(number: int = number) -> None:
                await put(remote._below, "f", b"theirs %d" % number)

            remote.faults.meanwhile(number + 1, theirs)
        await m.write("f", b"ours")
        with trio.fail_after(300):
            status = await m.flush()
        assert (status.pending, status.problems, m.heard.problems) == (0, [], [])
        assert b"ours" in (await m.remote_tree()).values()


async def test_a_new_change_is_tried_anew(quick_clock, home, remote):
    remote.faults.fail_next("write", NotFound("no"), 7)
    async with mounted(home, remote) as m:
        await m.write("f", b"1")
        assert (await m.flush()).problems
        remote.faults._next.clear()
        await m.write("f", b"2")
        status = await m.flush()
        assert (status.pending, status.problems) == (0, [])
        assert await get(m.storage, "f") == b"2"


async def _overwrite(m):
    await m.write("f", b"new")


async def _both_edit(m):
    await m.write("f", b"ours")
    await put(m.storage._below, "f", b"theirs")


async def _remove_folder(m):
    await m.unlink("d/g")
    await m.rmdir("d")


CHANGES = {
    "a file": ("write", lambda m: m.write("new", b"1")),
    "another content": ("write", _overwrite),
    "a conflict": ("write", _both_edit),
    "a conflict, moves": ("move", _both_edit),
    "a removal": ("delete", lambda m: m.unlink("f")),
    "a removed folder": ("remove_directory", _remove_folder),
    "a rename": ("move", lambda m: m.rename("f", "f2")),
    "a renamed folder": ("move", lambda m: m.rename("d", "d2")),
    "a time": ("set_mtime", lambda m: m.setattr("f", mtime_ns=1)),
    "a mode": ("set_mode", lambda m: m.setattr("f", mode=0o600)),
    "a link": ("make_symlink", lambda m: m.symlink("l", "f")),
}


@pytest.mark.parametrize("kind", SURPRISES)
@pytest.mark.parametrize("change", CHANGES)
async def test_no_change_is_tried_for_ever(quick_clock, home, remote, change, kind):
    call, act = CHANGES[change]
    async with mounted(home, remote) as m:
        await m.write("f", b"1")
        await m.mkdir("d")
        await m.write("d/g", b"2")
        assert (await m.flush()).pending == 0
        remote.faults.fail_next(call, kind("the storage says so"), ALWAYS)
        await act(m)
        with trio.fail_after(600):
            status = await m.flush()
        assert bool(status.pending) == bool(status.problems)
        assert remote.faults.calls[call] < 60
        remote.faults._next.clear()
        await m.settled(1500)
        assert (await m.flush()).problems == []
        assert await m.local_tree() == await m.remote_tree()
