"""Remotes of rclone's do what a storage must do: a disk's folder, and a remote without directories."""

import shutil

import pytest

from mountsync.storage.rclone.opening import open_rclone
from tests.conformance.suite import StorageConformance


async def opened(remote: str, state_dir):
    storage = await open_rclone({"remote": remote, "concurrency": 4}, "", state_dir)
    await storage.recover_attempts()
    return storage


class TestRcloneLocal(StorageConformance):
    large = 3 << 20
    test_many_in_one_directory = None
    """Some seconds, and no more than the tests of listings show."""

    @pytest.fixture
    async def storage(self, tmp_path):
        (tmp_path / "remote").mkdir()
        storage = await opened(str(tmp_path / "remote"), tmp_path / "state")
        yield storage
        await storage.aclose()
        shutil.rmtree(tmp_path / "remote")


class TestRcloneMemory(StorageConformance):
    """rclone's own memory: no directories, cheap hashes, copies but no moves."""

    large = 3 << 20
    test_many_in_one_directory = None
    """Some seconds, and no more than the tests of listings show."""

    @pytest.fixture
    async def storage(self, tmp_path):
        storage = await opened(":memory:bucket/some/prefix", tmp_path / "state")
        yield storage
        await storage.aclose()
