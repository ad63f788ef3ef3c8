"""A Modal server of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.modal_server import ModalServer
from tests.parts.modal import modal_storage


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ModalServer]:
    """It has the empty volume `data`."""
    with ModalServer(tmp_path / "server") as server:
        server.volume("data")
        yield server


@pytest.fixture
async def opened(server, tmp_path):
    """Opens storages on the volume, as from several machines."""

    def open_one(name="a", **options):
        return modal_storage(server, tmp_path / name, **options)

    return open_one


@pytest.fixture
async def storage(server, tmp_path):
    """The volume, from one machine."""
    async with modal_storage(server, tmp_path / "state") as storage:
        yield storage
