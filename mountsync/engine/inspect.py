"""What the extended attributes `user.mountsync.*` say of a file."""

from __future__ import annotations

from dataclasses import replace

from mountsync.engine.hashing import digest_of
from mountsync.engine.ledger import Ledger
from mountsync.engine.session import Session
from mountsync.engine.storage_replica import Excluded
from mountsync.errors import Stale
from mountsync.model.entry import Digest
from mountsync.paths import RelPath, from_bytes
from mountsync.state.base import BaseRow
from mountsync.state.tree import ROOT_ID, Node, Place
from mountsync.vfs.absent import ContentAbsent
from mountsync.vfs.volume import Volume


class NodeInspector:
    """Answers from the local state alone: asking never starts a transfer."""

    def __init__(
        self,
        volume: Volume,
        ledger: Ledger,
        session: Session,
        hidden: Excluded,
    ) -> None:
        self._volume = volume
        self._tree = volume.tree
        self._journal = volume.journal
        self._base = volume.base
        self._ledger = ledger
        self._session = session
        self._hidden = hidden

    def inspect(self, node: Node, fact: str) -> bytes | None:
        """The value of fact `state`, `sha256` or `token`; None when there is none."""
        if fact == "state":
            return self._state(node).encode()
        row = self._agreed(node)
        if row is None:
            return None
        known = row.remote.digest if fact == "sha256" else row.remote.token if fact == "token" else None
        return None if known is None else known.encode("utf-8", "surrogateescape")

    async def digest(self, node: Node) -> bytes | None:
        """The sha256 of a file whose content is here, whole and agreed; it is computed once."""
        row = self._agreed(node)
        if row is None or not node.is_file or self._volume.is_being_written(node.id):
            return None
        try:
            body = self._volume.body(node.id)
        except (ContentAbsent, Stale):
            return None
        try:
            found = await digest_of(body)
        except Stale:
            return None
        finally:
            body.close()
        return found.encode() if self._note(node, row, found) else None

    def _note(self, node: Node, seen: BaseRow, digest: Digest) -> bool:
        """Keeps a digest, unless the file moved on while it was computed."""
        if self._agreed(node) != seen:
            return False
        with self._volume.database.transaction:
            self._base.put(replace(seen, remote=replace(seen.remote, digest=digest)))
        return True

    def _agreed(self, node: Node) -> BaseRow | None:
        rows = self._base.of_node(node.id)
        return rows[0] if rows and rows[0].generation == node.generation else None

    def _state(self, node: Node) -> str:
        raw = self._tree.path(node.id)
        path = RelPath("") if raw is None else from_bytes(raw)
        row = self._journal.find(node.id)
        for holds, state in (
            (bool(path) and self._hidden(path, is_directory=node.is_directory), "local-only"),
            (path in self._session.conflicts, "conflict"),
            (bool(row and row.problem) or path in self._session.problems, "problem"),
            (row is not None and self._is_worked_on(node), "uploading"),
            (row is not None, "pending"),
        ):
            if holds:
                return state
        return self._rest(node)

    def _is_worked_on(self, node: Node) -> bool:
        return any(self._ledger.is_claimed(place) for place in self._tree.names(node.id))

    def _rest(self, node: Node) -> str:
        if node.id != ROOT_ID and not self._base.of_node(node.id):
            return "local-only"
        if node.is_file and node.place == Place.NOWHERE and node.size:
            return "cloud"
        return "partial" if node.place == Place.GAPS else "synced"
