"""Hints of changes on the local disk, from the kernel's inotify.

Own and small because a lost event must become "look everywhere": the queue of the kernel can
overflow, and libraries that hide that make a sync miss changes until the next full scan. Nothing
polls: an idle watch costs nothing. Links are not followed. Changes that other machines make on a
network file system are not seen by inotify at all.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Final

import trio

from mountsync.errors import PathError, Unreachable, Unsupported, from_os_error
from mountsync.model.entry import Entry, Kind
from mountsync.paths import ROOT, RelPath, from_bytes, is_within, join
from mountsync.storage import syscalls
from mountsync.storage.local_root import LocalRoot
from mountsync.storage.local_temporary import is_temporary
from mountsync.storage.local_walk import walk

_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_DELETE_SELF, _MOVE_SELF, _UNMOUNT, _OVERFLOW, _IGNORED = 0x400, 0x800, 0x2000, 0x4000, 0x8000
_ONLYDIR, _EXCL_UNLINK, _ISDIR = 0x1000000, 0x4000000, 0x40000000
_MASK: Final = (
    _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _DELETE_SELF
    | _MOVE_SELF | _ONLYDIR | _EXCL_UNLINK
)  # fmt: skip
_HEADER: Final = struct.Struct("iIII")
_READ: Final = 1 << 18
_GATHER_S: Final = 0.03
"""Events are read at most that often: a hop to a thread for each file would cost more than the file."""
_GONE: Final = _DELETE_SELF | _MOVE_SELF | _UNMOUNT
_SKIPPED: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EACCES})


class Watcher:
    """The inotify watches of one tree. Synchronous, for threads; one thread at a time."""

    def __init__(self, root: LocalRoot) -> None:
        """Raises Busy when the user has too many watchers."""
        self._root = root
        self._folders: dict[int, RelPath] = {}
        self._hints: set[RelPath] = set()
        try:
            self.fd = syscalls.inotify_open()
        except OSError as error:
            raise from_os_error(error) from error

    def close(self) -> None:
        """Ends all watches."""
        os.close(self.fd)

    def begin(self) -> None:
        """Watches the whole tree. Raises Unsupported at the kernel's limit, Unreachable."""
        self._add_tree(ROOT)
        self._hints.clear()

    def collect(self) -> frozenset[RelPath]:
        """Paths that may have changed, from the events that wait; ROOT for "look everywhere"."""
        for number, mask, name in self._events():
            self._take(number, mask, name)
        hints, self._hints = frozenset(self._hints), set()
        return frozenset({ROOT}) if ROOT in hints else hints

    def _events(self) -> Iterator[tuple[int, int, str]]:
        try:
            data = os.read(self.fd, _READ)
        except BlockingIOError:
            return
        at = 0
        while at < len(data):
            number, mask, _, length = _HEADER.unpack_from(data, at)
            at += _HEADER.size + length
            yield number, mask, from_bytes(data[at - length : at].rstrip(b"\0"))

    def _take(self, number: int, mask: int, name: str) -> None:
        folder = ROOT if mask & _OVERFLOW else self._folders.get(number)
        if mask & _IGNORED:
            self._folders.pop(number, None)
        if folder is None or is_temporary(name):
            return
        if mask & _OVERFLOW:
            self._add_tree(ROOT)  # new folders may be among the lost events
            self._hints.add(ROOT)
        elif not name:
            self._take_own(folder, mask)
        else:
            self._take_child(join(folder, name), mask)

    def _take_own(self, folder: RelPath, mask: int) -> None:
        """An event of a watched folder itself. The root's attributes are nobody's business."""
        if folder:
            self._hints.add(folder)
        elif mask & _GONE:
            raise Unreachable("the watched root was moved, removed or unmounted")

    def _take_child(self, path: RelPath, mask: int) -> None:
        self._hints.add(path)
        if mask & _ISDIR and mask & _MOVED_FROM:
            self._forget(path)
        if mask & _ISDIR and mask & (_CREATE | _MOVED_TO):
            self._add_tree(path)

    def _add_tree(self, folder: RelPath) -> None:
        """Watches a folder and all below it, and hints at what is there already.

        Each folder is watched before it is listed, so that nothing falls between.
        """
        waiting = [folder]
        while waiting:
            at = waiting.pop()
            if self._add(at):
                waiting += self._subfolders(at)

    def _subfolders(self, folder: RelPath) -> list[RelPath]:
        found = []
        try:
            for batch in walk(self._root, folder, recursive=False):
                self._hints.update(path for path, _ in batch)
                found += [path for path, item in batch if is_directory(item)]
        except PathError:
            return found  # it went away again, and its parent has an event that tells
        return found

    def _add(self, folder: RelPath) -> bool:
        try:
            fd = self._root.open_directory(folder)
            try:
                number = syscalls.inotify_add(self.fd, b"/proc/self/fd/%d" % fd, _MASK)
            finally:
                os.close(fd)
        except OSError as error:
            if error.errno in _SKIPPED:
                return False  # gone again, or not ours to read: listings say so
            raise _refusal(error, folder) from error
        self._folders[number] = folder
        return True

    def _forget(self, folder: RelPath) -> None:
        """Drops the watches of a folder that was moved away; where it went, it is added as a new one."""
        for number in [number for number, path in self._folders.items() if is_within(path, folder)]:
            del self._folders[number]
            try:
                syscalls.inotify_remove(self.fd, number)
            except OSError as error:
                if error.errno != errno.EINVAL:  # EINVAL: it ended by itself
                    raise from_os_error(error, folder) from error


def is_directory(item: object) -> bool:
    """Whether an item of a listing is a directory."""
    return isinstance(item, Entry) and item.kind is Kind.DIRECTORY


def _refusal(error: OSError, folder: RelPath) -> Exception:
    if error.errno == errno.ENOSPC:
        return Unsupported(
            "the kernel's limit of inotify watches is reached",
            hint="raise fs.inotify.max_user_watches, or set watcher_interval",
        )
    return from_os_error(error, folder)


class _Hints:
    """Waits for events without a thread, and reads them in one. What follows soon is read together."""

    def __init__(self, watcher: Watcher, threads: trio.CapacityLimiter) -> None:
        self._watcher = watcher
        self._threads = threads
        self._not_before = trio.current_time()

    def __aiter__(self) -> _Hints:
        return self

    async def __anext__(self) -> frozenset[RelPath]:
        while True:
            await trio.sleep_until(self._not_before)
            await trio.lowlevel.wait_readable(self._watcher.fd)
            hints = await trio.to_thread.run_sync(self._watcher.collect, limiter=self._threads)
            self._not_before = trio.current_time() + _GATHER_S
            if hints:
                return hints


@asynccontextmanager
async def watch_tree(
    root: LocalRoot, threads: trio.CapacityLimiter
) -> AsyncIterator[AsyncIterator[frozenset[RelPath]]]:
    """As `SupportsWatch.watch`."""
    watcher = Watcher(root)
    try:
        await trio.to_thread.run_sync(watcher.begin, limiter=threads)
        yield _Hints(watcher, threads)
    finally:
        watcher.close()
