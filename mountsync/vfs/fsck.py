"""The invariants of the state, checked against the rows and the content files. Changes nothing."""

from __future__ import annotations

from collections.abc import Iterator

from mountsync.content.store import Store
from mountsync.state.base import Base
from mountsync.state.database import Database
from mountsync.state.tree import Place

_DIRECTORY = 0o040000
_FILE = 0o100000


def check(database: Database, store: Store) -> list[str]:
    """One sentence per broken invariant; empty when all is well. For a volume without open handles."""
    return [
        *_names(database),
        *_links(database),
        *_reachable(database),
        *_contents(database, store),
        *_agreed(database),
    ]


def _names(database: Database) -> Iterator[str]:
    for parent, name in database.rows(
        "SELECT d.parent, d.name FROM dentry d LEFT JOIN node p ON p.id = d.parent"
        " WHERE p.id IS NULL OR p.mode & 61440 <> ?",
        (_DIRECTORY,),
    ):
        yield f"name {name!r} lies in {parent}, which is not a directory"
    for name, node in database.rows(
        "SELECT d.name, d.node FROM dentry d LEFT JOIN node n ON n.id = d.node WHERE n.id IS NULL"
    ):
        yield f"name {name!r} leads to inode {node}, which does not exist"


def _links(database: Database) -> Iterator[str]:
    for node, nlink, names in database.rows(
        "SELECT n.id, n.nlink, (SELECT count(*) FROM dentry d WHERE d.node = n.id) AS c FROM node n"
        " WHERE n.mode & 61440 <> ? AND n.nlink <> c",
        (_DIRECTORY,),
    ):
        yield f"inode {node} says {nlink} links and has {names} names"
    for node, nlink, wanted in database.rows(
        "SELECT n.id, n.nlink, 2 + (SELECT count(*) FROM dentry d JOIN node c ON c.id = d.node"
        " WHERE d.parent = n.id AND c.mode & 61440 = ?1) AS w FROM node n"
        " WHERE n.mode & 61440 = ?1 AND n.nlink <> w",
        (_DIRECTORY,),
    ):
        yield f"directory {node} says {nlink} links instead of {wanted}"
    for (node,) in database.rows("SELECT id FROM node WHERE nlink <= 0"):
        yield f"inode {node} has no name"


def _reachable(database: Database) -> Iterator[str]:
    for (node,) in database.rows(
        "WITH RECURSIVE seen(id) AS"
        " (SELECT 1 UNION SELECT d.node FROM dentry d JOIN seen ON d.parent = seen.id)"
        " SELECT id FROM node WHERE id NOT IN seen"
    ):
        yield f"inode {node} cannot be reached from the root"
    for node, names in database.rows(
        "SELECT d.node, count(*) FROM dentry d JOIN node n ON n.id = d.node"
        " WHERE n.mode & 61440 = ? GROUP BY d.node HAVING count(*) > 1",
        (_DIRECTORY,),
    ):
        yield f"directory {node} has {names} names"


def _agreed(database: Database) -> Iterator[str]:
    base = Base(database)
    for parent, name, _ in base.misplaced():
        yield f"name {name!r} is agreed in {parent}, which is no agreed directory"
    for parent, name, node in base.unnoted():
        yield f"name {name!r} in {parent} is agreed as inode {node}, which has left it unnoticed"


def _contents(database: Database, store: Store) -> Iterator[str]:
    for node, size, length in database.rows(
        "SELECT n.id, n.size, coalesce(length(b.data), 0) AS l FROM node n LEFT JOIN blob b ON b.node = n.id"
        " WHERE n.place = 1 AND n.mode & 61440 = ? AND l <> n.size",
        (_FILE,),
    ):
        yield f"inode {node} has {size} bytes and a blob of {length}"
    named = set()
    for node, size, place in database.rows(
        "SELECT id, size, place FROM node WHERE place IN (2, 3) AND mode & 61440 = ?", (_FILE,)
    ):
        named.add(node)
        length = store.size(node)
        if length is None:
            yield f"inode {node} has no content file"
        elif place == Place.FILE and length != size:
            yield f"inode {node} has {size} bytes and a content file of {length}"
    for content in store.ids():
        if content not in named:
            yield f"content file {content} belongs to no inode"
    yield from _claims(database)


def _claims(database: Database) -> Iterator[str]:
    for node, start, stop in database.rows(
        "SELECT p.node, p.start, p.stop FROM present p LEFT JOIN node n ON n.id = p.node"
        " WHERE n.id IS NULL OR n.place <> 3 OR p.start >= p.stop OR p.stop > n.size"
    ):
        yield f"range [{start}, {stop}) of inode {node} is claimed wrongly"
    for table in ("blob", "xattr", "pin", "unsynced"):
        for (node,) in database.rows(
            f"SELECT t.node FROM {table} t LEFT JOIN node n ON n.id = t.node WHERE n.id IS NULL"
        ):
            yield f"table {table} has a row of inode {node}, which does not exist"
