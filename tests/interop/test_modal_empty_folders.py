"""Empty folders on a volume, where they stay and where they go with their last file."""

from __future__ import annotations

import pytest

from mountsync.paths import RelPath
from mountsync.storage.modal.names import KEEPER
from tests.parts.bodies import items, put
from tests.parts.modal import all_stored


@pytest.mark.parametrize("vanish", [False, True])
async def test_an_empty_folder_stays_on_a_volume(server, opened, vanish):
    """Where Modal lets it go with its last file, an empty file that we never list holds it open."""
    server.faults.directories_vanish = vanish
    async with opened(sidecar_metadata=False) as storage:
        await storage.make_directory(RelPath("made"))
        await put(storage, "emptied/f", b"x")
        await storage.delete(RelPath("emptied/f"))
        assert set(await items(storage)) == {"made", "emptied"}
    async with opened("b", sidecar_metadata=False) as storage:
        assert set(await items(storage)) == {"made", "emptied"}
    keepers = {f"made/{KEEPER}": b"", f"emptied/{KEEPER}": b""}
    assert all_stored(server) == (keepers if vanish else {})


@pytest.mark.parametrize("vanish", [False, True])
async def test_a_folder_that_others_empty_is_what_modal_makes_of_it(server, opened, vanish):
    async with opened(sidecar_metadata=False) as storage:
        await put(storage, "d/f", b"x")
        volume = server.volume("data")
        server.do(lambda: server.store.remove(volume, "d/f", recursive=False, vanish=vanish))
        assert set(await items(storage)) == (set() if vanish else {"d"})
