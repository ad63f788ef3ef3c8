"""Volumes that go away, come back as others, are too old or misspelt; and secrets."""

from __future__ import annotations

import logging

import pytest

from mountsync.errors import (
    AccessRefused,
    Halted,
    NameRefused,
    NotADirectory,
    NotFound,
    Unsupported,
)
from mountsync.model.entry import Problem
from mountsync.paths import ROOT, RelPath
from mountsync.storage.api import ABSENT
from tests.modal_server import RpcFault
from tests.modal_server.store import Node
from tests.parts.bodies import get, items, put
from tests.parts.modal import QUICK, modal_storage

BLOCK = 8 << 20
F = RelPath("f")


# ---- volumes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("made_anew", [False, True])
async def test_a_volume_that_goes_away_halts(server, storage, made_anew):
    await put(storage, "f", b"data")
    old = server.volume("data")
    server.do(lambda: server.store.drop(old.id))
    if made_anew:
        server.volume("data")
    for _ in range(2):
        with pytest.raises(Halted):
            await storage.stat(F)
        with pytest.raises(Halted):
            await items(storage)
        with pytest.raises(Halted):
            await put(storage, "g", b"x")
        with pytest.raises(Halted):
            await get(storage, "f")
    if made_anew:
        assert server.volume("data").nodes == {}


async def test_a_volume_that_goes_away_during_an_upload(server, storage):
    def replace():
        volume = server.store.named("main", "data")
        server.store.drop(volume.id)
        server.store.create("main", "data")

    server.faults.rpc.append(RpcFault("VolumePutFiles2", "UNAVAILABLE", action=replace))
    with pytest.raises(Halted):
        await put(storage, "f", b"data")
    assert server.volume("data").nodes == {}


async def test_a_volume_made_anew_between_two_starts_is_another_one(server, tmp_path):
    async with modal_storage(server, tmp_path / "state") as storage:
        first = storage.info.identity
    async with modal_storage(server, tmp_path / "state") as storage:
        assert storage.info.identity == first
    old = server.volume("data")
    server.do(lambda: server.store.drop(old.id))
    server.volume("data")
    async with modal_storage(server, tmp_path / "state") as storage:
        assert storage.info.identity != first


def replace_volume(server, name="data"):
    """Somebody deletes the volume and makes another one of this name."""

    def replace():
        server.store.drop(server.store.named("main", name).id)
        volume = server.store.create("main", name)
        server.store.plant(volume, "foreign", b"theirs", mtime=5)

    server.do(replace)


async def test_a_volume_that_we_made_and_others_made_anew_is_another_one(server, tmp_path):
    state = tmp_path / "state"
    async with modal_storage(server, state, "nv", create_volumes=True) as storage:
        first = storage.info.identity
        await put(storage, "f", b"data")
    replace_volume(server, "nv")
    async with modal_storage(server, state, "nv", create_volumes=True) as storage:
        assert storage.info.identity != first


async def test_a_volume_that_is_gone_at_a_start_is_not_the_one_that_is_made_then(server, tmp_path):
    state = tmp_path / "state"
    async with modal_storage(server, state, create_volumes=True) as storage:
        first = storage.info.identity
    volume = server.volume("data")
    server.do(lambda: server.store.drop(volume.id))
    async with modal_storage(server, state, create_volumes=True) as storage:
        second = storage.info.identity
        await put(storage, "f", b"data")
    async with modal_storage(server, state, create_volumes=True) as storage:
        assert storage.info.identity == second != first


async def test_a_volume_made_anew_before_it_could_be_reached_halts(server, tmp_path):
    async with modal_storage(server, tmp_path / "state") as storage:
        await put(storage, "f", b"data")
    replace_volume(server)
    server.faults.rpc.append(RpcFault("VolumeGetOrCreate", "UNAVAILABLE", 1000))
    async with modal_storage(server, tmp_path / "state") as storage:
        server.faults.rpc.clear()
        with pytest.raises(Halted, match="--cache-dir"):
            await items(storage)
        with pytest.raises(Halted):
            await put(storage, "f", b"data")


async def test_among_all_volumes_one_made_anew_is_left_alone(server, tmp_path):
    server.volume("other")
    async with modal_storage(server, tmp_path / "state", "") as storage:
        await put(storage, "data/f", b"data")
        await put(storage, "other/f", b"data")
    replace_volume(server)
    async with modal_storage(server, tmp_path / "state", "") as storage:
        with pytest.raises(Halted) as caught:
            await put(storage, "data/f", b"more")
        async with storage.list(ROOT, recursive=True) as batches:
            found = dict([item async for batch in batches for item in batch])
        assert set(found) == {"data", "other", "other/f"}
        assert isinstance(found["data"], Problem)
    accepted = tmp_path / "state" / "modal-volume.json"
    assert str(accepted) in str(caught.value)
    accepted.unlink()
    async with modal_storage(server, tmp_path / "state", "") as storage:
        assert await get(storage, "data/foreign") == b"theirs"


async def test_one_volume_that_goes_away_hides_no_others(server, tmp_path):
    server.volume("other")
    async with modal_storage(server, tmp_path / "state", "") as storage:
        await put(storage, "data/f", b"data")
        await put(storage, "other/f", b"data")
        replace_volume(server)
        async with storage.list(ROOT, recursive=True) as batches:
            found = dict([item async for batch in batches for item in batch])
        assert set(found) == {"data", "other", "other/f"}
        assert isinstance(found["data"], Problem)
        assert "mountsync export" in found["data"].reason


async def test_among_all_volumes_a_deleted_one_can_be_made_again_by_us(server, tmp_path):
    for data in (b"first", b"second"):
        async with modal_storage(server, tmp_path / "state", "", create_volumes=True) as storage:
            await put(storage, "nv/f", data)
        volume = server.volume("nv")
        assert server.do(lambda volume=volume: server.store.content(volume, "f")) == data
        server.do(lambda volume=volume: server.store.drop(volume.id))


async def test_a_renamed_volume_goes_on(server, storage):
    await put(storage, "f", b"data")
    volume = server.volume("data")
    server.do(lambda: server.store.rename(volume.id, "other"))
    assert await get(storage, "f") == b"data"
    assert await storage.stat(RelPath("absent")) is None


async def test_a_v1_volume_is_refused(server, tmp_path):
    server.volume("old", version=1)
    with pytest.raises(Unsupported, match="version 2"):
        async with modal_storage(server, tmp_path / "state", "old"):
            pass


@pytest.mark.parametrize("kind", [3, 4, 5], ids=["a link", "a FIFO", "a socket"])
async def test_what_is_no_file_is_a_problem_and_not_replaced(server, storage, kind):
    volume = server.volume("data")
    server.do(lambda: server.store.set(volume, "f", Node(kind, 5)))
    assert isinstance((await items(storage))["f"], Problem)
    with pytest.raises(Unsupported):
        await put(storage, "f", b"x", expect=ABSENT)
    assert volume.nodes["f"].kind == kind


# ---- what messages name


async def test_the_root_of_a_storage_is_named_by_its_place(server, tmp_path):
    async with modal_storage(server, tmp_path / "one") as storage:
        await put(storage, "a", b"x")
    async with modal_storage(server, tmp_path / "two", "data/a/b") as storage:
        with pytest.raises(NotADirectory, match=r"^data/a/b: a folder above it is a file there; .") as caught:
            await items(storage)
    assert caught.value.hint


async def test_the_file_that_holds_a_folder_open_is_not_named(server, storage):
    await put(storage, "a", b"x")
    with pytest.raises(NotADirectory, match=r"^a/b: "):
        await storage.make_directory(RelPath("a/b"))


async def test_a_volume_that_cannot_be_is_not_told_to_be_made(server, tmp_path):
    with pytest.raises(NotFound, match="letters, digits") as caught:
        async with modal_storage(server, tmp_path / "state", "a b"):
            pass
    assert "volume create" not in str(caught.value)


# ---- secrets ----------------------------------------------------------------------------------------


async def test_secrets_are_shown_nowhere(server, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    server.service.tokens = ("ak-VerySecret", "as-VerySecret")
    async with modal_storage(server, tmp_path / "state") as storage:
        await put(storage, "f", b"data")
        shown = [repr(storage), repr(storage.info), repr(vars(storage)), repr(vars(storage._transport))]
    environ = server.environment() | {"MODAL_TOKEN_SECRET": "as-OtherSecret"}
    server.environment = lambda: environ
    with pytest.raises(AccessRefused) as caught:
        async with modal_storage(server, tmp_path / "state"):
            pass
    error: BaseException | None = caught.value
    while error is not None:
        shown.append(repr(error) + str(error))
        error = error.__cause__ or error.__context__
    shown += [caplog.text, *capfd.readouterr()]
    assert [text for text in shown if "Secret" in text] == []


async def test_a_path_that_no_volume_can_hold_is_refused(server, tmp_path):
    with pytest.raises(NameRefused, match="UTF-8"):
        async with modal_storage(server, tmp_path / "state", "data/b\udcff"):
            pass


async def test_an_absent_volume_is_not_made(server, tmp_path):
    with pytest.raises(NotFound):
        async with modal_storage(server, tmp_path / "state", "typo/folder"):
            pass
    assert len(server.store.volumes) == 1
    assert QUICK.call < 5
