"""Volumes that go away, come back as others, are too old or misspelt; and secrets."""

from __future__ import annotations

import logging

import pytest

from mountsync.errors import (
    AccessRefused,
    Halted,
    NotFound,
    Unsupported,
)
from mountsync.paths import RelPath
from tests.modal_server import RpcFault
from tests.parts.bodies import get, items, put
from tests.parts.modal import QUICK, modal_storage

BLOCK = 8 << 20
F = RelPath("f")


@pytest.fixture
async def storage(server, tmp_path):
    async with modal_storage(server, tmp_path / "state") as storage:
        yield storage


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


async def test_an_absent_volume_is_not_made(server, tmp_path):
    with pytest.raises(NotFound):
        async with modal_storage(server, tmp_path / "state", "typo/folder"):
            pass
    assert len(server.store.volumes) == 1
    assert QUICK.call < 5
