"""Bytes that come from the remote into a cold file, and bytes that go again."""

from __future__ import annotations

from typing import Final

import trio

from mountsync.content import ranges
from mountsync.content.evict import Candidate
from mountsync.content.ranges import Range
from mountsync.errors import NoSpace
from mountsync.state.tree import Node, Place
from mountsync.vfs.core import SMALL
from mountsync.vfs.files import Files

_INLINE: Final = 64 << 10
"""Bytes that are written on the loop: a thread hop costs more than they do."""
_CACHED: Final = (
    "SELECT n.id, n.size, n.place FROM node n WHERE n.place <> 0 AND n.mode & 61440 = 32768 AND n.size > 0"
    " AND NOT EXISTS (SELECT 1 FROM journal j WHERE j.node = n.id)"
)


class Filling(Files):
    """What the engine does with contents."""

    def missing(self, node_id: int, start: int, stop: int) -> list[Range]:
        """Which bytes of `[start, stop)`, within the file, are not here; in order."""
        node = self.tree.node(node_id)
        stop = min(stop, node.size)
        if node.place in (Place.BLOB, Place.FILE) or start >= stop:
            return []
        return ranges.missing(self._present_ranges(node), start, stop)

    def _present_ranges(self, node: Node) -> list[Range]:
        if node.place != Place.GAPS:
            return []
        found = self.database.rows(
            "SELECT start, stop FROM present WHERE node = ? ORDER BY start", (node.id,)
        )
        return ranges.normal(found)

    async def fill(
        self, node_id: int, offset: int, data: bytes | memoryview, *, generation: int | None = None
    ) -> bool:
        """Stores fetched bytes of a cold file: the bytes first, then the claim that they are here.

        `generation` is what the node had when the fetch began: bytes of an older content are dropped.
        Tells whether they were stored; not when the node went, or was changed locally meanwhile.
        """
        node = self._cold(node_id, generation)
        if node is None:
            return False
        if offset == 0 and len(data) == node.size <= SMALL and node.place == Place.NOWHERE:
            self._fill_blob(node, data)
            return True
        generation = node.generation
        self.hold(node)
        try:
            await self._write_file(node, offset, data)
            if self._cold(node_id, generation) is None:
                return False
            self._claim(node, offset, offset + len(data))
        finally:
            self.let_go(node)
        return True

    def _cold(self, node_id: int, generation: int | None) -> Node | None:
        node = self.tree.find(node_id)
        if node is None or node.place not in (Place.NOWHERE, Place.GAPS):
            return None
        return node if generation in (None, node.generation) else None

    def _fill_blob(self, node: Node, data: bytes | memoryview) -> None:
        with self.database.transaction:
            self.database.execute("INSERT OR REPLACE INTO blob VALUES (?, ?)", (node.id, bytes(data)))
            node.place = Place.BLOB
            self.tree.save(node)
        self.used(node)
        self._stir()

    async def _write_file(self, node: Node, offset: int, data: bytes | memoryview) -> None:
        disk = self.store.disk
        fd = self.store.open_or_create(node.id)
        try:
            if len(data) <= _INLINE:
                self.with_room(len(data), lambda: disk.write(fd, data, offset))
            else:
                await self._write_in_thread(fd, data, offset)
        finally:
            disk.close(fd)

    async def _write_in_thread(self, fd: int, data: bytes | memoryview, offset: int) -> None:
        try:
            await trio.to_thread.run_sync(self.store.disk.write, fd, data, offset)
        except NoSpace:
            if not self.relieve(len(data)):
                raise
            await trio.to_thread.run_sync(self.store.disk.write, fd, data, offset)

    def _claim(self, node: Node, start: int, stop: int) -> None:
        present = ranges.normal([*self._present_ranges(node), (start, stop)])
        with self.database.transaction:
            if ranges.missing(present, 0, node.size):
                self._merge_claim(node, start, stop)
                node.place = Place.GAPS
            else:
                self.database.execute("DELETE FROM present WHERE node = ?", (node.id,))
                self.database.execute("INSERT OR IGNORE INTO unsynced VALUES (?)", (node.id,))
                self._unsynced[node.id] = self._unsynced.get(node.id, 0) + 1
                node.place = Place.FILE
            self.tree.save(node)
        self.used(node)
        self._stir()

    def _merge_claim(self, node: Node, start: int, stop: int) -> None:
        """One row for the new range and all that it touches; not safe before the next barrier."""
        for left, right in self.database.rows(
            "SELECT start, stop FROM present WHERE node = ?1 AND start <= ?3 AND stop >= ?2",
            (node.id, start, stop),
        ):
            start, stop = min(start, left), max(stop, right)
        self.database.execute(
            "DELETE FROM present WHERE node = ? AND start >= ? AND stop <= ?", (node.id, start, stop)
        )
        self.database.execute("INSERT INTO present VALUES (?, ?, ?, 0)", (node.id, start, stop))

    def forget_content(self, node_id: int) -> bool:
        """Removes the local copy of a clean file. Refuses (False) what is dirty, held or pinned."""
        node = self.tree.find(node_id)
        if node is None or not node.is_file or node.place == Place.NOWHERE or node.holds:
            return False
        if self.journal.has(node_id) or self._is_pinned(node_id) or not self.base.knows(node_id):
            return False
        in_file = node.place in (Place.FILE, Place.GAPS)
        with self.database.transaction:
            self.database.execute("DELETE FROM blob WHERE node = ?", (node_id,))
            self.database.execute("DELETE FROM present WHERE node = ?", (node_id,))
            self._forget_unsynced(node_id)
            node.place = Place.NOWHERE
            self.tree.save(node)
        self._stir()
        if in_file:
            self.store.remove(node_id)
        # Pages of the kernel stay right: the content did not change.
        return True

    def _is_pinned(self, node_id: int) -> bool:
        """Whether the node or a directory above it is pinned."""
        if not self.database.row("SELECT 1 FROM pin LIMIT 1"):
            return False
        chain = {node_id}
        todo = [node_id]
        while todo:
            for above, _ in self.tree.names(todo.pop()):
                if above not in chain:
                    chain.add(above)
                    todo.append(above)
        marks = ",".join("?" * len(chain))
        return self.database.row(f"SELECT 1 FROM pin WHERE node IN ({marks})", tuple(chain)) is not None

    def cache_bytes(self) -> int:
        """Bytes that contents take here, dirty ones too; a content with gaps counts its ranges."""
        whole = self.database.value(
            "SELECT sum(size) FROM node WHERE place IN (1, 2) AND mode & 61440 = 32768"
        )
        parts = self.database.value("SELECT sum(stop - start) FROM present")
        return int(whole or 0) + int(parts or 0)

    def evictable(self) -> list[Candidate]:
        """Clean contents that nobody holds; pins are asked of `forget_content` itself."""
        found = []
        for node_id, size, place in self.database.rows(_CACHED):
            node = self.tree.find(node_id)
            if node is None or node.holds:
                continue
            taken = ranges.total(self._present_ranges(node)) if place == Place.GAPS else size
            found.append(Candidate(node_id, taken, max(self._used.get(node_id, 0), node.atime_ns)))
        return found
