"""Names: look up, make, link, remove."""

from __future__ import annotations

import stat

from mountsync.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    IsADirectory,
    NameTooLong,
    NotADirectory,
    NotFound,
    PermissionDenied,
)
from mountsync.paths import MAX_NAME_BYTES, OURS
from mountsync.state.tree import ROOT_ID, Node
from mountsync.vfs.absent import ChildrenAbsent
from mountsync.vfs.core import Core

_OURS = OURS.encode()


class Namespace(Core):
    """Verbs on names. Each is one ordered commit, done when the call returns."""

    def lookup(self, parent_id: int, name: bytes) -> Node | None:
        """The node behind a name, None when there is none.

        Raises ChildrenAbsent when the directory was never listed, NameTooLong, NotADirectory, Stale.
        """
        found = self.tree.child(parent_id, name)
        if found is not None:
            return found
        parent = self._directory(parent_id)
        if len(name) > MAX_NAME_BYTES:
            raise NameTooLong(f"a name is longer than {MAX_NAME_BYTES} bytes")
        if not parent.listed and not (parent_id == ROOT_ID and name == _OURS):
            raise ChildrenAbsent(parent.id)
        return None

    def _make(self, parent: Node, name: bytes, node: Node) -> Node:
        with self.database.transaction:
            self._insert(parent, name, node)
        self._stir()
        return node

    def _insert(self, parent: Node, name: bytes, node: Node) -> None:
        self.tree.insert(node)
        self.tree.link(parent.id, name, node.id)
        self._touch_parent(parent, node.ctime_ns, links=1 if node.is_directory else 0)
        self._note(node, node.ctime_ns)

    def _free_place(self, parent_id: int, name: bytes) -> Node:
        parent = self._vacant(parent_id, name)
        if self._child(parent, name) is not None:
            raise AlreadyExists("something has this name already")
        return parent

    def mknod(self, parent_id: int, name: bytes, mode: int, rdev: int, uid: int, gid: int) -> Node:
        """Makes a file, FIFO, socket or device. Only files ever travel to the remote."""
        parent = self._free_place(parent_id, name)
        return self._make(parent, name, self._new_node(parent, mode, uid, gid, rdev))

    def mkdir(self, parent_id: int, name: bytes, mode: int, uid: int, gid: int) -> Node:
        """Makes a directory. Raises AlreadyExists and what a name may meet."""
        parent = self._free_place(parent_id, name)
        mode = stat.S_IFDIR | stat.S_IMODE(mode)
        return self._make(parent, name, self._new_node(parent, mode, uid, gid))

    def symlink(self, parent_id: int, name: bytes, target: bytes, uid: int, gid: int) -> Node:
        """Makes a symbolic link with this text."""
        parent = self._free_place(parent_id, name)
        node = self._new_node(parent, stat.S_IFLNK | 0o777, uid, gid)
        node.target = target
        node.size = len(target)
        return self._make(parent, name, node)

    def readlink(self, node_id: int) -> bytes:
        """The text of a symbolic link."""
        node = self.tree.node(node_id)
        if node.target is None:
            raise NotFound(f"inode {node_id} is not a symbolic link")
        return node.target

    def link(self, node_id: int, parent_id: int, name: bytes) -> Node:
        """Gives a file another name. Raises PermissionDenied for a directory, NotFound when unlinked."""
        node = self.tree.node(node_id)
        parent = self._free_place(parent_id, name)
        if node.is_directory:
            raise PermissionDenied("a directory has one name only")
        if not node.nlink:
            raise NotFound("the file was removed")
        self._refuse_size(parent_id, name, node.size)
        now = self.clock()
        with self.database.transaction:
            self.tree.link(parent_id, name, node_id)
            node.nlink += 1
            node.ctime_ns = now
            self.tree.save(node)
            self._touch_parent(parent, now)
            self._note(node, now)
        self._forget_room()
        self._stir()
        return node

    def unlink(self, parent_id: int, name: bytes) -> None:
        """Takes a name of a file away; open handles keep the file."""
        self._refuse_read_only()
        parent = self._directory(parent_id)
        node = self._child(parent, name)
        if node is None:
            raise NotFound("there is no such name")
        if node.is_directory:
            raise IsADirectory("a directory is removed with rmdir")
        self._remove_name(parent, name, node, links=0)

    def rmdir(self, parent_id: int, name: bytes) -> None:
        """Removes an empty directory. Raises ChildrenAbsent when it was never listed."""
        self._refuse_read_only()
        parent = self._directory(parent_id)
        node = self._child(parent, name)
        if node is None:
            raise NotFound("there is no such name")
        if not node.is_directory:
            raise NotADirectory("this is not a directory")
        self._refuse_full(node)
        self._remove_name(parent, name, node, links=-1)

    def _refuse_full(self, node: Node) -> None:
        if self.tree.has_children(node.id):
            raise DirectoryNotEmpty("the directory has entries")
        if not node.listed:
            raise ChildrenAbsent(node.id)

    def _remove_name(self, parent: Node, name: bytes, node: Node, *, links: int) -> None:
        now = self.clock()
        with self.database.transaction:
            self.tree.unlink(parent.id, name)
            self._touch_parent(parent, now, links=links)
            in_file = self._lose_name(node, now)
        self._stir()
        if in_file:
            self.store.remove(node.id)
