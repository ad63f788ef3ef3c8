"""Digests of many files, several at a time, told in order."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import trio

from mountsync.cli.forms import ListedProblem
from mountsync.errors import PathError
from mountsync.model.entry import Entry
from mountsync.paths import RelPath
from mountsync.storage.api import Storage, SupportsDigest, SupportsHashes


async def digest_all(
    storage: Storage,
    files: Sequence[tuple[RelPath, Entry]],
    algorithm: str,
    take: Callable[[str, str], None],
) -> list[ListedProblem]:
    """Calls `take(path, digest)` for each file, in the order given; returns those that could not be read."""
    results: dict[int, str | PathError] = {}
    problems: list[ListedProblem] = []
    told = 0
    waiting = iter(enumerate(files))

    def tell() -> None:
        nonlocal told
        while told in results:
            path, result = files[told][0], results.pop(told)
            if isinstance(result, PathError):
                problems.append(ListedProblem(path=path, reason=result.reason))
            else:
                take(path, result)
            told += 1

    async def worker() -> None:
        for number, (path, entry) in waiting:
            try:
                results[number] = await digest_of(storage, path, entry, algorithm)
            except PathError as error:
                results[number] = error
            tell()

    async with trio.open_nursery() as nursery:
        for _ in range(max(1, storage.info.concurrency)):
            nursery.start_soon(worker)
    return problems


async def digest_of(storage: Storage, path: RelPath, entry: Entry, algorithm: str) -> str:
    """The digest of one file: as listed, as the storage knows it, else from its content."""
    if algorithm == "sha256":
        if entry.digest is not None:
            return entry.digest
        if isinstance(storage, SupportsDigest):
            known = await storage.digest(path, expect=entry.token)
            if known is not None:
                return known
    elif isinstance(storage, SupportsHashes):
        found = (await storage.hashes(path, expect=entry.token)).get(algorithm)
        if found is not None:
            return found
    return await _read_digest(storage, path, entry, algorithm)


async def _read_digest(storage: Storage, path: RelPath, entry: Entry, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    async with storage.read(path, expect=entry.token) as pieces:
        async for piece in pieces:
            await trio.to_thread.run_sync(digest.update, piece)
    return digest.hexdigest()
