"""What was begun on the remote and is not in the base yet.

A process that dies between an effect on the remote and the commit that records it leaves an object that
nobody knows of. When the local side has moved on since (changed, renamed or removed the file), that
object would pass for somebody else's work. A row says what we were about to do; it decides nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mountsync.model.entry import Entry, Kind
from mountsync.paths import from_bytes, to_bytes
from mountsync.state.database import Database, Row
from mountsync.state.tree import NodeId

_KINDS: Final = (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK)
_COLUMNS: Final = "parent, name, node, generation, kind, size, mtime_ns, mode, target, old_parent, old_name"


@dataclass(frozen=True, slots=True)
class Attempt:
    """Something to be put, made or moved to a place of the remote.

    `entry` is the local side of it: no digest, no token. `old` is the place in the base of what is moved.
    """

    parent: NodeId
    name: bytes
    node: NodeId
    generation: int
    entry: Entry
    old: tuple[NodeId, bytes] | None = None


def _attempt(row: Row) -> Attempt:
    parent, name, node, generation, kind, size, mtime, mode, target, old_parent, old_name = row
    entry = Entry(
        kind=_KINDS[kind],
        size=size,
        mtime_ns=mtime,
        mode=mode,
        target=None if target is None else from_bytes(target),
    )
    old = None if old_parent is None else (NodeId(old_parent), old_name)
    return Attempt(NodeId(parent), name, NodeId(node), generation, entry, old)


class Attempts:
    """Reads and writes the rows. Writing needs an open transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def at(self, parent: int, name: bytes) -> list[Attempt]:
        """What was begun at a place, since its outcome was last known."""
        found = self._db.rows(f"SELECT {_COLUMNS} FROM attempt WHERE parent = ? AND name = ?", (parent, name))
        return [_attempt(row) for row in found]

    def any(self) -> bool:
        """Whether there is a row."""
        return self._db.row("SELECT 1 FROM attempt LIMIT 1") is not None

    def clear(self) -> None:
        """Records that nothing is unknown."""
        self._db.execute("DELETE FROM attempt")

    def put(self, attempt: Attempt) -> None:
        """Records that it is about to begin."""
        entry, old = attempt.entry, attempt.old or (None, None)
        self._db.execute(
            f"INSERT OR REPLACE INTO attempt ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?)",
            (
                attempt.parent,
                attempt.name,
                attempt.node,
                attempt.generation,
                _KINDS.index(entry.kind),
                entry.size,
                entry.mtime_ns,
                entry.mode,
                None if entry.target is None else to_bytes(entry.target),
                *old,
            ),
        )

    def remove(self, parent: int, name: bytes) -> None:
        """Records that it is known what the remote has at a place."""
        self._db.execute("DELETE FROM attempt WHERE parent = ? AND name = ?", (parent, name))
