"""Which nodes may differ from what was last agreed with the remote.

A row is an observation: "node 17 changed, last at this version". It goes only in the transaction that
records the agreement for exactly that version, so no crash can lose a change.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from mountsync.state.database import Database
from mountsync.state.tree import NodeId

_COLUMNS = "node, version, ready, since_ns, changed_ns, attempts, not_before_ns, problem"


@dataclass(frozen=True, slots=True)
class JournalRow:
    """One row of table `journal`; times in ns since 1970."""

    node: NodeId
    version: int
    ready: int
    since_ns: int
    changed_ns: int
    attempts: int
    not_before_ns: int
    problem: str | None


class Journal:
    """Reads and writes the journal. Writing needs an open transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database
        newest = database.value("SELECT max(version) FROM journal") or 0
        self._version = max(int(newest), time.time_ns())
        self.on_note = _nothing
        """Called after each note; whoever replicates wakes up by it."""

    def note(self, node_id: int, now_ns: int) -> None:
        """Records that the node changed and may be uploaded as it is."""
        self._write(node_id, now_ns, ready=1)

    def touch(self, node_id: int, now_ns: int) -> None:
        """Records that the node's bytes are about to change in place: not to be uploaded until noted."""
        self._write(node_id, now_ns, ready=0)

    def _write(self, node_id: int, now_ns: int, *, ready: int) -> None:
        self._version += 1
        self._db.execute(
            "INSERT INTO journal VALUES (?1, ?2, ?3, ?4, ?4, 0, 0, NULL) ON CONFLICT (node) DO UPDATE SET"
            " version = ?2, ready = ?3, changed_ns = ?4, attempts = 0, not_before_ns = 0, problem = NULL",
            (node_id, self._version, ready, now_ns),
        )
        self.on_note()

    def find(self, node_id: int) -> JournalRow | None:
        """The row of a node, None when it is agreed."""
        found = self._db.row(f"SELECT {_COLUMNS} FROM journal WHERE node = ?", (node_id,))
        return None if found is None else JournalRow(*found)

    def has(self, node_id: int) -> bool:
        """Whether the node has a row."""
        return self._db.row("SELECT 1 FROM journal WHERE node = ?", (node_id,)) is not None

    def rows(self) -> list[JournalRow]:
        """All rows, oldest change first."""
        found = self._db.rows(f"SELECT {_COLUMNS} FROM journal ORDER BY since_ns, node")
        return [JournalRow(*row) for row in found]

    def rows_with_problems(self) -> list[JournalRow]:
        """Rows whose last attempt failed, oldest change first."""
        found = self._db.rows(
            f"SELECT {_COLUMNS} FROM journal WHERE problem IS NOT NULL ORDER BY since_ns, node LIMIT 1000"
        )
        return [JournalRow(*row) for row in found]

    def due(
        self,
        rested_ns: int,
        restless_ns: int,
        now_ns: int,
        limit: int,
        after: JournalRow | None = None,
    ) -> list[JournalRow]:
        """Rows whose last change is before `rested_ns`, or the first before `restless_ns`; oldest first.

        At most `limit`, those that come after the row `after`.

        Rows that wait for another attempt later than `now_ns` are not due. A row that is not ready
        is given too, when it is old enough: the caller decides how to read a file that never rests.
        """
        mark = (-1, 0) if after is None else (after.since_ns, after.node)
        found = self._db.rows(
            f"SELECT {_COLUMNS} FROM journal WHERE not_before_ns <= ?"
            " AND (changed_ns <= ? OR since_ns <= ?) AND (since_ns, node) > (?, ?)"
            " ORDER BY since_ns, node LIMIT ?",
            (now_ns, rested_ns, restless_ns, *mark, limit),
        )
        return [JournalRow(*row) for row in found]

    def next_due_ns(self, write_delay_ns: int, restless_ns: int) -> int | None:
        """When the next row will be due, None when there is no row."""
        found = self._db.value(
            "SELECT min(max(not_before_ns, min(changed_ns + ?, since_ns + ?))) FROM journal",
            (write_delay_ns, restless_ns),
        )
        return None if found is None else int(found)

    def settle(self, node_id: int, version: int) -> bool:
        """Removes the row if the node has not changed since that version; tells whether it did."""
        self._db.execute("DELETE FROM journal WHERE node = ? AND version = ?", (node_id, version))
        return self._db.changes > 0

    def postpone(self, node_id: int, version: int, not_before_ns: int, problem: str) -> None:
        """Records a failed attempt, unless the node changed meanwhile."""
        self._db.execute(
            "UPDATE journal SET attempts = attempts + 1, not_before_ns = ?, problem = ?"
            " WHERE node = ? AND version = ?",
            (not_before_ns, problem, node_id, version),
        )

    def mature(self, node_id: int, since_ns: int) -> None:
        """Lets a row be due at once, as part of a change that began at `since_ns`."""
        self._db.execute(
            "UPDATE journal SET changed_ns = 0, since_ns = min(since_ns, ?) WHERE node = ?",
            (since_ns, node_id),
        )

    def rest(self, node_id: int, version: int, not_before_ns: int) -> None:
        """Lets a row wait without blaming it, unless the node changed meanwhile or waits longer already."""
        self._db.execute(
            "UPDATE journal SET not_before_ns = max(not_before_ns, ?) WHERE node = ? AND version = ?",
            (not_before_ns, node_id, version),
        )

    def agreed_until(self, node_id: int, since_ns: int) -> None:
        """Records that what changed before that time was agreed; the node changed again since."""
        self._db.execute(
            "UPDATE journal SET since_ns = min(changed_ns, max(since_ns, ?)) WHERE node = ?",
            (since_ns, node_id),
        )

    def has_due(self, since_ns: int, now_ns: int, soon_ns: int) -> bool:
        """Whether a change that began at `since_ns` or before was not agreed yet and can be sent now.

        Without having failed it may rest until `soon_ns`.
        """
        found = self._db.row(
            "SELECT 1 FROM journal WHERE since_ns <= ?1"
            " AND (not_before_ns <= ?2 OR (problem IS NULL AND not_before_ns <= ?3)) LIMIT 1",
            (since_ns, now_ns, soon_ns),
        )
        return found is not None

    @property
    def newest(self) -> int:
        """The version of the last change."""
        return self._version

    def deletes(self, after_version: int) -> int:
        """How many agreed files and links have no name here any more, counting changes after a version.

        What was replaced by something else under its name does not count, nor do directories.
        """
        found = self._db.value(
            "SELECT count(*) FROM journal j JOIN base b ON b.node = j.node WHERE j.version > ?"
            " AND b.kind <> 1"
            " AND NOT EXISTS (SELECT 1 FROM dentry d WHERE d.node = b.node)"
            " AND NOT EXISTS (SELECT 1 FROM dentry d WHERE d.parent = b.parent AND d.name = b.name)",
            (after_version,),
        )
        return int(found)

    def hurry(self) -> None:
        """Lets every waiting row be tried at once: the remote is back, or a person asked. Commits."""
        with self._db.transaction:
            self._db.execute("UPDATE journal SET not_before_ns = 0 WHERE not_before_ns > 0")

    def below_waits_until(self, parent: int) -> int | None:
        """Until when all that is pending of what was agreed in a directory waits; None when nothing is."""
        found = self._db.value(
            "SELECT min(j.not_before_ns) FROM base b JOIN journal j ON j.node = b.node WHERE b.parent = ?",
            (parent,),
        )
        return None if found is None else int(found)

    def is_waiting(self, now_ns: int) -> bool:
        """Whether any row waits for another attempt."""
        return self._db.row("SELECT 1 FROM journal WHERE not_before_ns > ? LIMIT 1", (now_ns,)) is not None

    @property
    def is_empty(self) -> bool:
        """Whether every node is agreed."""
        return self._db.row("SELECT 1 FROM journal LIMIT 1") is None

    def count(self) -> int:
        """How many nodes are not agreed."""
        return int(self._db.value("SELECT count(*) FROM journal"))

    def pending_bytes(self) -> int:
        """Sum of the sizes of the files that are not agreed."""
        found = self._db.value(
            "SELECT sum(n.size) FROM journal j JOIN node n ON n.id = j.node WHERE n.mode & 61440 = 32768"
        )
        return int(found or 0)


def _nothing() -> None:
    """Nobody listens."""
