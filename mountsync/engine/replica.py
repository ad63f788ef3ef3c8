"""One side of a sync, as the executor sees it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Protocol

from mountsync.model.entry import Entry
from mountsync.model.plan import Delete, MakeDirectory, MakeSymlink, Move, Put, SetAttributes
from mountsync.paths import RelPath
from mountsync.storage.api import Source


class Replica(Protocol):
    """Carries out single actions. Each checks what it finds against what the plan saw.

    Methods that change something return the entry that stands there afterwards. They raise Stale when
    the target is not what was expected, having changed nothing.
    """

    def body(self, path: RelPath, entry: Entry) -> AbstractAsyncContextManager[Source]:
        """The content of the file at `path`, which must still be `entry`."""
        ...

    async def put(self, action: Put, source: Source) -> Entry:
        """Puts a file."""
        ...

    async def make_directory(self, action: MakeDirectory) -> Entry:
        """Makes a directory."""
        ...

    async def make_symlink(self, action: MakeSymlink) -> Entry:
        """Makes a symbolic link."""
        ...

    async def delete(self, action: Delete) -> None:
        """Removes an entry; gone already is done."""
        ...

    async def move(self, action: Move) -> Entry:
        """Renames an entry."""
        ...

    async def set_attributes(self, action: SetAttributes) -> Entry:
        """Sets mtime and mode."""
        ...

    async def barrier(self) -> None:
        """Returns when all changes so far are safe from power loss."""
        ...
