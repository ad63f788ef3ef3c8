"""A chunker over a volume, in both modes of committing its chunks."""

import pytest

from mountsync.formats.chunk_names import name_format
from mountsync.storage.chunker import open_chunker
from mountsync.storage.chunker.journal import Journal
from mountsync.storage.chunker.settings import Settings
from tests.conformance.suite import StorageConformance
from tests.modal_server import ModalServer
from tests.parts.modal import modal_storage


@pytest.fixture(params=[False, True], ids=["rename", "norename"])
async def storage(request, tmp_path):
    with ModalServer(tmp_path / "server") as server:
        server.volume("data")
        async with modal_storage(server, tmp_path / "state") as base:
            settings = Settings(chunk_size=700_000, names=name_format(), norename=request.param)
            made = await open_chunker(base, settings, Journal(tmp_path / "journal", "test"))
            yield made
            await made.aclose()


class TestChunkerOverModal(StorageConformance):
    large = 3_000_000
    deep = 3
    test_many_in_one_directory = None
    """The volume alone is tested with many; here every file is several."""
    test_recursive_equals_level_by_level = None
