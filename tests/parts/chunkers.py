"""Chunkers over local folders, opened as the product opens them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from mountsync.storage import chunker
from mountsync.storage.api import Storage
from mountsync.storage.chunker import ChunkerStorage
from mountsync.storage.local import LocalStorage
from mountsync.storage.options import OpenContext, checked_options
from tests.parts.renewing import RenewingStorage


def context_over(base: Storage, state: Path) -> OpenContext:
    """A context in which every remote spec means `base`."""

    async def opener(_: str) -> Storage:
        return base

    return OpenContext(state, opener)


async def open_over(base: Storage, state: Path, **options: object) -> ChunkerStorage:
    """A chunker over an open storage. Sizes as text with a unit; 10 bytes when not given."""
    values = checked_options("chunker", chunker.OPTIONS, {"remote": "base:", "chunk_size": "10B"} | options)
    made = await chunker.open_storage(values, "", context_over(base, state))
    assert isinstance(made, ChunkerStorage)
    return made


@asynccontextmanager
async def chunker_over(
    folder: Path, state: Path, *, base: str = "local", **options: object
) -> AsyncIterator[ChunkerStorage]:
    """A chunker over a local folder, closed at the end; `renewing`: one where a move gives new tokens."""
    kind = RenewingStorage if base == "renewing" else LocalStorage
    storage = await open_over(kind(str(folder), state_dir=state), state, **options)
    try:
        yield storage
    finally:
        await storage.aclose()
