"""Open files: create, open, read, write, flush, release, fsync."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from typing import Final

import trio

from mountsync.errors import IsADirectory, TooLarge, from_os_error
from mountsync.state.tree import Node, Place
from mountsync.vfs.absent import ContentAbsent
from mountsync.vfs.core import MAX_SIZE, SMALL
from mountsync.vfs.handles import Handle, OpenFile
from mountsync.vfs.namespace import Namespace
from mountsync.vfs.saving import Saving

MAX_READ: Final = 1 << 20
"""The most bytes that one read gives."""
_PRIVILEGES: Final = stat.S_ISUID | stat.S_ISGID
_DAY_NS: Final = 86_400_000_000_000
_NO_NOWAIT: Final = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


class Files(Namespace, Saving):
    """Verbs on open files. `Handle` objects are valid until `release`."""

    _handle_ids = itertools.count(1)
    _scratch = memoryview(bytearray(MAX_READ))
    _nowait = True

    def create(
        self, parent_id: int, name: bytes, mode: int, flags: int, uid: int, gid: int
    ) -> tuple[Handle, Node]:
        """Makes and opens a file. What it promises survives the process from its first flush on."""
        parent = self._free_place(parent_id, name)
        node = self._new_node(parent, stat.S_IFREG | stat.S_IMODE(mode), uid, gid)
        with self.database.soft:
            self._insert(parent, name, node)
        self._stir()
        opened = self._use(node)
        opened.data = bytearray()
        opened.soft = True
        return self._handle(opened, flags, uid), node

    def is_limited(self, handle: Handle) -> bool:
        """Whether the names of a file that is open for writing bear only contents up to some size."""
        if not self.rules.names.depend_on_size or handle.flags & os.O_ACCMODE == os.O_RDONLY:
            return False
        return self._room(handle.file.node) < MAX_SIZE

    def is_cold(self, node_id: int) -> bool:
        """Whether reading the file would have to ask the remote for some of its content."""
        node = self.tree.find(node_id)
        return node is not None and node.place in (Place.NOWHERE, Place.GAPS) and node.size > 0

    def _handle(self, opened: OpenFile, flags: int, uid: int) -> Handle:
        opened.handles += 1
        return Handle(next(self._handle_ids), opened, flags, uid == 0)

    def open(self, node_id: int, flags: int, uid: int = 0) -> Handle:
        """Opens a file; O_TRUNC empties it. The kernel has checked permissions."""
        node = self.tree.node(node_id)
        if node.is_directory:
            raise IsADirectory("a directory is opened with opendir")
        if flags & (os.O_ACCMODE | os.O_TRUNC):
            self._refuse_read_only()
        opened = self._use(node)
        if flags & os.O_TRUNC:
            try:
                self._resize(opened, 0)
            except BaseException:
                self._drop_if_unused(opened)
                raise
        return self._handle(opened, flags, uid)

    def read(self, handle: Handle, offset: int, size: int) -> bytes:
        """Bytes from `offset`, fewer only at the end; may wait for the local disk.

        Raises ContentAbsent when some of them are not here.
        """
        opened = handle.file
        content = self._small(opened)
        if content is not None:
            return bytes(content[offset : offset + size])
        size = self._present(opened.node, offset, size)
        return self.store.disk.read_slowly(self._descriptor(opened), size, offset) if size else b""

    def read_now(self, handle: Handle, offset: int, size: int) -> bytes | bytearray | memoryview:
        """As `read`, but never waits: BlockingIOError when the disk would have to be asked.

        What it gives is valid until the next call only.
        """
        opened = handle.file
        content = self._small(opened)
        if content is not None:
            return content[offset : offset + size]
        size = self._present(opened.node, offset, min(size, MAX_READ))
        if not size:
            return b""
        fd = self._descriptor(opened)
        if not self._nowait:
            return self.store.disk.read_slowly(fd, size, offset)
        target = self._scratch[:size]
        try:
            found = self.store.disk.read(fd, [target], offset)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno not in _NO_NOWAIT:
                raise from_os_error(error) from error
            self._nowait = False
            return self.store.disk.read_slowly(fd, size, offset)
        if found < size:
            raise BlockingIOError
        return target

    async def read_waiting(self, handle: Handle, offset: int, size: int) -> bytes:
        """As `read`, in a thread."""
        opened = handle.file
        content = self._small(opened)
        if content is not None:
            return bytes(content[offset : offset + size])
        size = self._present(opened.node, offset, size)
        fd = os.dup(self._descriptor(opened))  # of our own: the file may be emptied or released meanwhile
        try:
            return await trio.to_thread.run_sync(self.store.disk.read_slowly, fd, size, offset)
        finally:
            self.store.disk.close(fd)

    def _small(self, opened: OpenFile) -> bytearray | bytes | None:
        """The whole content when it is in memory or a blob, None when it is in a file."""
        if opened.data is not None:
            return opened.data
        if opened.node.place == Place.BLOB:
            if opened.clean is None:
                self._used[opened.node.id] = self.clock()
                opened.clean = self._blob(opened.node)
            return opened.clean
        return None

    def _present(self, node: Node, offset: int, size: int) -> int:
        """How many of the bytes exist. Raises ContentAbsent when one of them is not here."""
        size = min(size, node.size - offset)
        if size <= 0:
            return 0
        if node.place != Place.FILE and self._lacks(node, offset, offset + size):
            raise ContentAbsent(node.id, offset, offset + size)
        return size

    def _lacks(self, node: Node, start: int, stop: int) -> bool:
        if node.place != Place.GAPS:
            return True
        found = self.database.row(
            "SELECT 1 FROM present WHERE node = ?1 AND start <= ?2 AND stop >= ?3", (node.id, start, stop)
        )
        return found is None

    def write(self, handle: Handle, offset: int, data: bytes | bytearray | memoryview) -> int:
        """Writes all of `data`; nothing of it survives the process before a flush.

        Raises ContentAbsent when the file was not fetched yet, NoSpace, TooLarge.
        """
        self._refuse_read_only()
        opened = handle.file
        stop = offset + len(data)
        if stop > MAX_SIZE:
            raise TooLarge("a file cannot be that large")
        if stop > opened.room:
            self._insist_room(opened, stop)
        self._begin_change(opened)
        if opened.data is not None and stop > SMALL:
            self.with_room(stop, lambda: self._spill(opened))
        memory = opened.data
        if memory is None:
            self.with_room(len(data), lambda: self.store.disk.write(opened.fd, data, offset))
        else:
            if offset > len(memory):
                memory.extend(bytes(offset - len(memory)))
            memory[offset:stop] = data
        self._wrote(handle, stop)
        return len(data)

    def _wrote(self, handle: Handle, stop: int) -> None:
        opened = handle.file
        node = opened.node
        if not opened.unsaved:
            opened.unsaved = True
            self._stir()
        node.size = max(node.size, stop)
        self._changed_now(node)
        node.prepared = None
        if not handle.privileged and node.mode & _PRIVILEGES:
            strip_privileges(node)
            self.kernel.attributes_changed(node.id)

    def flush(self, handle: Handle) -> None:
        """Ordered commit of what was written: it survives the process. Called by each close(2)."""
        opened = handle.file
        opened.finished = opened.writes
        if opened.unsaved:
            self.with_room(SMALL, lambda: self._save(opened))
        elif opened.soft:
            self.database.commit_soft()
            opened.soft = False

    def release(self, handle: Handle) -> None:
        """The last use of a handle; a file without a name goes with its last handle."""
        opened = handle.file
        opened.handles -= 1
        self._drop_if_unused(opened)

    async def fsync(self, handle: Handle) -> None:
        """Returns when all that was written before is safe from power loss."""
        node = handle.file.node
        self.flush(handle)
        if node.place == Place.FILE and node.id in self._unsynced:
            await self._sync_content(node)
        await self.database.make_durable()

    async def _sync_content(self, node: Node) -> None:
        """Makes a content file safe from power loss, and records it unless it was changed meanwhile."""
        mark = self._unsynced.get(node.id)
        if await self._sync_file(node.id):
            with self.database.transaction:
                self._content_is_safe(node, rested=self._unsynced.get(node.id) == mark)

    async def _sync_file(self, node_id: int) -> bool:
        """Makes a content file safe from power loss; whether it still is the node's one afterwards."""
        fd = self.store.open(node_id)  # of our own: the file may be emptied or released meanwhile
        try:
            await trio.to_thread.run_sync(self.store.sync, fd)
            return self.store.disk.has_name(fd)
        finally:
            self.store.disk.close(fd)

    def used(self, node: Node) -> None:
        """Remembers that a content was used now, for the choice of what to evict."""
        self._used[node.id] = self.clock()

    def open_state(self, node_id: int) -> OpenFile | None:
        """What is open of a node; for tests and for the parts of the volume."""
        return self._opened.get(node_id)


def strip_privileges(node: Node) -> None:
    """Takes setuid, and setgid of an executable, away, as a write by an ordinary user does."""
    node.mode &= ~stat.S_ISUID
    if node.mode & stat.S_IXGRP:
        node.mode &= ~stat.S_ISGID
    node.prepared = None
