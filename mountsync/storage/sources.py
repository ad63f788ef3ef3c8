"""Bodies of uploads. All can be read again and in any order; those on disk are read in threads."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, Generic, Protocol, TypeVar, runtime_checkable

import trio

from mountsync.errors import Corrupt, Stale, from_os_error
from mountsync.model.entry import Entry
from mountsync.paths import RelPath
from mountsync.storage.api import Source, Storage, SupportsPour

T = TypeVar("T")

PIECE: Final = 1 << 20
"""Bytes read at once by whoever streams a source: large enough to hide a thread hop."""
_WINDOW: Final = 8 << 20
_STREAMS: Final = 4
"""So many tasks may read one body from front to back at once without reading anything twice."""
_LITTLE: Final = 1 << 16
"""Up to this size in bytes a thread costs more than the bytes, if they are in memory."""


class BytesSource:
    """A body that is in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    async def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]

    def still(self) -> bool:
        return True


class FileSource:
    """A body in a local file. It moved on when size, mtime or inode differ from those at opening.

    The descriptor is owned: call `close`, or use it as a context manager.
    """

    def __init__(self, path: str | bytes) -> None:
        """Raises the path's error when the file cannot be opened."""
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise from_os_error(error, os.fsdecode(path)) from error
        self._seen = self._look()

    def _look(self) -> tuple[int, int, int]:
        found = os.fstat(self._fd)
        return found.st_size, found.st_mtime_ns, found.st_ino

    def __enter__(self) -> FileSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives the descriptor back. Safe to call twice."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    @property
    def size(self) -> int:
        return self._seen[0]

    def fileno(self) -> int:
        """The descriptor, for a storage that can copy from it inside the kernel."""
        return self._fd

    async def read(self, offset: int, length: int) -> bytes:
        wanted = max(0, min(length, self.size - offset))
        data = _at_once(self._fd, wanted, offset) if wanted <= _LITTLE else None
        if data is None:
            data = await trio.to_thread.run_sync(os.pread, self._fd, wanted, offset)
        if len(data) != wanted:
            raise Stale("the file became shorter while it was read")
        return data

    async def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills `buffer` as far as one read does; returns how many bytes came, 0 at the end."""
        return await trio.to_thread.run_sync(os.preadv, self._fd, [buffer], offset)

    def still(self) -> bool:
        return self._look() == self._seen


class StorageSource:
    """A body in another storage: ranged reads that insist on the version that `entry` names.

    Whoever reads on where a read ended is given more than one piece of each request: a request costs
    several round trips, whatever its length.
    """

    def __init__(self, storage: Storage, path: RelPath, entry: Entry) -> None:
        self._storage = storage
        self._path = path
        self._entry = entry
        self._ahead: dict[int, memoryview] = {}
        """By the offset at which it begins, what was read beyond what was asked for."""
        self._ends: deque[int] = deque([0], maxlen=_STREAMS)
        """Where the latest reads ended."""
        if hasattr(storage, "pour"):
            self.pour = partial(_pour, storage, path, entry)  # a method of ours would hold us in a cycle

    @property
    def size(self) -> int:
        return self._entry.size

    async def read(self, offset: int, length: int) -> bytes:
        goes_on = offset in self._ends
        if goes_on:
            self._ends.remove(offset)
        self._ends.append(offset + length)
        held = self._ahead.pop(offset, None)
        if held is None and goes_on and length < _WINDOW:
            held = memoryview(await self._read(offset, _WINDOW - offset % _WINDOW))
        if held is None:
            return await self._read(offset, length)
        self._keep(offset + length, held[length:])
        missing = min(length, self.size - offset) - len(held)
        more = await self._read(offset + len(held), missing) if missing > 0 else b""
        return bytes(held[:length]) + more

    def _keep(self, offset: int, data: memoryview) -> None:
        if data:
            self._ahead[offset] = data
        while len(self._ahead) > _STREAMS:
            self._ahead.pop(next(iter(self._ahead)))

    async def _read(self, offset: int, length: int) -> bytes:
        return await read_range(self._storage, self._path, offset, length, size=self.size, entry=self._entry)

    @asynccontextmanager
    async def flow(self) -> AsyncIterator[AsyncIterator[bytes]]:
        """As `Flows.flow`."""
        async with self._storage.read(self._path, 0, self.size, expect=self._entry.token) as blocks:
            yield blocks

    def still(self) -> bool:
        return True


@asynccontextmanager
async def _pour(
    storage: Storage, path: RelPath, entry: Entry, basin: Basin
) -> AsyncIterator[AsyncIterator[int]]:
    """As `Pours.pour`."""
    assert isinstance(storage, SupportsPour)
    async with storage.pour(path, basin.put_at, 0, entry.size, expect=entry.token) as counts:
        yield counts


async def read_range(
    storage: Storage, path: RelPath, offset: int, length: int, *, size: int, entry: Entry
) -> bytes:
    """Exactly the bytes of `[offset, offset + length)` that lie within `size`.

    Raises Corrupt when the storage gives fewer, Stale when the object is not `entry` any more.
    """
    wanted = max(0, min(length, size - offset))
    async with storage.read(path, offset, wanted, expect=entry.token) as blocks:
        pieces = [block async for block in blocks]
    data = b"".join(pieces)
    if len(data) != wanted:
        raise Corrupt(f"{len(data)} bytes came where {wanted} were expected", path=path)
    return data


class LoadsAtOnce(Protocol):
    """A small source whose whole body a thread can read in one go, in the step in which it needs it.

    What wraps such a source has `load` too, or reads it as any other.
    """

    def load(self) -> bytes:
        """The body. Blocks: for threads, one at a time. Raises what reading raises, and Stale."""
        ...


@runtime_checkable
class Flows(Protocol):
    """A source that comes quicker, and in less memory, from front to back: more is on its way meanwhile."""

    def flow(self) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """The whole body in pieces, for one task. What ends early was cut off: count what comes."""
        ...


class Basin(Protocol):
    """What a body is poured into. Both may block, and are for threads; they raise MountsyncError."""

    def put_at(self, data: memoryview, offset: int) -> None:
        """Puts bytes where they belong, in any order."""
        ...

    def get_at(self, buffer: memoryview, offset: int) -> None:
        """Fills `buffer` with bytes that were put."""
        ...


@runtime_checkable
class Pours(Protocol):
    """A source that comes quickest when it puts its bytes where they belong by itself."""

    @property
    def size(self) -> int:
        """As `Source.size`."""
        ...

    def pour(self, basin: Basin) -> AbstractAsyncContextManager[AsyncIterator[int]]:
        """The whole body, as `SupportsPour.pour` has it. What ends early was cut off: count what comes."""
        ...


@runtime_checkable
class ReadsInto(Protocol):
    """A source that needs no new memory for what it reads."""

    async def read_into(self, offset: int, buffer: memoryview) -> int:
        """Fills `buffer` as far as one read does; returns how many bytes came, 0 at the end."""
        ...


async def fill(source: Source, offset: int, buffer: memoryview) -> None:
    """Puts the bytes from `offset` into the whole of `buffer`. Raises Stale when there are not so many."""
    into = source if isinstance(source, ReadsInto) else None
    done = 0
    while done < len(buffer):
        if into is not None:
            count = await into.read_into(offset + done, buffer[done:])
        else:
            data = await source.read(offset + done, min(PIECE, len(buffer) - done))
            count = len(data)
            buffer[done : done + count] = data
        if not count:
            raise Stale("the source ended early")
        done += count


def _at_once(descriptor: int, length: int, offset: int) -> bytes | None:
    """The bytes if the kernel has them in memory; None when they must be waited for, or it cannot tell."""
    buffer = bytearray(length)
    try:
        count = os.preadv(descriptor, [buffer], offset, os.RWF_NOWAIT)
    except OSError:
        return None
    return bytes(buffer) if count == length else None


class PieceReader:
    """Iterates over a source from front to back in pieces of `PIECE` bytes."""

    def __init__(self, source: Source, piece: int = PIECE) -> None:
        self._source = source
        self._piece = piece
        self._offset = 0

    def __aiter__(self) -> PieceReader:
        return self

    async def __anext__(self) -> bytes:
        if self._offset >= self._source.size:
            raise StopAsyncIteration
        data = await self._source.read(self._offset, self._piece)
        if not data:
            raise Stale("the source ended early")
        self._offset += len(data)
        return data


class Overheard(Generic[T]):
    """Pieces on their way, of which somebody hears as they pass."""

    def __init__(self, pieces: AsyncIterator[T], hear: Callable[[T], Awaitable[None]]) -> None:
        self._pieces = pieces
        self._hear = hear

    def __aiter__(self) -> Overheard[T]:
        return self

    async def __anext__(self) -> T:
        piece = await anext(self._pieces)
        await self._hear(piece)
        return piece
