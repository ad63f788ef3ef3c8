"""What was sent and can neither be recorded nor looked at: it waits, and costs less and less."""

from __future__ import annotations

import trio

from mountsync.engine.assembly import Tuning
from mountsync.errors import PermissionDenied, Unreachable, Unsupported
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import get
from tests.parts.failing import failing
from tests.parts.mounted import mounted

QUICK = Tuning(host="here", write_delay=1.0, poll_interval=1.0)


def refuse_looks(remote, path, error):
    """Looks at this one path are refused; returns the list of those that were tried."""
    asked, stat = [], remote.stat

    async def refusing(at):
        if at == path and error:
            asked.append(at)
            raise error[0]
        return await stat(at)

    remote.stat = refusing
    return asked


async def test_what_cannot_be_looked_at_is_asked_ever_more_rarely(quick_clock, home):
    remote = failing(MemoryStorage())
    error = [PermissionDenied("no looks here", path="f")]
    async with mounted(home, remote, tuning=QUICK) as m:
        await m.flush()
        asked = refuse_looks(remote, "f", error)
        remote.faults.fail_effect(1, Unreachable("the answer is lost"), after=True)
        await m.write("f", b"1")
        await trio.sleep(30)
        await m.write("other", b"2")
        await trio.sleep(600)
        assert 2 < len(asked) < 40
        assert await get(remote, "other") == b"2"
        error.clear()
        await m.settled(1200)
        assert await m.remote_tree() == {"f": b"1", "other": b"2"}


async def test_what_no_one_can_read_is_not_ours(quick_clock, home):
    """A special file of others is at the place: nothing was sent there, and everything else goes on."""
    remote = failing(MemoryStorage())
    async with mounted(home, remote, tuning=QUICK) as m:
        await m.flush()
        asked = refuse_looks(remote, "f", [Unsupported("is a special file", path="f")])
        remote.faults.fail_effect(1, Unsupported("is a special file", path="f"))
        await m.write("f", b"1")
        await trio.sleep(300)
        assert len(asked) < 10
        await m.write("other", b"2")
        await trio.sleep(30)
        assert await get(remote, "other") == b"2"
