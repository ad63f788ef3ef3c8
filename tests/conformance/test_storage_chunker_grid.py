"""The chunker's whole grid over a disk, a volume and a bucket; over memory it is in `test_storage_chunker`.

Chunks of 3 bytes, 50 bytes and the default size; with metadata in both transactions, and without. By
default each point runs the tests that show how the two work together; MOUNTSYNC_GRID=full runs the
whole suite at each point.
"""

from __future__ import annotations

import os

import pytest

from mountsync.storage.api import Enforcement
from tests.conformance.suite import StorageConformance
from tests.conformance.test_storage_chunker import MODES, Small, chunker, local_base
from tests.modal_server import ModalServer
from tests.parts.modal import modal_storage
from tests.parts.s3_server import _running_server, new_bucket, s3_credentials, s3_server, s3_storage_as_known  # noqa: F401 - fixtures

FULL = os.environ.get("MOUNTSYNC_GRID") == "full"
FEWEST = ("test_write_expects", "test_delete_expects")
"""What is tried with chunks of 3 bytes over a server: a request for each of them takes a while."""
KEPT = (*FEWEST, "test_overwriting_replaces_all", "test_copy", "test_move")
"""What is tried with the default size, where a file is one object."""
MORE = (
    *KEPT,
    "test_what_was_written_is_read",
    "test_a_large_write_expects_at_its_end",
    "test_a_source_that_breaks",
    "test_a_cancelled_write",
    "test_random_calls_end_as_in_memory",
)
"""What is tried with chunks of 50 bytes."""


def thin(kept: tuple[str, ...]):
    """Leaves out of a class all tests but these, unless the full grid is wanted."""

    def cut(cls: type) -> type:
        for name in dir(cls):
            if name.startswith("test_") and name not in kept and not FULL:
                setattr(cls, name, None)
        return cls

    return cut


class Few:
    """Fewer values of the parameters, unless the full grid is wanted."""

    if not FULL:

        @pytest.mark.parametrize("size", [0, 101])
        async def test_what_was_written_is_read(self, storage, size):
            await super().test_what_was_written_is_read(storage, size)

        @pytest.mark.parametrize("seed", [1])
        async def test_random_calls_end_as_in_memory(self, storage, seed):
            await super().test_random_calls_end_as_in_memory(storage, seed)

        @pytest.mark.parametrize("size", [100])
        async def test_copy(self, storage, size):
            await super().test_copy(storage, size)

        @pytest.mark.parametrize("size", [100])
        @pytest.mark.parametrize("exists", [False, True])
        async def test_a_cancelled_write(self, storage, size, exists):
            await super().test_a_cancelled_write(storage, size, exists)


class Grid:
    """All modes; a class that inherits says the size of chunks and the base."""

    chunk_size = 2 << 30

    @pytest.fixture(params=MODES)
    def mode(self, request):
        return request.param

    @pytest.fixture
    async def storage(self, base, tmp_path, mode):
        made = await chunker(base, tmp_path, self.chunk_size, mode)
        yield made
        await made.aclose()


class DefaultSize(Few, Grid):
    large = 1_000_000
    deep = 3
    test_many_in_one_directory = None
    """The base alone is tested with many."""


# ---- a disk -----------------------------------------------------------------------------------------


class OnDisk:
    @pytest.fixture
    def base(self, tmp_path):
        return local_base(tmp_path)


@thin(MORE)
class TestFiftyBytesOverLocal(OnDisk, Few, Grid, Small, StorageConformance):
    chunk_size = 50


@thin(KEPT)
class TestDefaultSizeOverLocal(OnDisk, DefaultSize, StorageConformance):
    """The other modes of this size are in `test_storage_chunker`."""

    @pytest.fixture(params=["norename"])
    def mode(self, request):
        return request.param


# ---- a volume ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def modal_server(tmp_path_factory):
    with ModalServer(tmp_path_factory.mktemp("server")) as server:
        yield server


class OnVolume:
    @pytest.fixture
    async def base(self, modal_server, tmp_path):
        name = f"volume-{len(modal_server.store.volumes)}"
        modal_server.volume(name)
        async with modal_storage(modal_server, tmp_path / "state", name) as base:
            yield base


@thin(FEWEST)
class TestThreeBytesOverModal(OnVolume, Few, Grid, Small, StorageConformance):
    chunk_size = 3


@thin(MORE)
class TestFiftyBytesOverModal(OnVolume, Few, Grid, Small, StorageConformance):
    chunk_size = 50


@thin(KEPT)
class TestDefaultSizeOverModal(OnVolume, DefaultSize, StorageConformance):
    pass


# ---- a bucket ---------------------------------------------------------------------------------------


class InBucket:
    """Directories come and go with files, and the server compares and swaps."""

    @pytest.fixture
    async def base(self, s3_server, s3_credentials, tmp_path):  # noqa: F811
        async with s3_storage_as_known(s3_server.endpoint, tmp_path / "state", new_bucket()) as base:
            assert base.info.enforcement is Enforcement.ATOMIC
            yield base


@thin(FEWEST)
class TestThreeBytesOverS3(InBucket, Few, Grid, Small, StorageConformance):
    chunk_size = 3


@thin(MORE)
class TestFiftyBytesOverS3(InBucket, Few, Grid, Small, StorageConformance):
    chunk_size = 50


@thin(KEPT)
class TestDefaultSizeOverS3(InBucket, DefaultSize, StorageConformance):
    pass
