"""Credentials that a remote refuses are told: nothing travels until a person has seen to them."""

from __future__ import annotations

import pytest
import trio

from mountsync.cli.health import _of_status
from mountsync.errors import AccessRefused, PathError
from mountsync.storage.memory import MemoryStorage
from tests.parts.failing import failing
from tests.parts.mounted import mounted

ALWAYS = 10_000


@pytest.fixture
def remote():
    return failing(MemoryStorage())


async def health(m) -> tuple[int, str]:
    line, code = _of_status(await m.steering.status())
    return code, line


@pytest.mark.parametrize("refused", ["list", "write"])
async def test_health_says_so_and_why(quick_clock, home, remote, refused):
    async with mounted(home, remote) as m:
        await m.write("f", b"1")
        await m.flush()
        assert (await health(m))[0] == 0
        remote.faults.fail_next(refused, AccessRefused("the token was revoked"), ALWAYS)
        await m.write("f", b"2")
        await trio.sleep(200)
        code, line = await health(m)
        assert code == 5
        assert line.startswith("/nowhere: refused: ")
        assert line.endswith(": the token was revoked")
        remote.faults._next.clear()
        await m.flush()
        assert await health(m) == (0, "/nowhere: mounted: settled, 0 not replicated")


async def test_what_waited_for_credentials_goes_on_with_them(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.names()
        for call in ("list", "write"):
            remote.faults.fail_next(call, AccessRefused("the token was revoked"), ALWAYS)
        await m.write("f", b"1")
        await trio.sleep(200)
        remote.faults._next.clear()
        await m.settled(120)
        assert await m.remote_tree() == {"f": b"1"}
        assert (await m.steering.status()).problems == []


async def test_refused_at_the_return_of_the_remote(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.write("f", b"1")
        await m.flush()
        remote.faults.offline = True
        await trio.sleep(100)
        assert (await health(m))[0] == 6
        remote.faults.fail_next("list", AccessRefused("the token was revoked"), ALWAYS)
        remote.faults.offline = False
        await trio.sleep(100)
        code, line = await health(m)
        assert (code, line.rpartition(": ")[2]) == (5, "the token was revoked")
        remote.faults._next.clear()
        await m.flush()
        assert (await health(m))[0] == 0


async def test_a_remote_that_cannot_be_listed_is_not_well(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.flush()
        remote.faults.fail_next("list", PathError("the listing is broken"), ALWAYS)
        await trio.sleep(200)
        code, line = await health(m)
        assert code == 6
        assert line.endswith(": the listing is broken")
