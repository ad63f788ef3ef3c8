"""What serves the kernel when something is not here yet. The engine implements it."""

from __future__ import annotations

from typing import Protocol

from mountsync.state.tree import NodeId


class Fetcher(Protocol):
    """Brings what the tree lacks.

    `content` and `children` raise `mountsync.errors` within seconds when the remote is away.
    """

    async def content(self, node_id: NodeId, start: int, stop: int) -> None:
        """Returns when the bytes `[start, stop)` of the file are here."""
        ...

    async def children(self, node_id: NodeId) -> None:
        """Returns when the directory is listed."""
        ...

    async def opening(self, node_id: NodeId) -> None:
        """Before a file is read that is not here. Raises Stale when its name stands for another one now."""
        ...


class NothingRemote:
    """For a tree that has no remote: what is not here is nowhere."""

    async def content(self, node_id: NodeId, start: int, stop: int) -> None:
        """Leaves the bytes absent; the program gets EIO."""

    async def children(self, node_id: NodeId) -> None:
        """Leaves the directory unlisted; the program gets EIO."""

    async def opening(self, node_id: NodeId) -> None:
        """There is no other version anywhere."""
