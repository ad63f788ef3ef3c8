"""What both sides last agreed on, as a tree of its own.

A row sits at (id of the directory, name) as the remote has it; `node` and `generation` name the local
state that agreed. A directory that was renamed on both sides is one changed row, whatever it holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mountsync.model.entry import Digest, Entry, Kind, Token
from mountsync.paths import from_bytes, to_bytes
from mountsync.state.database import Database, Row
from mountsync.state.tree import ROOT_ID, NodeId

_IN_DIRECTORY: Final = "SELECT node FROM base WHERE parent = ?"
_MISPLACED: Final = (
    "SELECT parent, name, node FROM base WHERE parent IN"
    f" (SELECT parent FROM base EXCEPT SELECT {ROOT_ID} EXCEPT SELECT node FROM base WHERE kind = 1)"
)
_UNNOTED: Final = (
    "SELECT b.parent, b.name, b.node FROM"
    " (SELECT parent, name, node FROM base EXCEPT SELECT parent, name, node FROM dentry) b"
    " WHERE NOT EXISTS (SELECT 1 FROM journal j WHERE j.node = b.node)"
    " AND (EXISTS (SELECT 1 FROM dentry d WHERE d.parent = b.parent AND d.name = b.name)"
    " OR NOT EXISTS (SELECT 1 FROM node n WHERE n.id = b.parent))"
)
"""Both read whole tables, and no more: a join takes ten times as long."""
_KINDS: Final = (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK)
_COLUMNS: Final = (
    "parent, name, node, generation, kind, size, mtime_ns, mode, local_mtime_ns, local_mode,"
    " digest, token, target"
)


@dataclass(frozen=True, slots=True)
class BaseRow:
    """One row of table `base`. `remote` is the entry as the remote reported it, digest included."""

    parent: NodeId
    name: bytes
    node: NodeId
    generation: int
    remote: Entry
    local_mtime_ns: int | None
    local_mode: int | None


def _row(found: Row) -> BaseRow:
    parent, name, node, generation, kind, size, mtime, mode, l_mtime, l_mode, digest, token, target = found
    remote = Entry(
        kind=_KINDS[kind],
        size=size,
        mtime_ns=mtime,
        mode=mode,
        digest=None if digest is None else Digest(digest.hex()),
        token=None if token is None else Token(token),
        target=None if target is None else from_bytes(target),
    )
    return BaseRow(NodeId(parent), name, NodeId(node), generation, remote, l_mtime, l_mode)


class Base:
    """Reads and writes the base. Writing needs an open transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def find(self, parent: int, name: bytes) -> BaseRow | None:
        """What was agreed at a place, None when nothing was."""
        found = self._db.row(f"SELECT {_COLUMNS} FROM base WHERE parent = ? AND name = ?", (parent, name))
        return None if found is None else _row(found)

    def of_node(self, node_id: int) -> list[BaseRow]:
        """Every place at which this node was agreed: one, several for hard links, none when it is new."""
        found = self._db.rows(f"SELECT {_COLUMNS} FROM base WHERE node = ? ORDER BY parent, name", (node_id,))
        return [_row(row) for row in found]

    def knows(self, node_id: int) -> bool:
        """Whether this node was agreed anywhere."""
        return self._db.row("SELECT 1 FROM base WHERE node = ? LIMIT 1", (node_id,)) is not None

    def children(self, parent: int) -> list[BaseRow]:
        """All that was agreed in a directory, sorted by name."""
        found = self._db.rows(f"SELECT {_COLUMNS} FROM base WHERE parent = ? ORDER BY name", (parent,))
        return [_row(row) for row in found]

    def resolve(self, path: bytes) -> BaseRow | None:
        """What was agreed at a path of the remote, None when nothing was."""
        row: BaseRow | None = None
        parent = ROOT_ID
        for part in path.split(b"/"):
            row = self.find(parent, part)
            if row is None:
                return None
            parent = row.node
        return row

    def path(self, parent: int, name: bytes) -> bytes | None:
        """The remote's path of a row's place, None when its directory is not agreed any more."""
        parts = [name]
        while parent != ROOT_ID:
            above = self._db.row("SELECT parent, name FROM base WHERE node = ? LIMIT 1", (parent,))
            if above is None:
                return None
            parent = above[0]
            parts.append(above[1])
        return b"/".join(reversed(parts))

    def put(self, row: BaseRow) -> dict[NodeId, NodeId]:
        """Records an agreement at a place.

        Where one directory takes the place of another, the remote's directory is still the same one: what
        is agreed in it goes to the new id. Gives the ids that have no place any more, each with the one
        that has it now.
        """
        remote = row.remote
        heirs: dict[NodeId, NodeId] = {}
        if remote.kind is Kind.DIRECTORY:
            before = self.find(row.parent, row.name)
            if before is not None and before.node != row.node and before.remote.kind is Kind.DIRECTORY:
                self._bequeath(before.node, row.node, heirs)
        self._db.execute(
            f"INSERT OR REPLACE INTO base ({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                row.parent,
                row.name,
                row.node,
                row.generation,
                _KINDS.index(remote.kind),
                remote.size,
                remote.mtime_ns,
                remote.mode,
                row.local_mtime_ns,
                row.local_mode,
                None if remote.digest is None else bytes.fromhex(remote.digest),
                remote.token,
                None if remote.target is None else to_bytes(remote.target),
            ),
        )
        return heirs

    def _bequeath(self, old: NodeId, new: NodeId, heirs: dict[NodeId, NodeId]) -> None:
        """What is agreed in one directory is agreed in another; what is agreed there already, stays."""
        heirs[old] = new
        for row in self.children(old):
            there = self.find(new, row.name)
            if there is None:
                continue
            if there.node != row.node and there.remote.kind is row.remote.kind is Kind.DIRECTORY:
                self._bequeath(row.node, there.node, heirs)
            self.remove(old, row.name)
        self._db.execute("UPDATE base SET parent = ? WHERE parent = ?", (new, old))

    def remove(self, parent: int, name: bytes) -> None:
        """Records that neither side has anything at a place any more."""
        self._db.execute("DELETE FROM base WHERE parent = ? AND name = ?", (parent, name))

    def move(self, parent: int, name: bytes, new_parent: int, new_name: bytes) -> None:
        """Records that a place moved, with all that is below it."""
        self._db.execute("DELETE FROM base WHERE parent = ? AND name = ?", (new_parent, new_name))
        self._db.execute(
            "UPDATE base SET parent = ?, name = ? WHERE parent = ? AND name = ?",
            (new_parent, new_name, parent, name),
        )

    def split(self, node_id: int, stand_in: int) -> list[NodeId]:
        """Gives the remote's directory another id, because it cannot follow a rename here as a whole.

        What is agreed in it stays agreed, at places of `stand_in`: then each entry moved by itself. Gives the
        ids of those entries.
        """
        moved = [NodeId(row[0]) for row in self._db.rows(_IN_DIRECTORY, (node_id,))]
        self._db.execute("UPDATE base SET parent = ? WHERE parent = ?", (stand_in, node_id))
        self._db.execute("UPDATE base SET node = ? WHERE node = ?", (stand_in, node_id))
        return moved

    def has_children(self, node_id: int) -> bool:
        """Whether anything was agreed in a directory."""
        return self._db.row("SELECT 1 FROM base WHERE parent = ? LIMIT 1", (node_id,)) is not None

    def misplaced(self) -> list[tuple[NodeId, bytes, NodeId]]:
        """Parent, name and node of what is agreed in something that is no agreed directory.

        There must be none: no path of the remote leads there, and nobody would ever look at it.
        """
        return [(NodeId(parent), name, NodeId(node)) for parent, name, node in self._db.rows(_MISPLACED)]

    def unnoted(self) -> list[tuple[NodeId, bytes, NodeId]]:
        """The same of what has left its place here without a row in the journal.

        There must be none: something else is at that place, or its directory is gone, and it would never be
        sent.
        """
        return [(NodeId(parent), name, NodeId(node)) for parent, name, node in self._db.rows(_UNNOTED)]

    def count_shown(self, *, without: Kind | None = None) -> int:
        """How many places are agreed whose object still has a name here, counted no further than 2.

        Objects of the kind `without` do not count.
        """
        found = self._db.value(
            "SELECT count(*) FROM (SELECT 1 FROM base b WHERE b.kind <> ? AND EXISTS"
            " (SELECT 1 FROM dentry d WHERE d.node = b.node) LIMIT 2)",
            (-1 if without is None else _KINDS.index(without),),
        )
        return int(found)

    def count(self) -> int:
        """How many places are agreed."""
        return int(self._db.value("SELECT count(*) FROM base"))
