"""A storage in the memory of this process: nothing survives it.

It has every capability and enforces expectations in one step, so that it shows how a storage
behaves at its best. Storages opened under one name share their objects.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from typing import Final

import trio

from mountsync.errors import Stale
from mountsync.model.entry import Digest, Entry
from mountsync.paths import ROOT, RelPath, is_within, rel_path
from mountsync.storage.api import (
    ABSENT,
    Enforcement,
    Expect,
    Listed,
    NameRules,
    Source,
    Storage,
    StorageInfo,
    Usage,
)
from mountsync.storage.hints import HintBox
from mountsync.storage.memory_tree import File, Tree, walk
from mountsync.storage.options import OpenContext, Option
from mountsync.storage.sources import PieceReader

OPTIONS: tuple[Option, ...] = ()

_BATCH: Final = 500
_PIECE: Final = 1 << 20
_HASH_INLINE: Final = 1 << 14
"""Contents up to this size are hashed on the loop: less than the cost of a thread."""

_NAMED: dict[str, Tree] = {}


async def open_storage(_options: Mapping[str, object], path: str, _context: OpenContext) -> Storage:
    """Opens `NAME/folder`: the shared objects called NAME, seen from that folder on."""
    name, _, folder = path.strip("/").partition("/")
    return MemoryStorage(name, tree=_NAMED.setdefault(name, Tree()), root=rel_path(folder))


class MemoryStorage:
    """Objects in memory. Every change is one step on the loop, so nothing is ever seen half done."""

    def __init__(
        self,
        name: str = "",
        *,
        tree: Tree | None = None,
        root: RelPath = ROOT,
        names: NameRules | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Its own new tree, or the given one from `root` on. `now_ns` times writes without an mtime."""
        self._tree = Tree() if tree is None else tree
        self._root = root
        self._now_ns = now_ns
        self._info = StorageInfo(
            type="memory",
            identity=f"memory:{name}/{root}".rstrip("/"),
            enforcement=Enforcement.ATOMIC,
            names=names or NameRules(),
            concurrency=16,
            moves_directories=True,
            stable_tokens=True,
            hashes=frozenset({"sha256", "md5", "sha1"}),
        )
        if root:
            self._tree.make_directory(root)

    @property
    def info(self) -> StorageInfo:
        return self._info

    def _at(self, path: RelPath) -> RelPath:
        return RelPath(f"{self._root}/{path}".rstrip("/")) if self._root else path

    def _relative(self, path: RelPath) -> RelPath:
        return RelPath(path[len(self._root) :].lstrip("/")) if self._root else path

    def _accept(self, path: RelPath) -> RelPath:
        """Where a new object goes. Raises what the name rules say."""
        self._info.names.insist(path)
        return self._at(path)

    @asynccontextmanager
    async def list(self, path: RelPath, *, recursive: bool) -> AsyncIterator[AsyncIterator[Sequence[Listed]]]:
        await trio.lowlevel.checkpoint()
        entries = walk(self._tree, self._at(path), recursive=recursive)
        yield _Batches((self._relative(at), entry) for at, entry in entries)

    async def stat(self, path: RelPath) -> Entry | None:
        await trio.lowlevel.checkpoint()
        node = self._tree.find(self._at(path))
        return node.entry() if node is not None else None

    @asynccontextmanager
    async def read(
        self, path: RelPath, offset: int = 0, length: int | None = None, *, expect: Expect = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        await trio.lowlevel.checkpoint()
        data = self._tree.file(self._at(path), expect).data
        end = len(data) if length is None else min(len(data), offset + length)
        yield _Pieces(memoryview(data)[offset:end])

    async def write(
        self, path: RelPath, source: Source, *, mtime_ns: int | None = None, expect: Expect = None
    ) -> Entry:
        at = self._accept(path)
        self._tree.replaceable(at, expect)
        data = b"".join([piece async for piece in PieceReader(source)])
        await trio.lowlevel.checkpoint()
        if not source.still():
            raise Stale("the source changed while it was uploaded", path=path)
        when = self._now_ns() if mtime_ns is None else mtime_ns
        return self._tree.put(at, data, mtime_ns=when, expect=expect)

    async def delete(self, path: RelPath, *, expect: Expect = None) -> None:
        await trio.lowlevel.checkpoint()
        self._tree.delete(self._at(path), expect)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    async def move(
        self, source: RelPath, target: RelPath, *, expect: Expect = None, replace: Expect = ABSENT
    ) -> Entry:
        await trio.lowlevel.checkpoint()
        return self._tree.move(self._at(source), self._accept(target), expect=expect, replace=replace)

    async def copy(
        self, source: RelPath, target: RelPath, *, expect: Expect = None, replace: Expect = ABSENT
    ) -> Entry:
        await trio.lowlevel.checkpoint()
        return self._tree.copy(self._at(source), self._accept(target), expect=expect, replace=replace)

    async def digest(self, path: RelPath, *, expect: Expect = None) -> Digest | None:
        file = self._tree.file(self._at(path), expect)
        if file.digest is None:
            file.digest = Digest(await _hex("sha256", file))
        else:
            await trio.lowlevel.checkpoint()
        return file.digest

    async def hashes(self, path: RelPath, *, expect: Expect = None) -> Mapping[str, str]:
        file = self._tree.file(self._at(path), expect)
        return {name: await _hex(name, file) for name in ("md5", "sha1")}

    async def set_mtime(self, path: RelPath, mtime_ns: int, *, expect: Expect = None) -> Entry:
        await trio.lowlevel.checkpoint()
        return self._tree.set_mtime(self._at(path), mtime_ns, expect)

    async def make_directory(self, path: RelPath) -> Entry:
        await trio.lowlevel.checkpoint()
        return self._tree.make_directory(self._accept(path))

    async def remove_directory(self, path: RelPath) -> None:
        await trio.lowlevel.checkpoint()
        self._tree.remove_directory(self._at(path))

    async def make_symlink(self, path: RelPath, target: str, *, expect: Expect = None) -> Entry:
        await trio.lowlevel.checkpoint()
        return self._tree.link(self._accept(path), target, mtime_ns=self._now_ns(), expect=expect)

    async def set_mode(self, path: RelPath, mode: int) -> Entry:
        await trio.lowlevel.checkpoint()
        return self._tree.set_mode(self._at(path), mode)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[frozenset[RelPath]]]:
        box = HintBox()

        def post(path: RelPath) -> None:
            if is_within(path, self._root):
                box.post(self._relative(path))

        self._tree.listeners.add(post)
        try:
            yield box
        finally:
            self._tree.listeners.discard(post)

    async def usage(self) -> Usage:
        await trio.lowlevel.checkpoint()
        return Usage(total=None, used=self._tree.used, free=None)

    async def barrier(self) -> None:
        """Memory does not outlive power; there is nothing to wait for."""
        await trio.lowlevel.checkpoint()


async def _hex(name: str, file: File) -> str:
    if len(file.data) <= _HASH_INLINE:
        await trio.lowlevel.checkpoint()
        return hashlib.new(name, file.data, usedforsecurity=False).hexdigest()
    made = await trio.to_thread.run_sync(lambda: hashlib.new(name, file.data, usedforsecurity=False))
    return made.hexdigest()


class _Batches:
    """Gives a listing in batches, with a pause for other tasks between them."""

    def __init__(self, entries: Iterator[Listed]) -> None:
        self._entries = entries

    def __aiter__(self) -> _Batches:
        return self

    async def __anext__(self) -> Sequence[Listed]:
        await trio.lowlevel.checkpoint()
        batch = list(islice(self._entries, _BATCH))
        if not batch:
            raise StopAsyncIteration
        return batch


class _Pieces:
    """Gives a range of bytes in pieces."""

    def __init__(self, left: memoryview) -> None:
        self._left = left

    def __aiter__(self) -> _Pieces:
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if not self._left:
            raise StopAsyncIteration
        piece, self._left = self._left[:_PIECE], self._left[_PIECE:]
        return bytes(piece)
