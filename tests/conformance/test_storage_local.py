"""The local storage does what a storage must do."""

import pytest

from mountsync.storage.local import LocalStorage
from tests.conformance.suite import StorageConformance


@pytest.fixture
async def storage(tmp_path):
    (tmp_path / "root").mkdir()
    made = LocalStorage(str(tmp_path / "root"), state_dir=tmp_path / "state")
    yield made
    await made.aclose()


class TestLocal(StorageConformance):
    pass
