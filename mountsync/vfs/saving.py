"""How what is open and changed gets into rows and content files.

Small contents live in memory while they may change and reach a blob row in one commit. Larger ones are
changed in place in their content file: the journal is told before the first byte ("touched") and after
the last ("noted"), so that a content that was being changed when the process died is known.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final

from mountsync.errors import NotFound
from mountsync.state.tree import Node, Place
from mountsync.vfs.absent import ContentAbsent
from mountsync.vfs.core import SMALL, Core
from mountsync.vfs.handles import OpenFile

_PUT_BLOB: Final = "INSERT OR REPLACE INTO blob VALUES (?, ?)"


def _leave_unnamed(_node: Node) -> bool:
    """What has no name goes with its last handle."""
    return False


class Saving(Core):
    """The life of an open file's content."""

    times_by_kernel = False
    """Whether `setattr` brings the mtime after writes, as a kernel with a writeback cache does.

    Such a kernel shows its own mtime, and tells it only when it is another one than before the write: a
    time of ours would never be seen in the folder, but be sent to the remote.
    """

    rescue: Callable[[Node], bool] = staticmethod(_leave_unnamed)
    """Gives a file without a name one again, when it was not a program that took it. The engine sets it."""

    def _use(self, node: Node) -> OpenFile:
        """The open state of a file, made when there is none. Call `_drop_if_unused` some time later."""
        opened = self._opened.get(node.id)
        if opened is None:
            opened = self._opened[node.id] = OpenFile(node)
            node.holds += 1
        return opened

    def _drop_if_unused(self, opened: OpenFile) -> None:
        if opened.handles:
            return
        node = opened.node
        if opened.unsaved:
            self._save(opened)
        if opened.fd >= 0:
            self.store.disk.close(opened.fd)
            opened.fd = -1
        del self._opened[node.id]
        self.let_go(node)

    def _blob(self, node: Node) -> bytes:
        found = self.database.value("SELECT data FROM blob WHERE node = ?", (node.id,))
        return b"" if found is None else found

    def _descriptor(self, opened: OpenFile) -> int:
        """The descriptor of the content file, which must exist."""
        if opened.fd < 0:
            opened.fd = self.store.open(opened.node.id)
        return opened.fd

    def _begin_change(self, opened: OpenFile) -> None:
        """Makes the content ready to be changed: in memory, or in place in its file and touched.

        Raises ContentAbsent when not all bytes are here.
        """
        node = opened.node
        opened.writes += 1
        if opened.data is not None:
            return
        if node.place == Place.FILE:
            self._touch(opened)
            if node.id in self._unsynced:
                self._unsynced[node.id] += 1
        elif node.place == Place.BLOB or node.size == 0:
            opened.data = bytearray(self._blob(node) if opened.clean is None else opened.clean)
            opened.clean = None
        else:
            raise ContentAbsent(node.id, 0, node.size)

    def _touch(self, opened: OpenFile) -> None:
        self._descriptor(opened)
        if opened.touched:
            return
        if opened.node.nlink:
            with self.database.transaction:
                self._mark_touched(opened.node)
            self._stir()
        opened.touched = True

    def _mark_touched(self, node: Node) -> None:
        self.journal.touch(node.id, self.clock())
        if node.id not in self._unsynced:
            self.database.execute("INSERT OR IGNORE INTO unsynced VALUES (?)", (node.id,))
        self._unsynced[node.id] = self._unsynced.get(node.id, 0) + 1

    def _spill(self, opened: OpenFile) -> None:
        """Moves a content that grows out of memory into a content file.

        The blob row, if any, stays until the content file is safe from power loss: it is what a
        recovery falls back to.
        """
        node, data = opened.node, opened.data
        fd = self.store.create(node.id)
        try:
            self.store.disk.write(fd, data or b"", 0)
            with self.database.transaction:
                node.place = Place.FILE
                node.size = len(data or b"")
                self.tree.save(node)
                if node.nlink:
                    self._mark_touched(node)
        except BaseException:
            node.size = len(data or b"")
            self.store.disk.close(fd)
            raise
        opened.fd, opened.data, opened.touched, opened.soft = fd, None, True, False
        self._stir()

    def _resize(self, opened: OpenFile, size: int) -> None:
        """Cuts or lengthens the content; `unsaved` afterwards."""
        node = opened.node
        if size > opened.room:
            self._insist_room(opened, size)
        if size == 0 and opened.data is None:
            self._empty(opened)
        else:
            self._begin_change(opened)
        data = opened.data
        if data is not None and size > SMALL:
            self._spill(opened)
            data = None
        if data is None:
            self.store.disk.resize(opened.fd, size)
        elif size < len(data):
            del data[size:]
        else:
            data.extend(bytes(size - len(data)))
        opened.unsaved = True
        node.size = size
        self._changed_now(node)
        node.prepared = None

    def _changed_now(self, node: Node) -> None:
        node.ctime_ns = self.clock()
        if not self.times_by_kernel:
            node.mtime_ns = node.ctime_ns

    def _empty(self, opened: OpenFile) -> None:
        """Forgets the whole content, which need not be here."""
        node = opened.node
        opened.writes += 1
        in_file = node.place in (Place.FILE, Place.GAPS)
        if in_file or node.place == Place.NOWHERE:
            with self.database.transaction:
                node.place, node.size = Place.BLOB, 0
                node.generation += 1
                self.database.execute("DELETE FROM present WHERE node = ?", (node.id,))
                self.database.execute("DELETE FROM blob WHERE node = ?", (node.id,))
                self._forget_unsynced(node.id)
                self.tree.save(node)
                if node.nlink:
                    self.journal.touch(node.id, self.clock())
            self._stir()
        if in_file:
            if opened.fd >= 0:
                self.store.disk.close(opened.fd)
                opened.fd = -1
            self.store.remove(node.id)
        opened.data, opened.clean, opened.touched = bytearray(), None, False

    def _save(self, opened: OpenFile) -> None:
        """Ordered commit of all that memory knows and the rows do not; raises the generation."""
        node = opened.node
        if not node.nlink and not self.rescue(node):
            opened.unsaved = opened.soft = False
            return
        with self.database.transaction:
            self._write_rows(opened)
        opened.unsaved = opened.touched = opened.soft = False
        self._stir()

    def _write_rows(self, opened: OpenFile) -> None:
        node, data = opened.node, opened.data
        node.generation += 1
        if data is not None:
            node.place, node.size = Place.BLOB, len(data)
            self.database.execute(_PUT_BLOB, (node.id, bytes(data)))
        elif opened.fd >= 0:
            node.size = os.fstat(opened.fd).st_size
        self.tree.save(node)
        self.journal.note(node.id, self.clock())

    def _content_is_safe(self, node: Node, *, rested: bool) -> None:
        """Records that the content file was synced; `rested`: nothing was written meanwhile."""
        if rested:
            self._forget_unsynced(node.id)
        if node.place == Place.FILE:
            # Also when it did not rest: the synced bytes are newer than what a recovery would fall back to.
            self.database.execute("DELETE FROM blob WHERE node = ?", (node.id,))

    def is_busy(self, node_id: int) -> bool:
        """Whether an open handle has changes that `quiesce` would save."""
        opened = self._opened.get(node_id)
        return opened is not None and opened.unsaved

    def is_being_written(self, node_id: int) -> bool:
        """Whether a program changed the content and did not close, flush or fsync it since."""
        opened = self._opened.get(node_id)
        return opened is not None and (opened.unsaved or opened.finished != opened.writes)

    def quiesce(self, node_id: int) -> None:
        """Saves the changes of open handles, one ordered commit, so that an upload can start.

        The handles stay usable. Raises NotFound when there is no such node.
        """
        if self.tree.find(node_id) is None:
            raise NotFound(f"inode {node_id} does not exist any more")
        opened = self._opened.get(node_id)
        if opened is not None and opened.unsaved:
            self._save(opened)
