"""Calls to Modal over bad lines: each ends, and none takes others along."""

from __future__ import annotations

import pytest
import trio

from mountsync.errors import NameRefused
from mountsync.storage.modal.transport import FilePut
from tests.parts.modal import modal_storage


@pytest.fixture
async def storage(server, tmp_path):
    async with modal_storage(server, tmp_path / "state") as storage:
        yield storage


@pytest.mark.parametrize("path", ["b\udcff", "d/\udcff", "\udcff/f"])
async def test_a_name_that_no_message_can_hold_is_refused(server, storage, path):
    transport, volume = storage._transport, server.volume("data").id
    with trio.fail_after(10):
        with pytest.raises(NameRefused):
            await transport.look(volume, path)
        with pytest.raises(NameRefused):
            await transport.list_files(volume, path, recursive=True)
        with pytest.raises(NameRefused):
            await transport.remove(volume, path, within=3.0)
        for create_only in (False, True):
            with pytest.raises(NameRefused):
                file = FilePut(path, 1, (b"x" * 32,))
                await transport.put_file(volume, file, create_only=create_only, within=3.0)
