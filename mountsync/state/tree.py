"""The mounted tree: nodes and the names that lead to them.

`Tree` keeps one `Node` object per id that is in use, so that everybody sees the same attributes; a
change is made on the object and written with `save` in the transaction of the operation that it
belongs to. Names are bytes here, because the kernel's are.
"""

from __future__ import annotations

import stat
from dataclasses import dataclass
from enum import IntEnum
from typing import Final, NewType

from mountsync.errors import Stale
from mountsync.state.database import Database, Row

NodeId = NewType("NodeId", int)
"""The inode number of a node; the root is 1. Stable over restarts."""

ROOT_ID: Final = NodeId(1)
_KEEP: Final = 20_000
"""Nodes kept in memory, about 300 bytes each."""


class Place(IntEnum):
    """Where the content of a file is."""

    NOWHERE = 0
    """On the remote only."""
    BLOB = 1
    """Complete, in the database."""
    FILE = 2
    """Complete, in a content file."""
    GAPS = 3
    """In a content file, only the ranges of table `present`."""


_COMPLETE: Final = (Place.BLOB, Place.FILE)


@dataclass(slots=True, eq=False)
class Node:
    """The image in memory of one row of table `node`; see schema.sql for the columns.

    `holds` counts who needs the object to stay (open handles, unsaved bytes); it is not stored.
    `prepared` is what the kernel's room made of the attributes, None when they changed since; not stored.
    """

    id: NodeId
    mode: int
    uid: int
    gid: int
    rdev: int
    nlink: int
    size: int
    mtime_ns: int
    ctime_ns: int
    atime_ns: int
    generation: int
    place: int
    target: bytes | None
    listed: int
    holds: int = 0
    prepared: object | None = None

    @property
    def is_directory(self) -> bool:
        return self.mode & 0o170000 == stat.S_IFDIR

    @property
    def is_file(self) -> bool:
        return self.mode & 0o170000 == stat.S_IFREG

    @property
    def is_symlink(self) -> bool:
        return self.mode & 0o170000 == stat.S_IFLNK

    @property
    def is_complete(self) -> bool:
        """Whether all bytes of a file are here."""
        return self.place in _COMPLETE


_COLUMNS: Final = (
    "n.id, n.mode, n.uid, n.gid, n.rdev, n.nlink, n.size, n.mtime_ns, n.ctime_ns, n.atime_ns,"
    " n.generation, n.place, n.target, n.listed"
)
_LOAD: Final = f"SELECT {_COLUMNS} FROM node n WHERE n.id = ?"
_CHILD: Final = "SELECT node FROM dentry WHERE parent = ? AND name = ?"
_CHILDREN: Final = (
    f"SELECT d.name, {_COLUMNS} FROM dentry d JOIN node n ON n.id = d.node WHERE d.parent = ? ORDER BY d.name"
)
_CHILDREN_AFTER: Final = (
    f"SELECT d.name, {_COLUMNS} FROM dentry d JOIN node n ON n.id = d.node"
    " WHERE d.parent = ? AND d.name > ? ORDER BY d.name LIMIT ?"
)
_SAVE: Final = (
    "UPDATE node SET mode=?, uid=?, gid=?, nlink=?, size=?, mtime_ns=?, ctime_ns=?, atime_ns=?,"
    " generation=?, place=?, listed=? WHERE id=?"
)


class Tree:
    """Reads and writes nodes and names. Writing needs an open transaction."""

    def __init__(self, database: Database) -> None:
        self._db = database
        self._nodes: dict[int, Node] = {}
        self._next_id = 1 + max(
            ROOT_ID,
            database.value("SELECT max(id) FROM node") or 0,
            database.value("SELECT max(node) FROM base") or 0,
            database.value("SELECT max(node) FROM journal") or 0,
            database.value("SELECT max(node) FROM attempt") or 0,
        )

    def new_id(self) -> NodeId:
        """An id that nothing remembers."""
        fresh = self._next_id
        self._next_id = fresh + 1
        return NodeId(fresh)

    def find(self, node_id: int) -> Node | None:
        """The node, None when there is none (any more)."""
        known = self._nodes.get(node_id)
        if known is not None:
            return known
        found = self._db.row(_LOAD, (node_id,))
        return None if found is None else self._adopt(found)

    def node(self, node_id: int) -> Node:
        """The node. Raises Stale when there is none (any more)."""
        known = self._nodes.get(node_id)
        if known is None:
            known = self.find(node_id)
            if known is None:
                raise Stale(f"inode {node_id} does not exist any more")
        return known

    def _adopt(self, row: Row) -> Node:
        node = self._nodes.get(row[0])
        if node is None:
            node = self._nodes[row[0]] = Node(*row)
            if len(self._nodes) > _KEEP:
                self._forget_some()
        return node

    def _forget_some(self) -> None:
        # Oldest first: dictionaries keep the order of insertion.
        idle = [key for key, node in self._nodes.items() if not node.holds][: _KEEP // 4]
        for key in idle:
            del self._nodes[key]

    def child_id(self, parent: int, name: bytes) -> NodeId | None:
        """The id behind a name, None when the name does not exist."""
        found = self._db.row(_CHILD, (parent, name))
        return None if found is None else found[0]

    def child(self, parent: int, name: bytes) -> Node | None:
        """The node behind a name, None when the name does not exist."""
        found = self._db.row(_CHILD, (parent, name))
        return None if found is None else self.node(found[0])

    def children(self, parent: int) -> list[tuple[bytes, Node]]:
        """All names in a directory with their nodes, sorted by name."""
        known = self._nodes
        found = self._db.rows(_CHILDREN, (parent,))
        return [(row[0], known.get(row[1]) or Node(*row[1:])) for row in found]

    def children_after(self, parent: int, name: bytes, limit: int) -> list[tuple[bytes, Node]]:
        """At most `limit` names after `name` in a directory with their nodes, sorted by name."""
        known = self._nodes
        found = self._db.rows(_CHILDREN_AFTER, (parent, name, limit))
        return [(row[0], known.get(row[1]) or Node(*row[1:])) for row in found]

    def child_names(self, parent: int) -> list[tuple[bytes, NodeId]]:
        """All names in a directory with their ids, sorted by name."""
        return self._db.rows("SELECT name, node FROM dentry WHERE parent = ? ORDER BY name", (parent,))

    def below(self, parent: int) -> list[NodeId]:
        """Every node below a directory, at any depth."""
        found = self._db.rows(
            "WITH RECURSIVE below(id) AS (SELECT node FROM dentry WHERE parent = ?"
            " UNION SELECT d.node FROM dentry d JOIN below b ON d.parent = b.id) SELECT id FROM below",
            (parent,),
        )
        return [row[0] for row in found]

    def has_children(self, parent: int) -> bool:
        """Whether a directory has any entry."""
        return self._db.row("SELECT 1 FROM dentry WHERE parent = ? LIMIT 1", (parent,)) is not None

    def names(self, node_id: int) -> list[tuple[NodeId, bytes]]:
        """Every (directory, name) that leads to a node; several for hard links, none when unlinked."""
        return self._db.rows(
            "SELECT parent, name FROM dentry WHERE node = ? ORDER BY parent, name", (node_id,)
        )

    def path(self, node_id: int) -> bytes | None:
        """A path from the root to the node (the first one of hard links), None when unlinked."""
        parts: list[bytes] = []
        while node_id != ROOT_ID:
            above = self._db.row(
                "SELECT parent, name FROM dentry WHERE node = ? ORDER BY parent, name LIMIT 1", (node_id,)
            )
            if above is None:
                return None
            node_id = above[0]
            parts.append(above[1])
        return b"/".join(reversed(parts))

    def resolve(self, path: bytes) -> NodeId | None:
        """The node at a path of bytes relative to the root, None when a part of it does not exist."""
        node_id = ROOT_ID
        for part in path.split(b"/") if path else ():
            below = self.child_id(node_id, part)
            if below is None:
                return None
            node_id = below
        return node_id

    def insert(self, node: Node) -> None:
        """Stores a new node."""
        self._db.execute(
            "INSERT INTO node VALUES (?,?,?,?,?,?,?,?,?,?,?,?,?,?)",
            (
                node.id,
                node.mode,
                node.uid,
                node.gid,
                node.rdev,
                node.nlink,
                node.size,
                node.mtime_ns,
                node.ctime_ns,
                node.atime_ns,
                node.generation,
                node.place,
                node.target,
                node.listed,
            ),
        )
        self._nodes[node.id] = node
        if len(self._nodes) > _KEEP:
            self._forget_some()
        self._db.on_rollback(lambda: self._nodes.pop(node.id, None))

    def save(self, node: Node) -> None:
        """Writes the attributes of a node."""
        node.prepared = None
        self._db.execute(
            _SAVE,
            (
                node.mode,
                node.uid,
                node.gid,
                node.nlink,
                node.size,
                node.mtime_ns,
                node.ctime_ns,
                node.atime_ns,
                node.generation,
                node.place,
                node.listed,
                node.id,
            ),
        )
        self._db.on_rollback(lambda: self.reload(node))

    def reload(self, node: Node) -> None:
        """Makes the object say again what the row says; after a rollback."""
        found = self._db.row(_LOAD, (node.id,))
        if found is None:
            return
        for field, value in zip(Node.__slots__, found, strict=False):
            setattr(node, field, value)
        node.prepared = None

    def remove(self, node_id: int) -> None:
        """Deletes a node with its blob, ranges and attributes (by a trigger); its names must be gone."""
        self._db.execute("DELETE FROM node WHERE id = ?", (node_id,))
        self._nodes.pop(node_id, None)

    def link(self, parent: int, name: bytes, node_id: int) -> None:
        """Adds a name, which must be free."""
        self._db.execute("INSERT INTO dentry VALUES (?, ?, ?)", (parent, name, node_id))

    def relink(self, parent: int, name: bytes, node_id: int) -> None:
        """Adds a name or lets it lead to another node."""
        self._db.execute("INSERT OR REPLACE INTO dentry VALUES (?, ?, ?)", (parent, name, node_id))

    def unlink(self, parent: int, name: bytes) -> None:
        """Takes a name away."""
        self._db.execute("DELETE FROM dentry WHERE parent = ? AND name = ?", (parent, name))

    def is_below(self, node_id: int, folder: int) -> bool:
        """Whether a directory is `folder` or lies below it."""
        while node_id != folder:
            if node_id == ROOT_ID:
                return False
            above = self._db.row("SELECT parent FROM dentry WHERE node = ? LIMIT 1", (node_id,))
            if above is None:
                return False
            node_id = above[0]
        return True

    def count(self) -> int:
        """How many nodes there are."""
        return int(self._db.value("SELECT count(*) FROM node"))
