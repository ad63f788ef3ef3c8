"""What a volume holds, as ordinary items for whoever copies it out. Changes nothing; for unmounted states."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mountsync.content.store import Store
from mountsync.state.database import Database
from mountsync.state.tree import ROOT_ID, Node, Place, Tree


@dataclass(frozen=True, slots=True)
class Item:
    """One name below the root. `link` is the same for all names of one file.

    `open` gives a new descriptor of the content; None for what has none here: directories, links, and
    files whose bytes are not all on this machine (`missing`).
    """

    path: bytes
    mode: int
    mtime_ns: int
    size: int = 0
    link: int = 0
    target: bytes | None = None
    open: Callable[[], int] | None = None
    missing: bool = False


def items(database: Database, store: Store) -> Iterator[Item]:
    """Everything in a state, parents first. A content that cannot be found counts as missing."""
    tree = Tree(database)
    waiting: list[tuple[bytes, int]] = [(b"", ROOT_ID)]
    while waiting:
        prefix, parent = waiting.pop()
        for name, node in tree.children(parent):
            path = prefix + name
            if node.is_directory:
                waiting.append((path + b"/", node.id))
            yield _item(path, node, database, store)


def _item(path: bytes, node: Node, database: Database, store: Store) -> Item:
    opener = _opener(node, database, store) if node.is_file else None
    return Item(
        path=path,
        mode=node.mode,
        mtime_ns=node.mtime_ns,
        size=node.size,
        link=node.id,
        target=node.target if node.is_symlink else None,
        open=opener,
        missing=node.is_file and opener is None,
    )


def _opener(node: Node, database: Database, store: Store) -> Callable[[], int] | None:
    if node.place == Place.BLOB:
        return lambda: _in_memory(database.value("SELECT data FROM blob WHERE node = ?", (node.id,)) or b"")
    if node.place == Place.FILE and store.size(node.id) == node.size:
        return lambda: store.open(node.id)
    return None


def _in_memory(data: bytes) -> int:
    fd = os.memfd_create("export", os.MFD_CLOEXEC)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def is_ordinary(item: Item) -> bool:
    """Whether it is a file, a directory or a link; FIFOs and devices stay where they are."""
    return stat.S_IFMT(item.mode) in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK)
