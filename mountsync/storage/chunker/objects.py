"""Single steps on objects of the base: each has happened or has not."""

from __future__ import annotations

from contextlib import suppress

from mountsync.errors import NotFound, Stale
from mountsync.model.entry import Entry, Kind, Token
from mountsync.paths import RelPath
from mountsync.storage.api import ABSENT, Expect, Storage, SupportsBarrier, SupportsCopy, SupportsMove


async def relocate(
    base: Storage, source: RelPath, target: RelPath, *, expect: Expect, replace: Expect = ABSENT
) -> Entry:
    """Renames an object; where the base cannot, copies it and deletes the source.

    Raises as `SupportsMove.move`.
    """
    if isinstance(base, SupportsMove):
        return await base.move(source, target, expect=expect, replace=replace)
    assert isinstance(base, SupportsCopy)
    entry = await base.copy(source, target, expect=expect, replace=replace)
    with suppress(NotFound):
        await base.delete(source, expect=expect)
    return entry


async def remove(base: Storage, path: RelPath, token: Token | None) -> None:
    """Deletes this version of an object; no error when it has gone, or is another one by now."""
    with suppress(NotFound, Stale):
        await base.delete(path, expect=token)


async def is_there(base: Storage, path: RelPath) -> bool:
    """Whether a file is at `path`."""
    entry = await base.stat(path)
    return entry is not None and entry.kind is Kind.FILE


async def barrier(base: Storage) -> None:
    """Returns when all acknowledged changes are safe from power loss, at once where that is so anyway."""
    if isinstance(base, SupportsBarrier):
        await base.barrier()


def pin(entry: Entry | None) -> Expect:
    """The expectation that finds exactly what was seen."""
    return ABSENT if entry is None else entry.token
