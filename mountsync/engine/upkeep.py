"""The local cache: what is pinned comes here, what is cold goes when space is needed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Final, Protocol

import structlog
import trio

from mountsync.content.evict import victims
from mountsync.engine.bell import Bell
from mountsync.engine.condition import Condition
from mountsync.errors import Busy, MountsyncError, NotFound
from mountsync.paths import to_bytes
from mountsync.state.tree import Node, NodeId
from mountsync.vfs.absent import ChildrenAbsent
from mountsync.vfs.volume import Volume

_log = structlog.get_logger(__name__)
_EVERY_S: Final = 5.0
_AGAIN_S: Final = 30.0
"""A pinned file that could not be fetched is tried again after so long."""
_TARGET: Final = 0.9
"""A cache that is too large is brought down to this part of its limit."""

_RESERVE: Final = 256 << 20
_RESERVE_PART: Final = 100
"""Of the disk that holds the cache so many bytes, and at most a hundredth, are kept free of copies."""
_RELIEF: Final = 16 << 20
"""Bytes given up at once, at least, when a write found the disk full."""


class Fetching(Protocol):
    """Brings what is not here."""

    async def content(self, node_id: NodeId, start: int, stop: int) -> None:
        """Bytes of a file."""
        ...

    async def children(self, node_id: NodeId) -> None:
        """Entries of a directory."""
        ...


class Upkeep:
    """Pins, evictions and the size of the cache of one mount."""

    def __init__(self, volume: Volume, fetcher: Fetching, condition: Condition, *, limit: int | None) -> None:
        """`limit` in bytes, None for none."""
        self._volume = volume
        self._fetcher = fetcher
        self._condition = condition
        self.limit = limit
        self._nothing_until = -math.inf
        self._bell = Bell()

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_pinned)
            nursery.start_soon(self._keep_small)

    async def _keep_small(self) -> None:
        while True:
            self.make_room()
            await trio.sleep(_EVERY_S)

    def make_room(self) -> int:
        """Evicts cold clean content beyond the limit, and for a disk that is nearly full; the bytes freed."""
        return self._give_up(max(self._beyond_limit(), self._missing_on_disk()))

    def _beyond_limit(self) -> int:
        if self.limit is None:
            return 0
        used = self._volume.cache_bytes()
        return used - int(self.limit * _TARGET) if used > self.limit else 0

    def _missing_on_disk(self) -> int:
        """Bytes that the disk lacks. What cannot be fetched again now is not given up for it."""
        disk = self._volume.store.free_bytes()
        reserve = min(_RESERVE, disk.f_blocks * disk.f_frsize // _RESERVE_PART)
        free = disk.f_bavail * disk.f_frsize
        return 2 * reserve - free if free < reserve and self._condition.may_work else 0

    def _give_up(self, excess: int) -> int:
        if excess <= 0 or self._condition.may_be_all_there_is:
            return 0
        found = self._volume.evictable()
        sizes = {candidate.node: candidate.size for candidate in found}
        return sum(sizes[node] for node in victims(found, excess) if self._volume.forget_content(node))

    def relieve(self, size: int) -> bool:
        """The disk is full: makes room for `size` bytes at once, if it can; see `Core.relieve`."""
        now = trio.current_time()
        if not self._condition.may_work or now < self._nothing_until:
            return False
        freed = self._give_up(max(2 * size, _RELIEF))
        if not freed:
            self._nothing_until = now + _EVERY_S  # looking through everything takes a while
        return freed > 0

    def node_at(self, path: str) -> Node:
        """The node at a path relative to the root. Raises NotFound."""
        node_id = self._volume.tree.resolve(to_bytes(path.strip("/")))
        if node_id is None:
            raise NotFound("there is no such file in the mount", path=path)
        return self._volume.tree.node(node_id)

    def pin(self, path: str) -> None:
        """Keeps a file, or all below a directory, here from now on."""
        node = self.node_at(path)
        with self._volume.database.transaction:
            self._volume.database.execute("INSERT OR IGNORE INTO pin VALUES (?)", (node.id,))
        self._bell.ring()

    def unpin(self, path: str) -> None:
        """Ends `pin`. Raises NotFound when the path is not pinned."""
        node = self.node_at(path)
        with self._volume.database.transaction:
            self._volume.database.execute("DELETE FROM pin WHERE node = ?", (node.id,))
            if not self._volume.database.changes:
                raise NotFound("it is not pinned", path=path)

    def pinned(self) -> int:
        """How many pins there are."""
        return int(self._volume.database.value("SELECT count(*) FROM pin"))

    def evict(self, path: str) -> int:
        """Forgets the local copies at and below a path; gives the bytes freed.

        Raises Busy for one file that has to stay, and Halted or Unreachable while the remote may not have
        them any more: a safety stop stands, or it is not where it was.
        """
        self._condition.refuse_if_missing()
        node = self.node_at(path)
        if node.is_file:
            before = self._volume.cache_bytes()
            if not self._volume.forget_content(node.id) and node.place:
                raise Busy("it is open, pinned, or not on the remote yet", path=path)
            return before - self._volume.cache_bytes()
        before = self._volume.cache_bytes()
        for file in self._files(node):
            self._volume.forget_content(file.id)
        return before - self._volume.cache_bytes()

    def _files(self, node: Node) -> Iterator[Node]:
        if not node.is_directory:
            yield node
            return
        for _, child in self._volume.tree.children(node.id):
            yield from self._files(child)

    def fetch_pinned_soon(self) -> None:
        """The tree changed: pinned files may have to be fetched."""
        self._bell.ring()

    async def _keep_pinned(self) -> None:
        while True:
            await self._condition.until(lambda: self._condition.may_work)
            all_here = True
            for (node_id,) in self._volume.database.rows("SELECT node FROM pin"):
                all_here = await self._bring(node_id) and all_here
            await self._bell.wait_at_most(float("inf") if all_here else _AGAIN_S)

    async def _bring(self, node_id: NodeId) -> bool:
        """Fetches a file or all below a directory; tells whether it is here."""
        node = self._volume.tree.find(node_id)
        if node is None:
            return True
        try:
            if node.is_directory:
                return await self._bring_children(node)
            if node.is_file and not node.is_complete and node.size:
                await self._fetcher.content(node.id, 0, node.size)
        except (MountsyncError, ChildrenAbsent) as error:
            raw = self._volume.tree.path(node_id) or b""
            _log.warning(
                "a pinned file could not be fetched",
                path=raw.decode("utf-8", "surrogateescape"),
                reason=str(error),
                retry_in_s=_AGAIN_S,
            )
            return False
        return True

    async def _bring_children(self, node: Node) -> bool:
        if not node.listed:
            await self._fetcher.children(node.id)
        all_here = True
        for _, child_id in self._volume.tree.child_names(node.id):
            all_here = await self._bring(child_id) and all_here
            await trio.lowlevel.checkpoint()
        return all_here
