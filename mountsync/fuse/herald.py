"""Makes watchers of the mounted folder (inotify) hear of what came from the remote.

The kernel tells watchers only of what programs do. So a thread of ours acts as one: for a name that
appeared it makes that name, for a file with another content it opens it for writing and closes it, and a
name that vanished it removes. The handlers know the thread by its id: to it alone the name is absent
until it makes it, "making" it gives the node that is there already, and "removing" it does nothing.
Nothing is ever changed by this, and every refusal (no permission, somebody was faster) only means that
nobody hears of it.

A thread that waits for an answer of its own process cannot be killed, and as long as it lives its
descriptors are open. Had it the one that leads to the kernel, a killed mount would hang for ever, with
every program that asks it, instead of being gone. So the thread has a table of descriptors of its own.
"""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from mountsync.fuse.descriptors import leave_descriptors
from mountsync.state.tree import Node, NodeId

_log = logging.getLogger(__name__)
MOST_WAITING: Final = 2000
"""Announcements in line beyond which more are dropped: a whole tree changed, and watchers look anew."""


class News(Enum):
    """What happened to a name."""

    APPEARED = "appeared"
    CHANGED = "changed"
    VANISHED = "vanished"


@dataclass(frozen=True, slots=True)
class Deed:
    """What the thread is to act: `name` in `parent`, at this path on the machine, of this type of file."""

    parent: NodeId
    name: bytes
    path: bytes
    kind: int
    news: News


class Herald:
    """The acting side (`act`, by its own thread) and what the handlers ask of it (`is_mine`, on the loop)."""

    def __init__(self, mountpoint: str, path_of: Callable[[int], bytes | None]) -> None:
        self._root = os.fsencode(mountpoint)
        self._path_of = path_of
        self._thread = -1
        self._acting: tuple[int, bytes, News] | None = None
        self._deeds: queue.SimpleQueue[Deed | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._runs = False

    def start(self) -> None:
        """Starts the thread. Where it can have no descriptors of its own, watchers hear of nothing."""
        threading.Thread(target=self._live, name="herald", daemon=True).start()
        self._runs = self._done.get()

    def stop(self) -> None:
        """Ends the thread; it may still wait for an answer."""
        self._runs = False
        self._deeds.put(None)

    def _live(self) -> None:
        try:
            leave_descriptors()
        except OSError as error:
            _log.warning("programs that watch the folder do not hear of the remote's changes: %s", error)
            self._done.put(False)
            return
        self._thread = threading.get_native_id()
        self._done.put(True)
        while (deed := self._deeds.get()) is not None:
            # Refused or overtaken: nobody hears of it, and nothing else is lost.
            with contextlib.suppress(OSError):
                _PLAY[deed.news](deed)
            self._done.put(True)

    def deed(self, parent: NodeId, name: bytes, node: Node, news: News) -> Deed | None:
        """The deed that announces a node; None when it cannot be announced. On the loop."""
        above = self._path_of(parent)
        kind = stat.S_IFMT(node.mode)
        if above is None or kind not in (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK):
            return None
        path = b"/".join(part for part in (self._root, above, name) if part)
        return Deed(parent, name, path, kind, news)

    def is_mine(self, thread: int) -> bool:
        """Whether a request comes from the acting thread."""
        return thread == self._thread

    def is_acting(self, parent: int, name: bytes, news: News) -> bool:
        """Whether that thread is acting this at this moment."""
        return self._acting == (parent, name, news)

    def act(self, deed: Deed) -> None:
        """Has it done; returns when it is. Waits for the mount's own answers: not for the loop."""
        if self._runs:
            self._acting = (deed.parent, deed.name, deed.news)
            self._deeds.put(deed)
            self._done.get()
            self._acting = None


def _make(deed: Deed) -> None:
    if deed.kind == stat.S_IFDIR:
        os.mkdir(deed.path)
    elif deed.kind == stat.S_IFLNK:
        os.symlink(b"-", deed.path)
    else:
        os.mknod(deed.path)


def _touch(deed: Deed) -> None:
    if deed.kind == stat.S_IFREG:
        os.close(os.open(deed.path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK))


def _remove(deed: Deed) -> None:
    if deed.kind == stat.S_IFDIR:
        os.rmdir(deed.path)
    else:
        os.unlink(deed.path)


_PLAY: Final = {News.APPEARED: _make, News.CHANGED: _touch, News.VANISHED: _remove}
