"""What a start does with what the last process left. Called once, before anything else uses the volume."""

from __future__ import annotations

import stat
from dataclasses import dataclass, field
from typing import Final

from mountsync.content.store import Store
from mountsync.model.entry import Problem
from mountsync.state.base import Base
from mountsync.state.database import Database
from mountsync.state.journal import Journal
from mountsync.state.tree import ROOT_ID, Node, NodeId, Place, Tree

LOST: Final = b"lost+found"


@dataclass(slots=True)
class Recovered:
    """What was found and done. `problems`: by path of bytes, files whose local content is gone."""

    settled: int = 0
    """Files that were being changed in place: they are ready to be uploaded as they are now."""
    orphans: int = 0
    """Files without a name that were open when the process died."""
    strays: int = 0
    """Content files that nothing names."""
    misplaced: int = 0
    """Agreements in directories that have no place any more: what an earlier version left."""
    unnoted: int = 0
    """Removals and replacements that an earlier version lost sight of: they are pending again."""
    suspects: list[bytes] = field(default_factory=list)
    """Files whose last bytes may be missing because the power failed before they were safe."""
    problems: dict[bytes, Problem] = field(default_factory=dict)


def recover(
    database: Database, tree: Tree, journal: Journal, store: Store, *, now_ns: int, boot: str
) -> Recovered:
    """Makes rows and content files agree again; one ordered commit, then removal of strays.

    `boot` is the boot id of the running system: under the one of the last start, bytes that a dead
    process wrote are still there; under another one, only what a barrier made safe is believed.
    """
    found = Recovered()
    power_failed = database.setting("boot") not in (None, boot) and database.setting("clean") != 1
    with database.transaction:
        if power_failed:
            _believe_only_barriers(database, tree, journal, store, found, now_ns)
        _settle_touched(database, tree, journal, store, found, now_ns)
        _bury_orphans(database, tree, found)
        _missing_contents(database, tree, journal, store, found, now_ns)
        _mend_agreed(Base(database), tree, journal, found, now_ns)
        database.set_setting("boot", boot)
        database.set_setting("clean", 0)
    _remove_strays(database, store, found)
    return found


def mark_clean(database: Database) -> None:
    """Records an orderly stop; the last thing before the database is closed."""
    with database.transaction:
        database.set_setting("clean", 1)


def _believe_only_barriers(
    database: Database, tree: Tree, journal: Journal, store: Store, found: Recovered, now_ns: int
) -> None:
    database.execute("DELETE FROM present WHERE barrier = 0")
    for (node_id,) in database.rows("SELECT node FROM unsynced"):
        node = tree.find(node_id)
        if node is not None and node.place == Place.FILE:
            _doubt(database, tree, journal, store, found, node, now_ns)
    database.execute("DELETE FROM unsynced")


def _doubt(
    database: Database,
    tree: Tree,
    journal: Journal,
    store: Store,
    found: Recovered,
    node: Node,
    now_ns: int,
) -> None:
    """Bytes of the content file may be missing: fetch a clean one again, take the last safe dirty one."""
    if not journal.has(node.id):
        node.place = Place.NOWHERE
        tree.save(node)
        return
    blob = database.value("SELECT data FROM blob WHERE node = ?", (node.id,))
    if blob is not None:
        node.place, node.size = Place.BLOB, len(blob)
    else:
        node.size = store.size(node.id) or 0
    node.generation += 1
    tree.save(node)
    journal.note(node.id, now_ns)
    found.suspects.append(tree.path(node.id) or b"")


def _settle_touched(
    database: Database, tree: Tree, journal: Journal, store: Store, found: Recovered, now_ns: int
) -> None:
    for (node_id,) in database.rows("SELECT node FROM journal WHERE ready = 0"):
        node = tree.find(node_id)
        if node is not None and node.is_file:
            if node.place == Place.FILE:
                node.size = store.size(node_id) or 0
                node.mtime_ns = node.ctime_ns = max(node.mtime_ns, now_ns)
            node.generation += 1
            tree.save(node)
        journal.note(node_id, now_ns)
        found.settled += 1


def _bury_orphans(database: Database, tree: Tree, found: Recovered) -> None:
    for (node_id,) in database.rows("SELECT id FROM node WHERE nlink <= 0"):
        tree.remove(node_id)
        database.execute("DELETE FROM unsynced WHERE node = ?", (node_id,))
        found.orphans += 1


def _missing_contents(
    database: Database, tree: Tree, journal: Journal, store: Store, found: Recovered, now_ns: int
) -> None:
    rows = database.rows("SELECT id FROM node WHERE place IN (2, 3) AND mode & 61440 = 32768")
    for (node_id,) in rows:
        if store.size(node_id) is not None:
            continue
        node = tree.node(node_id)
        if journal.has(node_id):
            _lose(database, tree, found, node, now_ns)
        else:
            database.execute("DELETE FROM present WHERE node = ?", (node_id,))
            node.place = Place.NOWHERE
            tree.save(node)


def _mend_agreed(base: Base, tree: Tree, journal: Journal, found: Recovered, now_ns: int) -> None:
    """What no cycle would ever come upon; a removed directory would wait for it for ever."""
    while misplaced := base.misplaced():  # what is agreed in them has no place then either
        for parent, name, node in misplaced:
            base.remove(parent, name)
            if tree.names(node) and not journal.has(node):
                journal.note(node, now_ns)
        found.misplaced += len(misplaced)
    for _, _, node in base.unnoted():
        journal.note(node, now_ns)
        found.unnoted += 1


def _lose(database: Database, tree: Tree, found: Recovered, node: Node, now_ns: int) -> None:
    """The only copy of a changed content is gone: its names move to `lost+found` and nothing travels."""
    folder = _lost_folder(tree, now_ns)
    names = tree.names(node.id)
    path = tree.path(node.id) or b"%d" % node.id
    for parent, name in names:
        tree.unlink(parent, name)
    tree.link(folder, b"%d" % node.id, node.id)
    database.execute("DELETE FROM present WHERE node = ?", (node.id,))
    database.execute("DELETE FROM journal WHERE node = ?", (node.id,))
    node.place, node.size, node.nlink = Place.BLOB, 0, 1
    tree.save(node)
    found.problems[path] = Problem("its local content is gone", transient=False, error="Corrupt")


def _lost_folder(tree: Tree, now_ns: int) -> NodeId:
    known = tree.child_id(ROOT_ID, LOST)
    if known is not None:
        return known
    root = tree.node(ROOT_ID)
    mode, now = stat.S_IFDIR | 0o700, now_ns
    node = Node(tree.new_id(), mode, root.uid, root.gid, 0, 2, 0, now, now, now, 0, 0, None, 1)
    tree.insert(node)
    tree.link(ROOT_ID, LOST, node.id)
    root.nlink += 1
    tree.save(root)
    return node.id


def _remove_strays(database: Database, store: Store, found: Recovered) -> None:
    named = {row[0] for row in database.rows("SELECT id FROM node WHERE place IN (2, 3)")}
    for content_id in list(store.ids()):
        if content_id not in named:
            store.remove(content_id)
            found.strays += 1
