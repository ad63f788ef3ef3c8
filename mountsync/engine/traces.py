"""Tells objects on the remote that we made and did not record from those that others made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mountsync.engine.scope import Place
from mountsync.model.entry import Entry, Kind
from mountsync.state.attempts import Attempt, Attempts
from mountsync.state.base import Base, BaseRow
from mountsync.state.database import Database
from mountsync.state.journal import Journal
from mountsync.state.tree import Tree


class Traces:
    """Recognises what an earlier process, or an attempt without an answer, left on the remote."""

    def __init__(
        self,
        database: Database,
        tree: Tree,
        base: Base,
        journal: Journal,
        *,
        mtime_precision_ns: Callable[[], int | None],
        clock: Callable[[], int],
    ) -> None:
        self._db = database
        self._tree = tree
        self._base = base
        self._journal = journal
        self._attempts = Attempts(database)
        self._precision = mtime_precision_ns
        self._clock = clock

    @property
    def exist(self) -> bool:
        """Whether anything was begun whose outcome is not known."""
        return self._attempts.any()

    def recognise(self, place: Place, entry: Entry) -> Attempt | None:
        """Records `entry` as agreed at `place` when it is our own and the local side has moved on since.

        Where a file is still what was sent, nothing is taken on trust: the cycle that looks at both sides
        compares their contents. Call it for what no cycle works on.
        """
        begun = self._attempts.at(*place)
        attempt = next((attempt for attempt in begun if self._matches(attempt, entry)), None)
        if attempt is None or self._still_stands(attempt):
            return None
        with self._db.transaction:
            if attempt.old is not None and self._is_source(attempt.old, attempt):
                self._follow(attempt, attempt.old, entry)
            else:
                self._base.put(self._agreed(attempt, place, entry))
            self._attempts.remove(*place)
            noted = self._journal.find(attempt.node)
            if noted is None or noted.ready:
                # Also when it is noted: a cycle that began before does not know of this place.
                self._journal.note(attempt.node, self._clock())
        return attempt

    def _agreed(self, attempt: Attempt, place: Place, entry: Entry) -> BaseRow:
        before = self._base.find(*place)
        if before is not None and (before.node, before.generation) == (attempt.node, attempt.generation):
            entry = entry.with_digest(entry.digest or before.remote.digest)
        sent = attempt.entry
        return BaseRow(*place, attempt.node, attempt.generation, entry, sent.mtime_ns, sent.mode)

    def _follow(self, attempt: Attempt, old: Place, entry: Entry) -> None:
        self._base.move(*old, attempt.parent, attempt.name)
        row = self._base.find(attempt.parent, attempt.name)
        if row is not None and entry.kind is not Kind.DIRECTORY:
            digest = entry.digest or row.remote.digest
            self._base.put(replace(row, remote=entry.with_digest(digest)))

    def _matches(self, attempt: Attempt, entry: Entry) -> bool:
        sent = attempt.entry
        if entry.kind is not sent.kind:
            return False
        if entry.kind is not Kind.FILE:
            return entry.target == sent.target
        if entry.size != sent.size or entry.mtime_ns is None or sent.mtime_ns is None:
            return False
        return abs(entry.mtime_ns - sent.mtime_ns) <= (self._precision() or 0)

    def _is_source(self, old: Place, attempt: Attempt) -> bool:
        """Whether the base still has there what was to be renamed."""
        row = self._base.find(*old)
        return row is not None and row.node == attempt.node

    def _still_stands(self, attempt: Attempt) -> bool:
        if attempt.entry.kind is not Kind.FILE:
            return False  # there is no content to compare
        node = self._tree.child(attempt.parent, attempt.name)
        return node is not None and (node.id, node.generation) == (attempt.node, attempt.generation)

    def forget(self) -> None:
        """Drops all. Call it when the remote holds exactly what base has."""
        if self.exist and not self._journal.count():
            with self._db.transaction:
                self._attempts.clear()
