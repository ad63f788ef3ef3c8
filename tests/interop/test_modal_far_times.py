"""Times that no shard of notes can say: the last one that it can stands for them."""

from __future__ import annotations

import pytest

from mountsync.formats import modal_sidecar
from mountsync.formats.modal_sidecar import shard_of, shard_path
from mountsync.paths import RelPath
from tests.parts.bodies import put
from tests.parts.modal import plant, stored

F = RelPath("d/f")
LAST = 2**63 - 1


@pytest.mark.parametrize("when", [10_413_792_000 * 10**9, 2**64, 10**40])
async def test_a_time_after_2262_is_kept_as_the_last_there_is(server, opened, when):
    """What is told of a file at once is what is told of it ever after."""
    async with opened("a") as storage:
        await put(storage, "d/other", b"x", mtime_ns=5)
        written = await put(storage, "d/f", b"x", mtime_ns=when)
        await put(storage, "d/set", b"x")
        await storage.set_mtime(RelPath("d/set"), -when)
        await storage.barrier()
    assert written.mtime_ns == LAST
    async with opened("b") as storage:
        assert (await storage.stat(F)).mtime_ns == LAST
        assert (await storage.stat(RelPath("d/set"))).mtime_ns == -LAST
        assert (await storage.stat(RelPath("d/other"))).mtime_ns == 5
    plant(server, "d/theirs", b"x", mtime=when // 10**9 % 2**63)
    async with opened("c") as storage:
        assert (await storage.stat(RelPath("d/theirs"))).mtime_ns <= LAST
    entries = modal_sidecar.decode(stored(server, shard_path(shard_of("d/f"))))
    assert set(entries) == {"d/f", "d/other", "d/set"}
