"""A storage says that it is not the one that it was: everything stops, and nothing that is here goes."""

from __future__ import annotations

import pytest
import trio

from mountsync.engine.assembly import Tuning
from mountsync.engine.away import AwayStorage
from mountsync.errors import Halted, NotFound, Unreachable
from mountsync.paths import RelPath
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import body, put
from tests.parts.failing import failing
from tests.parts.mounted import expect_error, mounted

GONE = "the volume was deleted"
CALLS = ("list", "stat", "read", "write", "delete", "make_directory", "move", "set_mtime", "barrier")


def quick(**more) -> Tuning:
    return Tuning(**{"host": "here", "write_delay": 1.0, "poll_interval": 30.0} | more)


@pytest.fixture
def remote():
    return failing(MemoryStorage())


def vanish(remote) -> None:
    for call in CALLS:
        remote.faults.fail_next(call, Halted(GONE, hint="look at it"), times=10_000)


async def state_of(m) -> tuple[str, str | None]:
    status = await m.steering.status()
    return status.state, status.reason


async def is_safe(m, remote) -> None:
    """Halted for good; what is here stays, and nothing is sent."""
    assert await state_of(m) == ("halted-remote", GONE)
    effects = len(remote.faults.log)
    with pytest.raises(Halted):
        await m.steering.evict("here")
    with pytest.raises(Halted):
        await m.steering.evict("")
    assert m.engine.upkeep.make_room() == 0
    assert await m.read("here") == body(100_000)
    await m.write("new", b"2")
    await trio.sleep(1000)
    await expect_error(Halted, m.flush())
    for confirm in (False, True):
        error = await expect_error(Halted, m.steering.resume(confirm=confirm))
        assert "mountsync export" in str(error)
        assert "--cache-dir" in str(error)
    assert len(remote.faults.log) == effects
    assert await state_of(m) == ("halted-remote", GONE)
    assert await m.read("here") == body(100_000)
    assert await m.read("new") == b"2"


async def test_seen_by_a_look_at_everything(quick_clock, home, remote):
    async with mounted(home, remote, tuning=quick(cache_size=1)) as m:
        m.engine.upkeep.limit = None
        await m.write("here", body(100_000))
        await m.flush()
        vanish(remote)
        m.engine.upkeep.limit = 1
        m.session.scan_soon()
        await m.condition.until(lambda: m.condition.halted is not None)
        await is_safe(m, remote)


async def test_seen_by_a_question_of_a_person(quick_clock, home, remote):
    async with mounted(home, remote, tuning=quick(poll_interval=0)) as m:
        await m.write("here", body(100_000))
        await m.flush()
        vanish(remote)
        await expect_error(Halted, m.flush())
        await is_safe(m, remote)


async def test_seen_by_an_upload(quick_clock, home, remote):
    async with mounted(home, remote, tuning=quick(poll_interval=0)) as m:
        await m.write("here", body(100_000))
        await m.flush()
        vanish(remote)
        for name in ("one", "two", "three"):
            await m.write(name, b"1")
        await trio.sleep(30)
        await is_safe(m, remote)
        assert await m.read("three") == b"1"


async def test_seen_by_a_read(quick_clock, home, remote):
    await put(remote, "cold", body(1000))
    async with mounted(home, remote, tuning=quick(poll_interval=0)) as m:
        await m.write("here", body(100_000))
        await m.flush()
        vanish(remote)
        await expect_error(Halted, m.read("cold"))
        await is_safe(m, remote)
        asked = remote.faults.calls["read"]
        await expect_error(Halted, m.read("cold"))
        assert remote.faults.calls["read"] == asked


async def test_seen_by_a_look_into_a_folder(quick_clock, home, remote):
    await put(remote, "d/cold", body(1000))
    async with mounted(home, remote, running=False) as m:
        await m.names()
        vanish(remote)
        await expect_error(Halted, m.names("d"))
        assert await state_of(m) == ("halted-remote", GONE)


async def test_seen_by_a_hint(quick_clock, home, remote):
    async with mounted(home, remote, tuning=quick(poll_interval=0)) as m:
        await m.write("here", body(100_000))
        await m.flush()
        vanish(remote)
        m.session.hint({RelPath("here")})
        await trio.sleep(30)
        await is_safe(m, remote)


async def test_seen_while_it_is_found_out_what_was_sent(quick_clock, home, remote):
    async with mounted(home, remote, tuning=quick(poll_interval=0)) as m:
        await m.write("here", body(100_000))
        await m.flush()
        gate = remote.faults.hold("write")
        await m.write("sent", b"1")
        await gate.reached.wait()
        remote.faults.offline = True
        gate.release()
        await m.condition.until(lambda: m.condition.offline is not None)
        remote.faults.offline = False
        vanish(remote)
        await m.condition.until(lambda: m.condition.halted is not None)
        await is_safe(m, remote)


async def test_another_remote_that_is_opened_late(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.write("here", body(100_000))
        await m.flush()

    async def opener():
        raise Halted(GONE)

    async with mounted(home, AwayStorage(remote.info, "no network"), opener=opener) as m:
        await trio.sleep(100)
        await is_safe(m, remote)


async def test_a_safety_stop_of_our_own_keeps_its_state(quick_clock, home, remote):
    for name in ("a", "b", "c"):
        await put(remote, name, b"x")
    async with mounted(home, remote) as m:
        await m.local_tree()
        for name in ("a", "b", "c"):
            remote._below._tree.delete(RelPath(name), None)
        await expect_error(Halted, m.flush())
        vanish(remote)
        await expect_error(Halted, m.flush())
        assert (await m.steering.status()).state == "halted-emptied"
        with pytest.raises(Halted, match="--confirm"):
            await m.steering.evict("a")


async def test_what_is_here_stays_while_the_remote_is_missing(quick_clock, home, remote):
    """Its place answers that it is not there; an unplugged disk or a line without a signal does not."""
    async with mounted(home, remote) as m:
        await m.write("here", body(100_000))
        await m.flush()
    found = False

    async def open_remote():
        if not found:
            raise NotFound("there is no volume of that name")
        return remote

    away = AwayStorage(remote.info, "it could not be opened")
    async with mounted(home, away, tuning=quick(cache_size=1), opener=open_remote) as m:
        await trio.sleep(60)
        assert (await state_of(m))[0] == "offline"
        with pytest.raises(Unreachable, match="no volume of that name"):
            await m.steering.evict("here")
        assert m.engine.upkeep.make_room() == 0
        assert await m.read("here") == body(100_000)
        found = True
        await m.flush()
        await trio.sleep(60)
        assert m.volume.cache_bytes() == 0
