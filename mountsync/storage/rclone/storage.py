"""A remote of rclone's as a storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from email.utils import parsedate_to_datetime
from typing import Final

from mountsync.errors import (
    IsADirectory,
    MountsyncError,
    NotADirectory,
    NotFound,
    PathError,
    Stale,
    Unreachable,
    Unsupported,
)
from mountsync.formats.rclone_names import to_rclone
from mountsync.model.entry import DIRECTORY, Entry, Kind
from mountsync.paths import ROOT, RelPath, ancestors, name_of, parent_of
from mountsync.storage.api import Expect, Listed, Source, StorageInfo
from mountsync.storage.expectations import refuse_stale
from mountsync.storage.locks import PathLocks
from mountsync.storage.rclone import objects
from mountsync.storage.rclone.listing import Place, RcloneListing
from mountsync.storage.rclone.refusals import Unclear
from mountsync.storage.rclone.rpc import next_piece
from mountsync.storage.rclone.staging import Staging
from mountsync.storage.rclone.wire import Answer

ALWAYS: Final = {"IgnoreTimes": True}
"""Without it rclone passes over a file whose size and time are alike, whatever it holds."""
_SECOND_NS: Final = 10**9
_HEAD: Final = 100
"""Characters of a name that are still there in the name of an unfinished upload, which may be cut."""


class RcloneStorage:
    """What every remote of rclone's can do. `capabilities.with_capabilities` adds what this one can."""

    def __init__(self, place: Place, staging: Staging, *, concurrency: int) -> None:
        """Owns `place.rpc`."""
        self._place = place
        self._staging = staging
        self.locks = PathLocks()
        """rclone gives uploads of one name that go on at once one temporary name, and mixes them."""
        facts = place.facts
        self._info = StorageInfo(
            type="rclone",
            identity=f"rclone:{place.remote}",
            lies_in=None if facts.local_folder is None else f"local:{facts.local_folder}",
            mtime_precision_ns=facts.mtime_precision_ns,
            case_sensitive=not facts.features.case_insensitive,
            empty_directories=facts.features.can_have_empty_directories,
            names=objects.NAMES,
            read_block=4 << 20,
            concurrency=concurrency,
            flat=facts.features.list_r,
            moves_directories=facts.features.dir_move,
            hashes=frozenset(facts.cheap_hashes) & {"sha256", "md5", "sha1"},
        )

    @property
    def info(self) -> StorageInfo:
        return self._info

    @asynccontextmanager
    async def list(self, path: RelPath, *, recursive: bool) -> AsyncIterator[AsyncIterator[Sequence[Listed]]]:
        yield RcloneListing(self._place, path, recursive=recursive)

    async def stat(self, path: RelPath) -> Entry | None:
        if path == ROOT:
            return DIRECTORY if await self._place.is_begun() else None
        return self._entry(await self._place.stat(path), path)

    def _entry(self, item: objects.Item | None, path: RelPath) -> Entry | None:
        if item is None:
            return None
        if not item.is_dir and item.size < 0:
            raise Unsupported("its size is not known before it is read", path=path)
        return objects.entry_of(item, self._place.facts)

    @asynccontextmanager
    async def read(
        self, path: RelPath, offset: int = 0, length: int | None = None, *, expect: Expect = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        entry = await self.existing_file(path, expect)
        wanted = max(0, min(entry.size - offset, entry.size if length is None else length))
        if not wanted:
            yield _Nothing()
            return
        asked = {"Range": f"bytes={offset}-{offset + wanted - 1}"}
        async with self._place.rpc.get(self._place.remote, path, asked) as answer:
            _refuse_other(answer, entry, path)
            yield _Body(self, path, entry, answer, wanted)

    async def existing_file(self, path: RelPath, expect: Expect) -> Entry:
        """The file that is there. Raises NotFound, IsADirectory, or Stale when it is not the expected one."""
        found = await self.stat(path)
        if found is None:
            raise NotFound("nothing is there", path=path)
        if found.kind is Kind.DIRECTORY:
            raise IsADirectory("it is a directory", path=path)
        refuse_stale(found, expect, path)
        return found

    async def write(
        self, path: RelPath, source: Source, *, mtime_ns: int | None = None, expect: Expect = None
    ) -> Entry:
        self.accept(path)
        async with self._staging.hold(path, source, mtime_ns) as staged, self.locks.hold(path):
            await self._make_way(path, expect)
            if not source.still():
                raise Stale("the content changed while it was read", path=path)
            await self.change(
                "operations/copyfile",
                path,
                srcFs=self._staging.folder,
                srcRemote=staged,
                dstFs=self._place.remote,
                dstRemote=to_rclone(path),
                _config=ALWAYS,
            )
            return await self.made(path)

    def accept(self, path: RelPath) -> None:
        """Raises when nothing can be written at this name."""
        if path == ROOT:
            raise IsADirectory("the root is a directory", path=path)
        self._info.names.insist(path)

    async def _make_way(self, path: RelPath, expect: Expect) -> None:
        """Raises when what is there cannot be replaced, or is not as expected."""
        there = await self.stat(path)
        if there is not None and there.kind is Kind.DIRECTORY:
            raise IsADirectory("a directory is there", path=path)
        refuse_stale(there, expect, path)
        if there is None and not self._info.empty_directories:
            await self.refuse_file_above(path)  # elsewhere the remote itself refuses

    async def refuse_file_above(self, path: RelPath) -> None:
        """Remotes without directories would take a file and names below it, and no disk could hold both."""
        for above in ancestors(path):
            found = await self.stat(above)
            if found is not None:
                if found.kind is not Kind.DIRECTORY:
                    raise NotADirectory("a file is where a directory must be", path=above)
                return

    async def change(self, command: str, path: RelPath, /, **arguments: object) -> None:
        """A changing call. What fails for unknown reasons while the remote answers is the path's failure."""
        try:
            await self._place.rpc.change(command, path, **arguments)
        except Unclear as error:
            await self._insist_reachable(error)
            raise

    async def _insist_reachable(self, error: Unclear) -> None:
        try:
            await self._place.stat(ROOT)
        except MountsyncError:
            raise Unreachable(error.reason, path=error.path) from error

    async def made(self, path: RelPath) -> Entry:
        """What is there now, after we put it there."""
        found = await self.stat(path)
        if found is None:
            raise Stale("it was there and is gone", path=path)
        return found

    async def delete(self, path: RelPath, *, expect: Expect = None) -> None:
        async with self.locks.hold(path):
            await self.existing_file(path, expect)
            await self.change("operations/deletefile", path, fs=self._place.remote, remote=to_rclone(path))

    async def recover_attempts(self) -> None:
        """Removes what uploads that died with their process left on the remote, and their bodies here."""
        left = self._staging.prepare()
        for folder in sorted({parent_of(path) for path in left}):
            with suppress(PathError):
                await self._sweep(folder, {name_of(path) for path in left if parent_of(path) == folder})
        self._staging.clear()

    async def _sweep(self, folder: RelPath, names: set[str]) -> None:
        for name in await self._place.partials(folder):
            if any(name.startswith(to_rclone(one)[:_HEAD]) for one in names):
                place = f"{to_rclone(folder)}/{name}" if folder else name
                await self.change("operations/deletefile", folder, fs=self._place.remote, remote=place)

    async def aclose(self) -> None:
        await self._place.rpc.aclose()


class _Nothing:
    def __aiter__(self) -> _Nothing:
        return self

    async def __anext__(self) -> bytes:
        raise StopAsyncIteration


class _Body:
    """The bytes of one answer. After the last one the object is looked at again: it must be the same."""

    def __init__(
        self, storage: RcloneStorage, path: RelPath, entry: Entry, answer: Answer, wanted: int
    ) -> None:
        self._storage = storage
        self._path = path
        self._entry = entry
        self._answer = answer
        self._left = wanted

    def __aiter__(self) -> _Body:
        return self

    async def __anext__(self) -> bytes:
        if not self._left:
            raise StopAsyncIteration
        piece = await next_piece(self._answer, self._path)
        self._left -= len(piece)
        if not piece or self._left <= 0:
            await self._storage.existing_file(self._path, self._entry.token)
        if not piece or self._left < 0:
            raise Unreachable("the body has another length than was told", path=self._path)
        return piece


def _refuse_other(answer: Answer, entry: Entry, path: RelPath) -> None:
    """Sees from the headers that it is the object that was just looked at."""
    told = answer.headers.get("content-range", "").rpartition("/")[2]
    if told.isdigit() and int(told) != entry.size:
        raise Stale("it changed its size before it was read", path=path)
    modified = answer.headers.get("last-modified")
    if entry.mtime_ns is not None and modified:
        seconds = int(parsedate_to_datetime(modified).timestamp())
        if seconds != entry.mtime_ns // _SECOND_NS:
            raise Stale("it changed before it was read", path=path)
