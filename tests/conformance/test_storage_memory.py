"""The in-memory storage does what a storage must do."""

import pytest

from mountsync.paths import RelPath
from mountsync.storage.api import NameRules
from mountsync.storage.memory import MemoryStorage
from tests.conformance.suite import StorageConformance
from tests.parts.failing import failing
from tests.parts.pouring import PouringMemory

RULES = NameRules(max_name_bytes=100, max_path_bytes=300, utf8_only=True, forbidden=frozenset('\\*?"'))


@pytest.fixture(params=["whole", "folder", "strict names", "wrapped", "pouring"])
async def storage(request):
    if request.param == "wrapped":
        made = failing(MemoryStorage("test"))
    elif request.param == "pouring":
        made = failing(PouringMemory("test"))
    else:
        root = RelPath("some/folder" if request.param == "folder" else "")
        names = RULES if request.param == "strict names" else None
        made = MemoryStorage("test", root=root, names=names)
    yield made
    await made.aclose()


class TestMemory(StorageConformance):
    large = 4 << 20
