"""Attributes in the form that the kernel takes, made once per node and used until they change."""

from __future__ import annotations

from typing import Final

import pyfuse3

from mountsync.state.tree import Node
from mountsync.vfs.volume import Volume

TIMEOUT_S: Final = 86_400.0
"""How long the kernel may believe what it was told: every change goes through us or is announced."""


def prepare(volume: Volume, node: Node) -> pyfuse3.EntryAttributes:
    """Attributes of a node; kept in `node.prepared`, which every change sets to None."""
    made = pyfuse3.EntryAttributes()
    made.st_ino = pyfuse3.InodeT(node.id)
    made.entry_timeout = TIMEOUT_S
    made.attr_timeout = TIMEOUT_S
    made.st_mode = pyfuse3.ModeT(node.mode)
    made.st_nlink = node.nlink
    made.st_uid = node.uid
    made.st_gid = node.gid
    made.st_rdev = node.rdev
    made.st_size = node.size
    made.st_blocks = volume.blocks(node)
    made.st_atime_ns = node.atime_ns
    made.st_mtime_ns = node.mtime_ns
    made.st_ctime_ns = node.ctime_ns
    node.prepared = made
    return made


def absent() -> pyfuse3.EntryAttributes:
    """The answer "there is no such name", which the kernel remembers."""
    made = pyfuse3.EntryAttributes()
    made.st_ino = pyfuse3.InodeT(0)
    made.entry_timeout = TIMEOUT_S
    return made
