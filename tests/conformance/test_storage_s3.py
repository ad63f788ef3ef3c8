"""A bucket does what a storage must do."""

import pytest

from tests.conformance.parts import ODD_NAMES
from tests.conformance.suite import StorageConformance
from tests.parts.s3_server import _running_server, new_bucket, s3_credentials, s3_server, s3_storage_as_known  # noqa: F401 - fixtures


class TestS3(StorageConformance):
    """With a prefix, and with parts so small that bodies of some megabytes go in several."""

    large = 12 << 20
    test_many_in_one_directory = None
    """Thousands of requests; the tests of listings have pages of a few keys instead."""

    @pytest.fixture
    async def storage(self, s3_server, s3_credentials, tmp_path):  # noqa: F811
        path = f"{new_bucket()}/some/prefix"
        async with s3_storage_as_known(
            s3_server.endpoint, tmp_path / "state", path, upload_part_size=1 << 20
        ) as made:
            yield made

    @pytest.mark.parametrize("name", ODD_NAMES, ids=[ascii(name)[:24] for name in ODD_NAMES])
    async def test_odd_names(self, storage, name):
        if "\n" in name:
            pytest.skip("the test server finds no way to names with line ends; others do")
        await super().test_odd_names(storage, name)
