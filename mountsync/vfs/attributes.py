"""Attributes of nodes: stat, chmod, chown, utimens, truncate; and the space of the file system."""

from __future__ import annotations

import stat
from dataclasses import dataclass
from typing import Final

from mountsync.errors import IsADirectory
from mountsync.model.entry import sayable
from mountsync.state.tree import Node, Place
from mountsync.vfs.files import Files, strip_privileges
from mountsync.vfs.handles import Handle

_BLOCK: Final = 4096


@dataclass(frozen=True, slots=True)
class Space:
    """The numbers of statvfs(3): sizes in blocks of `block` bytes."""

    block: int
    blocks: int
    free: int
    available: int
    files: int
    files_free: int


class Attributes(Files):
    """Verbs on attributes."""

    capacity: tuple[int, int] | None = None
    """Total and free bytes of the remote; None where it does not say. The engine sets it."""

    def getattr(self, node_id: int) -> Node:
        """The node with its attributes as open handles see them. Raises Stale."""
        return self.tree.node(node_id)

    def blocks(self, node: Node) -> int:
        """Blocks of 512 bytes that the content takes; holes do not count.

        A content that is not all here counts as if it were: programs take a file with fewer blocks than
        bytes for a sparse one and skip what they believe to be holes.
        """
        if not node.is_file:
            return 0
        if node.place == Place.FILE:
            return self.store.blocks(node.id)
        return (node.size + _BLOCK - 1) // _BLOCK * (_BLOCK // 512)

    def setattr(
        self,
        node_id: int,
        *,
        mode: int | None = None,
        uid: int | None = None,
        gid: int | None = None,
        size: int | None = None,
        atime_ns: int | None = None,
        mtime_ns: int | None = None,
        ctime_ns: int | None = None,
        handle: Handle | None = None,
        privileged: bool = True,
    ) -> Node:
        """Sets what is not None. An ordered commit, or with the next flush where a handle has changes.

        Raises ContentAbsent when a cold file is cut or lengthened to another size than 0.
        """
        self._refuse_read_only()
        node = self.tree.node(node_id)
        if mode is uid is gid is size is atime_ns is None and ctime_ns and mtime_ns == node.mtime_ns:
            return self._keep_ctime(node, ctime_ns)
        if size is not None:
            self._truncate(node, size, handle)
            if not privileged:
                strip_privileges(node)
        if mode is not None:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        if uid is not None or gid is not None:
            self._change_owner(node, uid, gid, keep_mode=mode is not None)
        if atime_ns is not None:
            node.atime_ns = sayable(atime_ns)
        if mtime_ns is not None:
            node.mtime_ns = sayable(mtime_ns)
        node.ctime_ns = self.clock() if ctime_ns is None else ctime_ns
        travels = mode is not None or mtime_ns is not None or (size is not None and not privileged)
        self._keep_attributes(node, travels=travels, wait=size is not None and handle is not None)
        return node

    def _keep_ctime(self, node: Node, ctime_ns: int) -> Node:
        """After each rename and link the kernel tells its own time of it: nobody waits for it to be safe."""
        node.ctime_ns = ctime_ns
        node.prepared = None
        with self.database.soft:
            self.tree.save(node)
        self._stir()
        return node

    def _change_owner(self, node: Node, uid: int | None, gid: int | None, *, keep_mode: bool) -> None:
        node.uid = node.uid if uid is None else uid
        node.gid = node.gid if gid is None else gid
        if not node.is_directory and not keep_mode:
            strip_privileges(node)

    def _truncate(self, node: Node, size: int, handle: Handle | None) -> None:
        if not node.is_file:
            raise IsADirectory("only a file has a length that can be set")
        opened = self._use(node)
        try:
            self._resize(opened, size)
            if handle is None:
                self._save(opened)
        finally:
            self._drop_if_unused(opened)

    def _keep_attributes(self, node: Node, *, travels: bool, wait: bool) -> None:
        """Writes the row now, or leaves it to the flush that will write it anyway."""
        opened = self._opened.get(node.id)
        node.prepared = None
        if opened is not None and (opened.unsaved or opened.soft or wait):
            opened.unsaved = True
            return
        with self.database.transaction:
            self.tree.save(node)
            if travels and node.nlink:
                self._note(node, self.clock())
        self._stir()

    def statfs(self) -> Space:
        """The space that writes can use: that of the remote where it says so, else of the local disk."""
        local = self.store.free_bytes()
        files, files_free = local.f_files, local.f_ffree
        if self.capacity is not None:
            total, free = self.capacity
            blocks, left = total // _BLOCK, free // _BLOCK
            return Space(_BLOCK, blocks, left, left, files, files_free)
        scale = local.f_frsize / _BLOCK
        blocks, free, available = (int(n * scale) for n in (local.f_blocks, local.f_bfree, local.f_bavail))
        return Space(_BLOCK, blocks, free, available, files, files_free)
