"""Reads one version of one file of the local disk."""

from __future__ import annotations

import os
import stat
import time
from typing import Final

import trio

from mountsync.errors import IsADirectory, Stale, Unsupported
from mountsync.model.entry import Token
from mountsync.paths import RelPath
from mountsync.storage.api import Expect, Into
from mountsync.storage.local_root import LocalRoot, existing, naming, size_in, token_of

PIECE: Final = 1 << 20
"""Bytes read in one thread hop."""
_POURED: Final = 1 << 18
"""Bytes that are given away at once: they stay in a processor's own cache."""
_HOP: Final = 0.05
"""Seconds after which a hop ends that gives away what it reads."""


class Opened:
    """One version of one file, open for reading. Synchronous: for threads; call `close`."""

    def __init__(self, root: LocalRoot, path: RelPath, expect: Expect) -> None:
        """Raises NotFound, IsADirectory, Unsupported (not a regular file) or Stale."""
        self._path = path
        with naming(path, lookup=True), root.parent(path) as (parent, name):
            found = existing(parent, name, path, None)
            _refuse_unreadable(found, path)
            # O_NONBLOCK: should the name have become a FIFO meanwhile, opening it must not wait.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            self.fd = os.open(name, flags, dir_fd=parent)
        try:
            self._begin(os.fstat(self.fd), expect)
        except BaseException:
            self.close()
            raise

    def _begin(self, found: os.stat_result, expect: Expect) -> None:
        _refuse_unreadable(found, self._path)
        self.size = found.st_size
        self.mtime_ns = found.st_mtime_ns
        self.mode = found.st_mode & 0o7777
        self._token: Token = token_of(found)
        if expect is not None and expect != self._token:
            raise Stale("it is not the version that was expected", path=self._path)

    def end(self, offset: int, length: int | None) -> int:
        """Where a read of `length` bytes from `offset` ends."""
        return self.size if length is None else min(self.size, offset + length)

    def insist(self) -> None:
        """Raises Stale when the file was changed in place since it was opened."""
        with naming(self._path):
            if token_of(os.fstat(self.fd)) != self._token:
                raise Stale("it was changed while it was read", path=self._path)

    def piece(self, offset: int, length: int) -> bytes:
        """Bytes of the version that was opened. Raises Stale."""
        with naming(self._path):
            data = os.pread(self.fd, length, offset)
        self.insist()
        return data

    def piece_into(self, offset: int, buffer: memoryview) -> int:
        """The same, into memory that is there; returns how many bytes came."""
        with naming(self._path):
            count = os.preadv(self.fd, [buffer], offset)
        self.insist()
        return count

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self.fd)


def whole_of(opened: Opened, path: RelPath) -> bytes:
    """All of a small file, which is closed afterwards. Raises Stale."""
    try:
        data = opened.piece(0, opened.size)
    finally:
        opened.close()
    if len(data) != opened.size:
        raise Stale("it became shorter while it was read", path=path)
    return data


class SmallSource:
    """A small file, of a version that is known, that is opened and read when its body is needed."""

    def __init__(self, root: LocalRoot, path: RelPath, token: Token, threads: trio.CapacityLimiter) -> None:
        self._root = root
        self._path = path
        self._token = token
        self._threads = threads
        self._data: bytes | None = None

    @property
    def size(self) -> int:
        return size_in(self._token)

    def load(self) -> bytes:
        """As `LoadsAtOnce.load`."""
        if self._data is None:
            self._data = whole_of(Opened(self._root, self._path, self._token), self._path)
        return self._data

    async def read(self, offset: int, length: int) -> bytes:
        data = self._data
        if data is None:
            data = await trio.to_thread.run_sync(self.load, limiter=self._threads)
        return data[offset : offset + length]

    def still(self) -> bool:
        """What was read is in memory, whatever becomes of the file."""
        return True


class OpenedSource:
    """An opened file as the body of a write somewhere else; the kernel can copy from its descriptor."""

    def __init__(self, opened: Opened, threads: trio.CapacityLimiter) -> None:
        self._opened = opened
        self._threads = threads

    @property
    def size(self) -> int:
        return self._opened.size

    def fileno(self) -> int:
        """The descriptor, which stays open as long as the source is in use."""
        return self._opened.fd

    async def read(self, offset: int, length: int) -> bytes:
        wanted = max(0, min(length, self.size - offset))
        data = await trio.to_thread.run_sync(self._opened.piece, offset, wanted, limiter=self._threads)
        if len(data) != wanted:
            raise Stale("it became shorter while it was read")
        return data

    async def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills `buffer` as far as one read does; returns how many bytes came."""
        return await trio.to_thread.run_sync(self._opened.piece_into, offset, buffer, limiter=self._threads)

    def still(self) -> bool:
        try:
            self._opened.insist()
        except Stale:
            return False
        return True


def _refuse_unreadable(found: os.stat_result, path: RelPath) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectory("it is a directory", path=path)
    if not stat.S_ISREG(found.st_mode):
        raise Unsupported("it is a symbolic link and has no content", path=path)


class Pieces:
    """Reads a range in threads, piece by piece."""

    def __init__(self, opened: Opened, offset: int, end: int, threads: trio.CapacityLimiter) -> None:
        self._opened = opened
        self._offset = offset
        self._end = end
        self._threads = threads

    def __aiter__(self) -> Pieces:
        return self

    async def __anext__(self) -> bytes:
        if self._offset >= self._end:
            raise StopAsyncIteration
        wanted = min(PIECE, self._end - self._offset)
        data = await trio.to_thread.run_sync(self._opened.piece, self._offset, wanted, limiter=self._threads)
        self._offset += len(data)
        if not data:
            raise Stale("it became shorter while it was read")
        return data


class Pouring:
    """Gives a range away in threads, and counts it: as much in one hop as comes in little time."""

    def __init__(
        self, opened: Opened, into: Into, offset: int, end: int, threads: trio.CapacityLimiter
    ) -> None:
        self._opened = opened
        self._into = into
        self._offset = offset
        self._end = end
        self._threads = threads
        self._buffer = memoryview(bytearray(_POURED))

    def __aiter__(self) -> Pouring:
        return self

    async def __anext__(self) -> int:
        if self._offset >= self._end:
            raise StopAsyncIteration
        return await trio.to_thread.run_sync(self._pour, limiter=self._threads)

    def _pour(self) -> int:
        began, start = time.monotonic(), self._offset
        while self._offset < self._end and time.monotonic() - began < _HOP:
            part = self._buffer[: self._end - self._offset]
            count = self._opened.piece_into(self._offset, part)
            if not count:
                raise Stale("it became shorter while it was read")
            self._into(part[:count], self._offset)
            self._offset += count
        return self._offset - start
