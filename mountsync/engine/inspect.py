"""What the extended attributes `user.mountsync.*` say of a file."""

from __future__ import annotations

from collections.abc import Callable

from mountsync.engine.ledger import Ledger
from mountsync.engine.session import Session
from mountsync.paths import RelPath, from_bytes
from mountsync.state.base import Base, BaseRow
from mountsync.state.journal import Journal
from mountsync.state.tree import ROOT_ID, Node, Place, Tree


class NodeInspector:
    """Answers from the local state alone: asking never starts a transfer."""

    def __init__(
        self,
        tree: Tree,
        journal: Journal,
        base: Base,
        ledger: Ledger,
        session: Session,
        hidden: Callable[[RelPath], bool],
    ) -> None:
        self._tree = tree
        self._journal = journal
        self._base = base
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

    def _agreed(self, node: Node) -> BaseRow | None:
        rows = self._base.of_node(node.id)
        return rows[0] if rows and rows[0].generation == node.generation else None

    def _state(self, node: Node) -> str:
        raw = self._tree.path(node.id)
        path = RelPath("") if raw is None else from_bytes(raw)
        row = self._journal.find(node.id)
        for holds, state in (
            (bool(path) and self._hidden(path), "local-only"),
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
