"""The mounted tree as one side of a sync.

Changes of the remote are applied without moving bytes: a file that comes from there is cold until
somebody reads it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol, TypeAlias

from mountsync.engine.scope import Known, Place, Scope, local_entry, node_of_token
from mountsync.errors import NotFound, Stale
from mountsync.model.entry import Entry
from mountsync.model.plan import Delete, MakeDirectory, MakeSymlink, Move, Put, SetAttributes
from mountsync.paths import RelPath, name_of, parent_of, to_bytes
from mountsync.state.tree import Node, NodeId, Tree
from mountsync.storage.api import Source
from mountsync.vfs.absent import ContentAbsent
from mountsync.vfs.adopt import Adopter


class ClosableSource(Source, Protocol):
    """A body that holds something until it is closed."""

    def close(self) -> None:
        """Lets it go."""
        ...


Fetch: TypeAlias = Callable[[NodeId, int, int], Awaitable[None]]
"""Brings bytes of a cold file here."""


class MountedTree(Protocol):
    """What the replica needs of the volume."""

    @property
    def tree(self) -> Tree:
        """Nodes and names."""
        ...

    def is_busy(self, node_id: NodeId) -> bool:
        """Whether an open handle has bytes that are not saved."""
        ...

    def quiesce(self, node_id: NodeId) -> None:
        """Saves what open handles have written so far."""
        ...

    def body(self, node_id: NodeId) -> ClosableSource:
        """The content for an upload. Raises ContentAbsent for a cold file."""
        ...

    async def snapshot_body(self, node_id: NodeId) -> ClosableSource:
        """A copy of the content at this moment."""
        ...


class MountedReplica:
    """Side A of a mount, for one cycle over `scope`."""

    def __init__(
        self,
        volume: MountedTree,
        adopter: Adopter,
        scope: Scope,
        fetch: Fetch,
        restless: frozenset[NodeId] = frozenset(),
    ) -> None:
        """`restless` nodes are written all the time: a copy of them is uploaded."""
        self._volume = volume
        self._fetch = fetch
        self._restless = restless
        self._tree = volume.tree
        self._adopter = adopter
        self._scope = scope

    @asynccontextmanager
    async def body(self, path: RelPath, entry: Entry) -> AsyncIterator[Source]:
        """The content of a file of the mount, which must still be what the plan saw."""
        named = node_of_token(entry.token)
        if named is None:
            raise Stale("the file changed meanwhile", path=path)
        node = self._tree.find(named[0])
        if node is None or node.generation != named[1]:
            raise Stale("the file changed meanwhile", path=path)
        if node.id in self._scope.unrested:
            raise Stale("the file is being written", path=path)
        source = await self._open(path, node)
        try:
            if source.size != entry.size and node.id not in self._restless:
                raise Stale("the file changed meanwhile", path=path)
            yield source
        finally:
            source.close()

    async def _open(self, path: RelPath, node: Node) -> ClosableSource:
        if node.id in self._restless:
            return await self._volume.snapshot_body(node.id)
        try:
            return self._volume.body(node.id)
        except ContentAbsent:
            await self._bring(path, node)
        try:
            return self._volume.body(node.id)
        except ContentAbsent as absent:
            raise Stale("the file changed while it was fetched", path=path) from absent

    async def bring(self, path: RelPath, entry: Entry) -> None:
        """Sees to it that the content of a file of the mount is here. Raises Stale, Unreachable, Corrupt."""
        named = node_of_token(entry.token)
        node = None if named is None else self._tree.find(named[0])
        if node is not None and node.size and not node.is_complete:
            await self._bring(path, node)

    async def _bring(self, path: RelPath, node: Node) -> None:
        """Fetches a file that was renamed here before it was ever read.

        When the remote deleted or replaced its content meanwhile, there is nothing that the new name could
        stand for: the name goes.
        """
        try:
            await self._fetch(node.id, 0, node.size)
        except Stale:
            if node.id in self._scope.vanished:
                self._drop_lost(path, node)
            raise

    def _drop_lost(self, path: RelPath, node: Node) -> None:
        """Takes away the name, or all that the file has: a plan speaks of the one that it is to get."""
        names, place = self._tree.names(node.id), self.place(path)
        for parent, name in [place] if place in names else names:
            self._adopter.drop_lost(parent, name, node.id)

    async def put(self, action: Put, source: Source) -> Entry:
        del source  # nothing travels before it is read
        return self._plant(action.path, action.entry, action.expect)

    async def make_directory(self, action: MakeDirectory) -> Entry:
        return self._plant(action.path, action.entry, None)

    async def make_symlink(self, action: MakeSymlink) -> Entry:
        return self._plant(action.path, action.entry, action.expect)

    def _plant(self, path: RelPath, entry: Entry, expect: Entry | None) -> Entry:
        parent, name = self.place(path)
        old = self._expected(path, expect)
        self._adopter.plant(parent, name, entry, instead_of=old, seen=self._seen(old))
        return self._look(parent, name, path)

    async def delete(self, action: Delete) -> None:
        parent, name = self.place(action.path)
        node = self._expected(action.path, action.expect)
        if node is None:
            raise Stale("the entry changed meanwhile", path=action.path)
        self._adopter.drop(parent, name, node, seen=self._seen(node))

    async def move(self, action: Move) -> Entry:
        parent, name = self.place(action.source)
        new_parent, new_name = self.place(action.target)
        if action.base is not None:
            node = self._expected(action.source, action.expect)
            if node is None:
                raise Stale("the entry changed meanwhile", path=action.source)
            self._adopter.move(parent, name, new_parent, new_name, node)
        else:
            self._set_aside(action, parent, name, new_name)
        return self._look(new_parent, new_name, action.target)

    def _set_aside(self, action: Move, parent: NodeId, name: bytes, new_name: bytes) -> None:
        known = self._scope.known.get(action.source)
        if known is None or self._tree.child_id(parent, name) != known.node:
            raise Stale("the entry changed meanwhile", path=action.source)
        self._adopter.set_aside(parent, name, new_name, known.node)
        self._scope.known[action.target] = known
        self._scope.places[action.target] = (parent, new_name)

    async def set_attributes(self, action: SetAttributes) -> Entry:
        parent, name = self.place(action.path)
        node = self._expected(action.path, action.expect)
        if node is None:
            raise Stale("the entry changed meanwhile", path=action.path)
        remote = self._scope.b.get(self._scope.remote_paths.get((parent, name), action.path))
        if remote is None:
            raise Stale("the remote's entry is not known", path=action.path)
        self._adopter.refresh(parent, name, action.entry, node, remote=remote, seen=self._seen(node))
        return self._look(parent, name, action.path)

    async def barrier(self) -> None:
        """Every action was a transaction of its own."""

    def place(self, path: RelPath) -> Place:
        """The directory and name of a path, as the tree is now. Raises NotFound."""
        parent = self._tree.resolve(to_bytes(parent_of(path)))
        if parent is None:
            raise NotFound("the directory is gone", path=path)
        return parent, to_bytes(name_of(path))

    def _expected(self, path: RelPath, expect: Entry | None) -> NodeId | None:
        if expect is None:
            return None
        named = node_of_token(expect.token)
        if named is None:
            raise Stale("the entry changed meanwhile", path=path)
        node = self._tree.find(named[0])
        if node is None or node.generation != named[1]:
            raise Stale("the entry changed meanwhile", path=path)
        return node.id

    def _seen(self, node: NodeId | None) -> int | None:
        """Which changes of a node the plan knows of."""
        return None if node is None else self._scope.versions.get(node)

    def _look(self, parent: NodeId, name: bytes, path: RelPath) -> Entry:
        node = self._tree.child(parent, name)
        entry = None if node is None else local_entry(node)
        if node is None or entry is None:
            raise Stale("the entry is gone again", path=path)
        self._scope.known[path] = Known(node.id, node.generation, node.mtime_ns, node.mode & 0o7777)
        return entry
