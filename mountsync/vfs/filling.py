"""Bytes that come from the remote into a cold file, and bytes that go again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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


class Inflow:
    """A content file while bytes flow into it, which must be over when the context of `inflow` is left."""

    def __init__(self, volume: Filling, node_id: int, generation: int, fd: int) -> None:
        self._volume = volume
        self._node_id = node_id
        self._generation = generation
        self._fd = fd

    def put_at(self, data: memoryview, offset: int) -> None:
        """Writes bytes; in any thread. Nobody counts on them before they are claimed. Raises NoSpace."""
        self._volume.store.disk.write(self._fd, data, offset)

    def claim(self, start: int, stop: int) -> bool:
        """As `Filling.claim`; on the loop."""
        return self._volume.claim(self._node_id, start, stop, generation=self._generation)


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
        with self.inflow(node_id, generation=node.generation) as inflow:
            assert inflow is not None
            await self._put(inflow, offset, data)
            return inflow.claim(offset, offset + len(data))

    @contextmanager
    def inflow(self, node_id: int, *, generation: int) -> Iterator[Inflow | None]:
        """The content file of a cold file, open for bytes that other threads put there. The node is held.

        None when the node went, or has another content than that of `generation`.
        """
        node = self._cold(node_id, generation)
        if node is None:
            yield None
            return
        fd = self.store.open_or_create(node.id)
        self._inflows[node_id] += 1
        self.hold(node)
        try:
            yield Inflow(self, node_id, generation, fd)
        finally:
            self.store.disk.close(fd)
            self.let_go(node)
            self._end_inflow(node_id)

    def _end_inflow(self, node_id: int) -> None:
        """A content file of which nothing was claimed may hold bytes of an old content: nobody finds it."""
        self._inflows[node_id] -= 1
        if self._inflows[node_id]:
            return
        del self._inflows[node_id]
        node = self.tree.find(node_id)
        if node is None or node.place not in (Place.GAPS, Place.FILE):
            self.store.remove(node_id)

    def claim(self, node_id: int, start: int, stop: int, *, generation: int) -> bool:
        """Records that bytes were put into the content file; as `fill` otherwise."""
        node = self._cold(node_id, generation)
        if node is None:
            return False
        self._claim(node, start, stop)
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

    async def _put(self, inflow: Inflow, offset: int, data: bytes | memoryview) -> None:
        view = memoryview(data)
        if len(view) <= _INLINE:
            self.with_room(len(view), lambda: inflow.put_at(view, offset))
            return
        try:
            await trio.to_thread.run_sync(inflow.put_at, view, offset)
        except NoSpace:
            if not self.relieve(len(view)):
                raise
            await trio.to_thread.run_sync(inflow.put_at, view, offset)

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
