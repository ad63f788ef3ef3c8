"""A folder of this machine as a storage."""

from __future__ import annotations

import pytest

from mountsync.storage.local import LocalStorage


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


@pytest.fixture
async def storage(root, tmp_path):
    made = LocalStorage(str(root), state_dir=tmp_path / "state")
    yield made
    await made.aclose()
