"""Listing of directories, page by page from the rows: stable while entries come and go.

A position is the name after which to go on, so an entry that stays is given exactly once, whatever is
made or removed meanwhile, and nothing that is gone is ever given.
"""

from __future__ import annotations

import itertools
from typing import Final

import trio

from mountsync.state.tree import ROOT_ID, Node
from mountsync.vfs.absent import ChildrenAbsent
from mountsync.vfs.core import Core
from mountsync.vfs.handles import DirHandle

PAGE: Final = 40
_DOTS: Final = 2
"""Positions 1 and 2 come after `.` and `..`."""


class Listing(Core):
    """Verbs on open directories."""

    _directory_ids = itertools.count(1)

    def opendir(self, node_id: int) -> DirHandle:
        """Opens a directory. Raises ChildrenAbsent when it was never listed."""
        node = self._directory(node_id)
        if not node.listed:
            raise ChildrenAbsent(node.id)
        self.hold(node)
        return DirHandle(next(self._directory_ids), node)

    def readdir(self, handle: DirHandle, offset: int, limit: int = PAGE) -> list[tuple[bytes, Node, int]]:
        """Up to `limit` entries after a position: name, node, and the position after it. 0 begins anew."""
        found: list[tuple[bytes, Node, int]] = []
        if offset < 1:
            found.append((b".", handle.node, 1))
        if offset < _DOTS:
            found.append((b"..", self._above(handle.node), 2))
        index = max(0, offset - _DOTS)
        names = handle.names
        del names[index:]
        after = names[-1] if names else b""
        for name, node in self.tree.children_after(handle.node.id, after, limit - len(found)):
            names.append(name)
            found.append((name, node, len(names) + _DOTS))
        return found

    def _above(self, node: Node) -> Node:
        if node.id == ROOT_ID:
            return node
        above = self.tree.names(node.id)
        return self.tree.node(above[0][0]) if above else node

    def releasedir(self, handle: DirHandle) -> None:
        """The last use of a handle."""
        self.let_go(handle.node)

    async def fsyncdir(self) -> None:
        """Returns when all changes of names that were acknowledged before are safe from power loss."""
        await trio.to_thread.run_sync(self.store.sync_names)
        await self.database.make_durable()
