"""Tells by its content whether an object on the remote is what was sent, where size and time cannot."""

from __future__ import annotations

from mountsync.engine.hashing import Hasher, digest_of
from mountsync.engine.mounted_replica import MountedTree
from mountsync.errors import NotFound, Stale
from mountsync.model.entry import Digest, Entry
from mountsync.paths import RelPath
from mountsync.state.attempts import Attempt
from mountsync.state.base import Base
from mountsync.vfs.absent import ContentAbsent


class Witness:
    """Compares with the digest that was written down when the body was sent or was to be moved.

    Where there is none, it is compared with what is here, as long as that is still the version that was
    sent, or with what is agreed: a version that was only renamed here has its digest in the base.
    """

    def __init__(self, volume: MountedTree, base: Base, hasher: Hasher) -> None:
        self._volume = volume
        self._base = base
        self._hasher = hasher

    async def same_content(self, sent: Attempt, path: RelPath, entry: Entry) -> bool | None:
        """Whether the object at `path` has the content that was sent; None when nothing tells any more.

        Raises Unreachable.
        """
        if entry.size == 0:
            return True
        try:
            known = await self._sent_digest(sent)
            return None if known is None else known == await self._hasher.digest(path, entry)
        except (Stale, NotFound):
            return None

    async def _sent_digest(self, sent: Attempt) -> Digest | None:
        if sent.digest is not None:
            return sent.digest
        node = self._volume.tree.find(sent.node)
        if node is not None and node.generation == sent.generation and not self._volume.is_busy(sent.node):
            try:
                body = self._volume.body(sent.node)
            except ContentAbsent:
                return self._agreed_digest(sent)
            try:
                return await digest_of(body)
            finally:
                body.close()
        return self._agreed_digest(sent)

    def _agreed_digest(self, sent: Attempt) -> Digest | None:
        rows = self._base.of_node(sent.node)
        digests = (row.remote.digest for row in rows if row.generation == sent.generation)
        return next((digest for digest in digests if digest is not None), None)
