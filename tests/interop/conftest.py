"""A Modal server of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.modal_server import ModalServer


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ModalServer]:
    """It has the empty volume `data`."""
    with ModalServer(tmp_path / "server") as server:
        server.volume("data")
        yield server
