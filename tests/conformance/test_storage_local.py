"""The local storage does what a storage must do, also where the disk can do less than ext4."""

import errno
import os

import pytest

from mountsync.storage import local_draft, syscalls
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


def _refuse(number):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


class TestLocalWithoutRenameNoreplace(StorageConformance):
    """NFS and old kernels."""

    large = 4 << 20

    @pytest.fixture(autouse=True)
    def _poor(self, monkeypatch):
        monkeypatch.setattr(syscalls, "rename_noreplace", _refuse(errno.EINVAL))


class TestLocalWithoutLinks(StorageConformance):
    """FAT: neither hard links nor copies inside the kernel."""

    large = 4 << 20

    @pytest.fixture(autouse=True)
    def _poor(self, monkeypatch):
        monkeypatch.setattr(syscalls, "rename_noreplace", _refuse(errno.EINVAL))
        monkeypatch.setattr(local_draft.os, "link", _refuse(errno.EPERM))
        monkeypatch.setattr(local_draft.os, "copy_file_range", _refuse(errno.EXDEV))
