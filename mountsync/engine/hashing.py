"""Digests of contents: computed in threads, once, and cached under a storage's token."""

from __future__ import annotations

import hashlib
import os
import threading
from typing import Final, Protocol, runtime_checkable

import trio

from mountsync.engine.storage_replica import StorageReplica
from mountsync.errors import Stale
from mountsync.model.entry import EMPTY_DIGEST, Digest, Entry, Kind, Token
from mountsync.paths import RelPath
from mountsync.storage.api import Source
from mountsync.storage.sources import PIECE, PieceReader, StorageSource

_INLINE: Final = 64 << 10
"""Bytes that are hashed on the loop: a thread hop would take longer."""


@runtime_checkable
class OnDisk(Protocol):
    """A source that is a file of this machine."""

    def fileno(self) -> int:
        """Its descriptor."""
        ...


async def digest_of(source: Source) -> Digest:
    """The sha256 of a body. Raises Stale when the body moved on meanwhile."""
    if source.size == 0:
        return EMPTY_DIGEST
    if source.size <= _INLINE:
        return Digest(hashlib.sha256(await source.read(0, source.size)).hexdigest())
    found = await _of_file(source) if isinstance(source, OnDisk) else await _of_pieces(source)
    if not source.still():
        raise Stale("the file changed while it was hashed")
    return found


async def _of_pieces(source: Source) -> Digest:
    state = hashlib.sha256()
    async for piece in PieceReader(source):
        await trio.to_thread.run_sync(state.update, piece)
    return Digest(state.hexdigest())


async def _of_file(source: Source) -> Digest:
    assert isinstance(source, OnDisk)
    stop = threading.Event()
    try:
        return await trio.to_thread.run_sync(_hash_file, source.fileno(), source.size, stop)
    finally:
        stop.set()


def _hash_file(descriptor: int, size: int, stop: threading.Event) -> Digest:
    state = hashlib.sha256()
    offset = 0
    while offset < size and not stop.is_set():
        piece = os.pread(descriptor, min(PIECE, size - offset), offset)
        if not piece:
            raise Stale("the file became shorter while it was hashed")
        state.update(piece)
        offset += len(piece)
    return Digest(state.hexdigest())


class DigestCache(Protocol):
    """Digests by storage, path and token; `state.digests.Digests` is one."""

    def find(self, storage: str, path: RelPath, token: Token) -> Digest | None:
        """The digest of that content, None when it was not computed yet."""
        ...

    def store(self, storage: str, path: RelPath, token: Token, digest: Digest) -> None:
        """Remembers a digest."""
        ...


class Hasher:
    """Digests of the files of one storage, by way of the cache."""

    def __init__(self, replica: StorageReplica, cache: DigestCache) -> None:
        self._replica = replica
        self._cache = cache

    async def digest(self, path: RelPath, entry: Entry) -> Digest | None:
        """The digest of that version; None for what has no content. Raises Stale, NotFound, Unreachable."""
        if entry.kind is not Kind.FILE:
            return None
        if entry.digest is not None or entry.size == 0:
            return entry.digest or EMPTY_DIGEST
        known = self.cached(path, entry)
        return known if known is not None else await self._compute(path, entry)

    def cached(self, path: RelPath, entry: Entry) -> Digest | None:
        """What the cache holds for that version."""
        if entry.token is None:
            return None
        return self._cache.find(self._replica.info.identity, path, entry.token)

    async def _compute(self, path: RelPath, entry: Entry) -> Digest:
        found = await self._replica.digest(path, entry)
        if found is None:
            found = await digest_of(StorageSource(self._replica.storage, path, entry))
        if entry.token is not None:
            self._cache.store(self._replica.info.identity, path, entry.token, found)
        return found
