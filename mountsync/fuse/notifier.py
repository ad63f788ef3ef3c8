"""Tells the kernel what changed behind its back, from a thread of its own.

The calls may wait for locks that a request of ours holds, so they must never run on the loop.
"""

from __future__ import annotations

import logging
import queue
import threading
from typing import Final, TypeAlias

import pyfuse3

from mountsync.fuse.herald import MOST_WAITING, Deed, Herald, News
from mountsync.state.tree import Node, NodeId, Tree

_log = logging.getLogger(__name__)
_Message: TypeAlias = tuple[str, int, bytes, int] | Deed | None
_JOIN_S: Final = 2.0


class FuseNotifier:
    """A `KernelNotifier`. What it is told before `start` and after `stop` needs no telling."""

    def __init__(self) -> None:
        self._messages: queue.SimpleQueue[_Message] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._herald: Herald | None = None
        self._tree: Tree | None = None

    def start(self, tree: Tree, herald: Herald | None) -> None:
        """Begins to tell; the mount must be served. Without a herald watchers hear of nothing."""
        self._tree = tree
        self._herald = herald
        if herald is not None:
            herald.start()
        self._thread = threading.Thread(target=self._run, name="kernel notifier", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread. Call it after the mount is gone: then no call can be waiting in the kernel."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._messages.put(None)
            thread.join(_JOIN_S)
        if self._herald is not None:
            self._herald.stop()

    def entry_appeared(self, parent: NodeId, name: bytes) -> None:
        """A name that the kernel may remember as missing exists now."""
        self._send("entry", parent, name)
        self._announce(parent, name, self._child(parent, name), News.APPEARED)

    def entry_changed(self, parent: NodeId, name: bytes) -> None:
        """A name leads to another node now."""
        self._send("entry", parent, name)
        self._announce(parent, name, self._child(parent, name), News.CHANGED)

    def entry_vanished(self, parent: NodeId, name: bytes, node: NodeId) -> None:
        """A name is gone; `node` is what it led to, which may live on under another name."""
        known = None if self._tree is None else self._tree.find(node)
        if known is not None and known.nlink:
            # Telling of its end would make the kernel take a directory that was moved for a dead one.
            self._send("entry", parent, name)
            return
        self._announce(parent, name, known, News.VANISHED)
        self._send("gone", parent, name, node)

    def attributes_changed(self, node: NodeId) -> None:
        """Attributes of a node changed, its content did not.

        With a writeback cache the kernel believes its own time of a file as long as it knows the file: so it
        is made to forget the names. Of one that is open it learns the time when that is over.
        """
        found = None if self._tree is None else self._tree.find(node)
        if self._tree is not None and found is not None and found.is_file:
            for parent, name in self._tree.names(node):
                self._send("entry", parent, name)
        self._send("attributes", node)

    def content_changed(self, node: NodeId) -> None:
        """Content of a node changed under the kernel's pages."""
        self._send("content", node)

    def _child(self, parent: NodeId, name: bytes) -> Node | None:
        return None if self._tree is None else self._tree.child(parent, name)

    def _announce(self, parent: NodeId, name: bytes, node: Node | None, news: News) -> None:
        if self._herald is None or self._thread is None or self._messages.qsize() > MOST_WAITING:
            return
        deed = None if node is None else self._herald.deed(parent, name, node, news)
        if deed is not None:
            self._messages.put(deed)

    def _send(self, what: str, node: int, name: bytes = b"", child: int = 0) -> None:
        if self._thread is not None:
            self._messages.put((what, node, name, child))

    def _run(self) -> None:
        while (message := self._messages.get()) is not None:
            try:
                if isinstance(message, Deed):
                    self._act(message)
                else:
                    _tell(*message)
            except OSError as error:
                # The kernel does not know the inode or the name, or the mount is gone: nothing to forget.
                _log.debug("the kernel had nothing to forget: %s", error)

    def _act(self, deed: Deed) -> None:
        if self._herald is not None:
            self._herald.act(deed)


def _tell(what: str, node: int, name: bytes, child: int) -> None:
    if what == "attributes":
        pyfuse3.invalidate_inode(node, attr_only=True)
    elif what == "content":
        pyfuse3.invalidate_inode(node, attr_only=False)
    elif what == "entry":
        pyfuse3.invalidate_entry(node, name)
        pyfuse3.invalidate_inode(node, attr_only=True)
    else:
        _tell_gone(node, name, child)
        pyfuse3.invalidate_inode(node, attr_only=True)


def _tell_gone(parent: int, name: bytes, child: int) -> None:
    try:
        pyfuse3.invalidate_entry(parent, name, child)
    except FileNotFoundError:
        return
    except OSError:
        # In use (a working directory, a mount point) or another inode by now: forget the name at least.
        pyfuse3.invalidate_entry(parent, name)
