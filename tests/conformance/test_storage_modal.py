"""Modal volumes do what a storage must do, whatever their server does within its rights."""

import pytest

from tests.conformance.suite import StorageConformance
from tests.modal_server import ModalServer
from tests.parts.modal import modal_storage

CASES = ["plain", "folder without sidecar", "other server"]


@pytest.fixture(params=CASES)
async def storage(request, tmp_path):
    with ModalServer(tmp_path / "server") as server:
        server.volume("data")
        if request.param == "other server":
            server.faults.directories_vanish = True
            server.faults.conflict_status = "INVALID_ARGUMENT"
            server.faults.dedupe = "global"
            server.faults.send_digest = True
            server.faults.put_keeps_mtime = True
        sidecar = request.param != "folder without sidecar"
        path = "data" if sidecar else "data/some/folder"
        async with modal_storage(server, tmp_path / "state", path, sidecar_metadata=sidecar) as made:
            yield made


class TestModal(StorageConformance):
    pass
