"""The failing storage fails exactly where it is told to."""

import pytest
import trio

from mountsync.errors import NoSpace, Stale, Unreachable
from mountsync.paths import ROOT, RelPath
from mountsync.storage import api
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import get, items, put
from tests.parts.failing import Crashed, failing


@pytest.fixture
def storage():
    return failing(MemoryStorage())


async def test_has_the_capabilities_of_what_it_wraps():
    whole = failing(MemoryStorage())
    assert isinstance(whole, api.Storage)
    assert isinstance(whole, api.SupportsMove)
    assert not isinstance(whole, api.SupportsAttempts)
    assert not isinstance(failing(MemoryStorage(), without=(api.SupportsMove,)), api.SupportsMove)


async def test_the_nth_effect_fails(storage):
    storage.faults.fail_effect(2, NoSpace("full"))
    await put(storage, "a", b"x")
    with pytest.raises(NoSpace):
        await put(storage, "b", b"x")
    await put(storage, "c", b"x")
    assert set(await items(storage)) == {"a", "c"}
    assert storage.faults.effects == 3
    assert storage.faults.log == [("write", "a"), ("write", "b"), ("write", "c")]


async def test_an_answer_can_be_lost(storage):
    storage.faults.fail_effect(1, Unreachable("lost"), after=True)
    with pytest.raises(Unreachable):
        await put(storage, "a", b"x")
    assert await get(storage, "a") == b"x"


async def test_a_crash_ends_everything(storage):
    storage.faults.crash_at(1, after=True)
    with pytest.raises(Crashed):
        await put(storage, "a", b"x")
    with pytest.raises(Crashed):
        await storage.stat(ROOT)


async def test_offline_breaks_off_what_is_under_way(storage):
    await put(storage, "a", b"x")
    async with storage.list(ROOT, recursive=True) as batches:
        storage.faults.offline = True
        with pytest.raises(Unreachable):
            await anext(aiter(batches))
    with pytest.raises(Unreachable):
        await storage.stat(RelPath("a"))
    storage.faults.offline = False
    assert await get(storage, "a") == b"x"


async def test_gates_and_paths(storage):
    gate = storage.faults.hold("write")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, storage, "a", b"x")
        await gate.reached.wait()
        assert await items(storage) == {}
        gate.release()
    storage.faults.fail_path(RelPath("a"), Stale("no"))
    with pytest.raises(Stale):
        await get(storage, "a")
    storage.faults.fail_path(RelPath("a"), None)
    storage.faults.fail_next("read", Unreachable("no"), times=2)
    for _ in range(2):
        with pytest.raises(Unreachable):
            await get(storage, "a")
    assert await get(storage, "a") == b"x"
    assert storage.faults.calls["read"] == 4
