"""The rows of tree and base at one moment, each read once however often it is asked for."""

from __future__ import annotations

from mountsync.model.entry import Kind
from mountsync.paths import RelPath, from_bytes
from mountsync.state.base import Base, BaseRow
from mountsync.state.tree import ROOT_ID, NodeId, Tree

_Place = tuple[NodeId, bytes]


class Moment:
    """Valid until the next await."""

    def __init__(self, tree: Tree, base: Base) -> None:
        self._tree = tree
        self._base = base
        self._agreed: dict[NodeId, list[BaseRow]] = {}
        self._named: dict[NodeId, list[_Place]] = {}
        self._rows: dict[_Place, BaseRow | None] = {}
        self._here: dict[_Place, NodeId | None] = {}
        self._local: dict[NodeId, RelPath | None] = {ROOT_ID: RelPath("")}
        self._remote: dict[NodeId, RelPath | None] = {ROOT_ID: RelPath("")}
        self._namesakes: dict[NodeId, NodeId | None] = {ROOT_ID: ROOT_ID}

    def agreed(self, node: NodeId) -> list[BaseRow]:
        """The rows of the base that are about a node."""
        found = self._agreed.get(node)
        if found is None:
            found = self._agreed[node] = self._base.of_node(node)
            for row in found:
                self._rows[(row.parent, row.name)] = row
        return found

    def agreed_places(self, node: NodeId) -> list[_Place]:
        """Where a node was agreed."""
        return [(row.parent, row.name) for row in self.agreed(node)]

    def named(self, node: NodeId) -> list[_Place]:
        """Where a node is in the mount."""
        found = self._named.get(node)
        if found is None:
            found = self._named[node] = self._tree.names(node)
            for place in found:
                self._here[place] = node
        return found

    def row(self, place: _Place) -> BaseRow | None:
        """What was agreed at a place."""
        if place not in self._rows:
            self._rows[place] = self._base.find(*place)
        return self._rows[place]

    def here(self, place: _Place) -> NodeId | None:
        """What the mount has at a place."""
        if place not in self._here:
            self._here[place] = self._tree.child_id(*place)
        return self._here[place]

    def local_folder(self, folder: NodeId) -> RelPath | None:
        """The path of a directory in the mount, None when it is not there any more."""
        if folder not in self._local:
            raw = self._tree.path(folder)
            self._local[folder] = None if raw is None else from_bytes(raw)
        return self._local[folder]

    def remote_folder(self, folder: NodeId) -> RelPath | None:
        """The path of a directory on the remote, None when it was never agreed."""
        if folder not in self._remote:
            rows = self.agreed(folder)
            raw = self._base.path(rows[0].parent, rows[0].name) if rows else None
            self._remote[folder] = None if raw is None else from_bytes(raw)
        return self._remote[folder]

    def namesake(self, folder: NodeId) -> NodeId | None:
        """The directory that the remote has at the path of this one; None when there is none.

        It is another one where this one took the name of a directory that is still there.
        """
        if folder not in self._namesakes:
            found = None
            for above, name in self.named(folder)[:1]:
                there = self.namesake(above)
                row = None if there is None else self.row((there, name))
                found = None if row is None or row.remote.kind is not Kind.DIRECTORY else row.node
            self._namesakes[folder] = found
        return self._namesakes[folder]
