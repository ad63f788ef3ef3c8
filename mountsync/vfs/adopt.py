"""What happened on the remote, brought into the mounted tree.

Each method is one transaction that changes the tree and the base together, so that no crash can make
the one speak of something that the other does not know. Nothing here touches a node that has changes
of its own but those at journal version `seen`: then Stale is raised, and whoever decided that decides again.

A remote file whose content changed becomes a new node under the old name. Open handles keep the old
node, and the kernel, which trusts its own idea of the size of files that it knows, learns of a file
that it has never seen.
"""

from __future__ import annotations

import stat
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

from mountsync.errors import DirectoryNotEmpty, Stale
from mountsync.model.entry import DIRECTORY, Entry, Kind
from mountsync.paths import from_bytes, to_bytes
from mountsync.reconcile.resolve import conflict_path
from mountsync.state.base import Base, BaseRow
from mountsync.state.database import Database
from mountsync.state.journal import Journal
from mountsync.state.tree import ROOT_ID, Node, NodeId, Place, Tree
from mountsync.vfs.notifier import KernelNotifier


class Guard(Protocol):
    """What the tree's user knows of nodes in use."""

    def is_busy(self, node_id: NodeId) -> bool:
        """Whether an open handle has bytes that are not saved."""
        ...

    def remove_node_if_unused(self, node_id: NodeId) -> bool:
        """Deletes a node without names once no handle holds it; tells whether it did."""
        ...


@dataclass(frozen=True, slots=True)
class Ownership:
    """What nodes from the remote get, where the remote does not say."""

    uid: int
    gid: int
    file_mode: int = 0o644
    directory_mode: int = 0o755


_TYPES = {Kind.FILE: stat.S_IFREG, Kind.DIRECTORY: stat.S_IFDIR, Kind.SYMLINK: stat.S_IFLNK}


class Adopter:
    """Applies remote changes to the tree. Every call is a transaction and a critical section."""

    def __init__(
        self,
        database: Database,
        tree: Tree,
        journal: Journal,
        base: Base,
        kernel: Callable[[], KernelNotifier],
        guard: Guard,
        ownership: Ownership,
        clock: Callable[[], int],
        host: str = "",
    ) -> None:
        """`host` goes into the names of conflict copies."""
        self._host = host
        self._displaced: dict[NodeId, tuple[NodeId, bytes]] = {}
        self._db = database
        self._tree = tree
        self._journal = journal
        self._base = base
        self._kernel = kernel
        self._guard = guard
        self._ownership = ownership
        self._clock = clock

    def plant(
        self,
        parent: NodeId,
        name: bytes,
        remote: Entry,
        *,
        instead_of: NodeId | None,
        seen: int | None = None,
    ) -> NodeId:
        """Shows a remote object under a name, cold, in place of `instead_of` (None: of nothing)."""
        with self._db.transaction:
            old = self._expect(parent, name, instead_of, seen)
            if old is not None:
                self._detach(parent, name, old)
            node = self._insert(parent, name, remote, old)
            if old is not None:
                self._inherit(node, old)
            self._changed_directory(parent)
        if old is None:
            self._kernel().entry_appeared(parent, name)
        else:
            self._kernel().entry_changed(parent, name)
            self._let_go(parent, name, old)
        return node.id

    def plant_many(self, parent: NodeId, found: Iterable[tuple[bytes, Entry]]) -> None:
        """Shows many objects of a directory at once; names that exist here already are left alone."""
        with self._db.transaction:
            for name, remote in found:
                if self._tree.child_id(parent, name) is None and self._base.find(parent, name) is None:
                    self._insert(parent, name, remote)

    def _inherit(self, node: Node, old: Node) -> None:
        """What this machine knows of a file outlives a new version of it: pins and attributes."""
        self._db.execute("UPDATE OR IGNORE pin SET node = ? WHERE node = ?", (node.id, old.id))
        self._db.execute("UPDATE OR IGNORE xattr SET node = ? WHERE node = ?", (node.id, old.id))

    def _insert(self, parent: NodeId, name: bytes, remote: Entry, old: Node | None = None) -> Node:
        node = self._node_for(remote, self._id_for(parent, name, remote))
        if old is not None and stat.S_IFMT(old.mode) == stat.S_IFMT(node.mode):
            node.uid, node.gid = old.uid, old.gid
            if remote.mode is None:
                node.mode = old.mode
        self._tree.insert(node)
        if node.place == Place.BLOB:
            self._db.execute("INSERT INTO blob VALUES (?, x'')", (node.id,))
        self._tree.link(parent, name, node.id)
        if node.is_directory:
            self._count_directory(parent, 1)
        self._agree(parent, name, node, remote)
        return node

    def _id_for(self, parent: NodeId, name: bytes, remote: Entry) -> NodeId:
        """A new id; for a directory that was removed here and comes back, the one that the base knows.

        What was agreed of its entries then still belongs to it.
        """
        row = self._base.find(parent, name) if remote.kind is Kind.DIRECTORY else None
        if row is not None and row.remote.kind is Kind.DIRECTORY and self._tree.find(row.node) is None:
            return row.node
        return self._tree.new_id()

    def _node_for(self, remote: Entry, node_id: NodeId) -> Node:
        now = self._clock()
        mtime = now if remote.mtime_ns is None else remote.mtime_ns
        owner = self._ownership
        usual = owner.directory_mode if remote.kind is Kind.DIRECTORY else owner.file_mode
        mode = usual if remote.mode is None else remote.mode
        return Node(
            id=node_id,
            mode=_TYPES[remote.kind] | (0o777 if remote.kind is Kind.SYMLINK else mode),
            uid=owner.uid,
            gid=owner.gid,
            rdev=0,
            nlink=2 if remote.kind is Kind.DIRECTORY else 1,
            size=remote.size if remote.kind is Kind.FILE else len(to_bytes(remote.target or "")),
            mtime_ns=mtime,
            ctime_ns=now,
            atime_ns=mtime,
            generation=0,
            place=Place.BLOB if remote.kind is Kind.FILE and remote.size == 0 else Place.NOWHERE,
            target=None if remote.target is None else to_bytes(remote.target),
            listed=0,
        )

    def drop(self, parent: NodeId, name: bytes, node_id: NodeId, *, seen: int | None = None) -> None:
        """Takes away what the remote no longer has. Raises DirectoryNotEmpty while names are below it."""
        with self._db.transaction:
            node = self._expect(parent, name, node_id, seen)
            assert node is not None
            if node.is_directory and self._tree.has_children(node.id):
                raise DirectoryNotEmpty("the directory holds files of this machine", path=from_bytes(name))
            self._detach(parent, name, node)
            self._base.remove(parent, name)
            self._changed_directory(parent)
        self._kernel().entry_vanished(parent, name, node_id)
        self._let_go(parent, name, node)

    def _let_go(self, parent: NodeId, name: bytes, node: Node) -> None:
        """A node whose name the remote's change took; programs may still write to it by open handles."""
        if not self._guard.remove_node_if_unused(node.id) and node.is_file and not node.nlink:
            self._displaced[node.id] = (parent, name)

    def rescue(self, node: Node) -> bool:
        """Names a file again that a program changed by a handle, after the remote's change took its name.

        What the program saved becomes a conflict copy. Tells whether the file was one of those.
        """
        place = self._displaced.pop(node.id, None)
        if place is None:
            return False
        folder = self._tree.find(place[0])
        parent = place[0] if folder is not None and folder.nlink else ROOT_ID
        name = self._name_beside(parent, place[1])
        with self._db.transaction:
            self._tree.link(parent, name, node.id)
            node.nlink = 1
            self._tree.save(node)
            self._changed_directory(parent)
        self._kernel().entry_appeared(parent, name)
        return True

    def give_way(self, parent: NodeId, name: bytes, node_id: NodeId) -> None:
        """Renames what is here to a conflict name, because the remote has a directory of this name."""
        self.set_aside(parent, name, self._name_beside(parent, name), node_id)

    def _name_beside(self, parent: NodeId, name: bytes) -> bytes:
        when = time.strftime("%Y-%m-%d %H-%M-%S", time.localtime(self._clock() // 1_000_000_000))
        found = conflict_path(
            from_bytes(name),
            when=when,
            host=self._host,
            taken=lambda path: self._is_taken(parent, to_bytes(path)),
        )
        return to_bytes(found)

    def _is_taken(self, parent: NodeId, name: bytes) -> bool:
        return self._tree.child_id(parent, name) is not None or self._base.find(parent, name) is not None

    def drop_lost(self, parent: NodeId, name: bytes, node_id: NodeId) -> None:
        """Takes away a name of a file whose bytes are neither here nor where they were on the remote.

        With the last one goes what was agreed: should they be elsewhere, nothing counts as their successor.
        """
        with self._db.transaction:
            node = self._tree.child(parent, name)
            if node is None or node.id != node_id or node.is_complete or self._guard.is_busy(node_id):
                raise Stale("the tree changed meanwhile", path=from_bytes(name))
            self._detach(parent, name, node)
            if not node.nlink:
                self._db.execute("DELETE FROM journal WHERE node = ?", (node_id,))
                for row in self._base.of_node(node_id):
                    self._base.remove(row.parent, row.name)
            self._changed_directory(parent)
        self._kernel().entry_vanished(parent, name, node_id)
        self._guard.remove_node_if_unused(node_id)

    def move(self, parent: NodeId, name: bytes, new_parent: NodeId, new_name: bytes, node_id: NodeId) -> None:
        """Follows a rename of the remote onto a free name; changes inside a directory stay as they are."""
        with self._db.transaction:
            node = self._tree.child(parent, name)
            if node is None or node.id != node_id or self._tree.child_id(new_parent, new_name) is not None:
                raise Stale("the tree changed meanwhile", path=from_bytes(name))
            self._tree.unlink(parent, name)
            self._tree.link(new_parent, new_name, node_id)
            if node.is_directory and parent != new_parent:
                self._count_directory(parent, -1)
                self._count_directory(new_parent, 1)
            self._base.move(parent, name, new_parent, new_name)
            self._changed_directory(parent)
            self._changed_directory(new_parent)
        self._kernel().entry_vanished(parent, name, node_id)
        self._kernel().entry_appeared(new_parent, new_name)

    def set_aside(self, parent: NodeId, name: bytes, new_name: bytes, node_id: NodeId) -> None:
        """Renames what is here beside itself, so that the remote's version can take the name.

        To the journal it is a change like one that the user made.
        """
        with self._db.transaction:
            found = self._tree.child_id(parent, name)
            if found != node_id or self._tree.child_id(parent, new_name) is not None:
                raise Stale("the tree changed meanwhile", path=from_bytes(name))
            self._tree.unlink(parent, name)
            self._tree.link(parent, new_name, node_id)
            self._journal.note(node_id, self._clock())
            self._changed_directory(parent)
        self._kernel().entry_vanished(parent, name, node_id)
        self._kernel().entry_appeared(parent, new_name)

    def refresh(
        self,
        parent: NodeId,
        name: bytes,
        wanted: Entry,
        node_id: NodeId,
        *,
        remote: Entry,
        seen: int | None = None,
    ) -> None:
        """Takes over mtime and mode; the content is the same as that of `remote`, which is agreed now."""
        with self._db.transaction:
            node = self._expect(parent, name, node_id, seen)
            assert node is not None
            if wanted.mtime_ns is not None:
                node.mtime_ns = wanted.mtime_ns
            if wanted.mode is not None:
                node.mode = stat.S_IFMT(node.mode) | wanted.mode
            node.ctime_ns = self._clock()
            self._tree.save(node)
            self._agree(parent, name, node, remote)
        self._kernel().attributes_changed(node_id)

    def agree_directory(self, parent: NodeId, name: bytes, node: Node) -> None:
        """Records that the remote has a directory that is here too."""
        with self._db.transaction:
            self._agree(parent, name, node, DIRECTORY)

    def mark_listed(self, directories: Iterable[NodeId]) -> None:
        """Records that all that the remote holds in these directories is known."""
        with self._db.transaction:
            for directory in directories:
                node = self._tree.find(directory)
                if node is not None and not node.listed:
                    node.listed = 1
                    self._tree.save(node)

    def _expect(self, parent: NodeId, name: bytes, node_id: NodeId | None, seen: int | None) -> Node | None:
        node = self._tree.child(parent, name)
        found = None if node is None else node.id
        if found != node_id or (node is not None and self._has_changes(node, seen)):
            raise Stale("the tree changed meanwhile", path=from_bytes(name))
        return node

    def has_changes(self, node: Node) -> bool:
        """Whether the node changed here since it was agreed."""
        return self._has_changes(node, None)

    def _has_changes(self, node: Node, seen: int | None) -> bool:
        """Whether the node changed besides what the decision took into account."""
        row = self._journal.find(node.id)
        return (row is not None and row.version != seen) or self._guard.is_busy(node.id)

    def _detach(self, parent: NodeId, name: bytes, node: Node) -> None:
        if node.is_directory and self._tree.has_children(node.id):
            raise DirectoryNotEmpty("the directory holds files", path=from_bytes(name))
        self._tree.unlink(parent, name)
        node.nlink = 0 if node.is_directory else node.nlink - 1
        node.ctime_ns = self._clock()
        self._tree.save(node)
        if node.is_directory:
            self._count_directory(parent, -1)

    def _agree(self, parent: NodeId, name: bytes, node: Node, remote: Entry) -> None:
        self._base.put(
            BaseRow(parent, name, node.id, node.generation, remote, node.mtime_ns, stat.S_IMODE(node.mode))
        )

    def _count_directory(self, parent: NodeId, step: int) -> None:
        node = self._tree.node(parent)
        node.nlink += step
        self._tree.save(node)

    def _changed_directory(self, parent: NodeId) -> None:
        node = self._tree.node(parent)
        node.mtime_ns = node.ctime_ns = self._clock()
        self._tree.save(node)
        self._kernel().attributes_changed(parent)
