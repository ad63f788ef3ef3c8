"""Tells by its content whether an object on the remote is what was sent, where size and time cannot."""

from __future__ import annotations

from mountsync.engine.hashing import Hasher, digest_of
from mountsync.engine.mounted_replica import MountedTree
from mountsync.errors import NotFound, Stale
from mountsync.model.entry import Entry
from mountsync.paths import RelPath
from mountsync.state.attempts import Attempt
from mountsync.vfs.absent import ContentAbsent


class Witness:
    """Compares with what is here, as long as it is still the version that was sent."""

    def __init__(self, volume: MountedTree, hasher: Hasher) -> None:
        self._volume = volume
        self._hasher = hasher

    async def same_content(self, sent: Attempt, path: RelPath, entry: Entry) -> bool | None:
        """Whether the object at `path` has the content that was sent; None when that is not here any more.

        Raises Unreachable.
        """
        node = self._volume.tree.find(sent.node)
        if entry.size == 0:
            return True
        if node is None or node.generation != sent.generation or self._volume.is_busy(sent.node):
            return None
        try:
            body = self._volume.body(sent.node)
        except ContentAbsent:
            return None
        try:
            return await digest_of(body) == await self._hasher.digest(path, entry)
        except (Stale, NotFound):
            return None
        finally:
            body.close()
