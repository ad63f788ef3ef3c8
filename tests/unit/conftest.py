"""Storages that several files of tests share: a folder of this machine, and a chunker over memory."""

from __future__ import annotations

import pytest

from mountsync.storage.local import LocalStorage
from mountsync.storage.memory import MemoryStorage
from tests.parts.chunkers import open_over
from tests.parts.failing import failing


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


@pytest.fixture
async def base():
    return failing(MemoryStorage())


@pytest.fixture
async def ours(base, tmp_path):
    storage = await open_over(base, tmp_path)
    yield storage
    await storage.aclose()
