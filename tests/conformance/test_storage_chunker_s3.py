"""The chunker over a bucket: directories come and go with files, and the server compares and swaps."""

from __future__ import annotations

import pytest

from mountsync.storage.api import Enforcement
from tests.conformance.suite import StorageConformance
from tests.conformance.test_storage_chunker import Small, chunker
from tests.parts.s3_server import _running_server, new_bucket, s3_credentials, s3_server, s3_storage  # noqa: F401 - fixtures

KEPT = (
    "test_what_was_written_is_read",
    "test_overwriting_replaces_all",
    "test_write_expects",
    "test_a_large_write_expects_at_its_end",
    "test_delete_expects",
    "test_a_source_that_breaks",
    "test_a_cancelled_write",
    "test_move",
    "test_copy",
    "test_random_calls_end_as_in_memory",
)
"""The tests that show how the two work together; each request to a server takes a while."""


class TestFiftyBytesOverS3(Small, StorageConformance):
    @pytest.fixture
    async def storage(self, s3_server, s3_credentials, tmp_path):  # noqa: F811
        async with s3_storage(s3_server.endpoint, tmp_path / "state", new_bucket()) as base:
            assert base.info.enforcement is Enforcement.ATOMIC
            made = await chunker(base, tmp_path, 50, "rename")
            yield made
            await made.aclose()

    @pytest.mark.parametrize("size", [0, 49, 101, 500])
    async def test_what_was_written_is_read(self, storage, size):
        await super().test_what_was_written_is_read(storage, size)

    @pytest.mark.parametrize("seed", [1, 2])
    async def test_random_calls_end_as_in_memory(self, storage, seed):
        await super().test_random_calls_end_as_in_memory(storage, seed)


for _name in dir(TestFiftyBytesOverS3):
    if _name.startswith("test_") and _name not in KEPT:
        setattr(TestFiftyBytesOverS3, _name, None)
