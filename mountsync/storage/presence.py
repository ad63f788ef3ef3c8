"""Whether a storage is there at all: a name that was mistyped is no empty folder."""

from __future__ import annotations

from mountsync.errors import NotFound
from mountsync.paths import ROOT
from mountsync.storage.api import Storage


async def insist_there(storage: Storage, what: str) -> None:
    """Raises NotFound when the root of `storage` does not exist (yet); `what` it is, for a person.

    To be called by whoever reads from a storage and found nothing in it.
    """
    if await storage.stat(ROOT) is None:
        raise NotFound(f"{what} does not exist", hint="check the name")
