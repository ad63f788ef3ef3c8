"""A storage as one side of a sync.

Hides what is ours and what filters exclude, and shows symbolic links on storages that have none. It is
the only place above the storages that asks for their capabilities.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Protocol

from mountsync.engine.links import MAX_TARGET, link_path, object_path
from mountsync.errors import AlreadyExists, NotFound, Stale, Unsupported
from mountsync.model.entry import DIRECTORY, Digest, Entry, Kind, Problem, usual_mode
from mountsync.model.plan import Delete, MakeDirectory, MakeSymlink, Move, Put, SetAttributes
from mountsync.paths import RelPath, is_ours, to_bytes
from mountsync.storage.api import (
    ABSENT,
    Expect,
    Listed,
    Source,
    Storage,
    StorageInfo,
    SupportsAttributes,
    SupportsBarrier,
    SupportsCopy,
    SupportsDigest,
    SupportsDirectories,
    SupportsMove,
    SupportsSetMtime,
    SupportsSymlinks,
)
from mountsync.storage.sources import BytesSource, StorageSource


class Excluded(Protocol):
    """Tells which paths filters make invisible; some patterns mean directories only."""

    def __call__(self, path: RelPath, /, *, is_directory: bool) -> bool:
        """Whether what stands at `path`, or a directory above it, is excluded."""
        ...


def nothing_hidden(_path: RelPath, /, *, is_directory: bool) -> bool:  # noqa: ARG001 - as the protocol says
    """A filter that excludes nothing."""
    return False


class StorageReplica:
    """One side that is a storage. `excluded` tells which paths filters make invisible."""

    def __init__(self, storage: Storage, *, excluded: Excluded = nothing_hidden) -> None:
        self._excluded = excluded
        self.replace(storage)

    def replace(self, storage: Storage) -> None:
        """Another object for the same remote: it could be opened at last.

        Capabilities are asked for here, once: checking a protocol takes longer than reading a row.
        """
        self.storage = storage
        self._mover = storage if isinstance(storage, SupportsMove) else None
        self._copier = storage if isinstance(storage, SupportsCopy) else None
        self._digester = storage if isinstance(storage, SupportsDigest) else None
        self._clock = storage if isinstance(storage, SupportsSetMtime) else None
        self._folders = storage if isinstance(storage, SupportsDirectories) else None
        self._linker = storage if isinstance(storage, SupportsSymlinks) else None
        self._modes = storage if isinstance(storage, SupportsAttributes) else None
        self._barrier = storage if isinstance(storage, SupportsBarrier) else None

    @property
    def info(self) -> StorageInfo:
        """Facts about the storage."""
        return self.storage.info

    @property
    def can_move(self) -> bool:
        """Whether files are renamed without moving bytes through us."""
        return self._mover is not None or self._copier is not None

    @property
    def moves_directories(self) -> bool:
        """Whether a whole directory is renamed in one step."""
        return self._mover is not None and self.info.moves_directories

    @property
    def links_are_objects(self) -> bool:
        """Whether a link is an object of another name: a file that replaces it comes after it is gone."""
        return self._linker is None

    @property
    def sets_mtimes(self) -> bool:
        """Whether the time of a file can be set."""
        return self._clock is not None

    @property
    def sets_modes(self) -> bool:
        """Whether permission bits can be set."""
        return self._modes is not None

    def hides(self, path: RelPath, *, is_directory: bool = False) -> bool:
        """Whether a path is invisible here, whatever is there or as a directory."""
        return is_ours(path) or self._excluded(path, is_directory=is_directory)

    def _hides_item(self, item: Listed) -> bool:
        path, entry = item
        is_directory = not isinstance(entry, Problem) and entry.kind is Kind.DIRECTORY
        return self.hides(path, is_directory=is_directory)

    def shown(self, found: Sequence[Listed]) -> list[Listed]:
        """A batch of a listing as a sync sees it. Targets of links kept as objects are not read yet."""
        return [item for item in map(self._show, found) if not self._hides_item(item)]

    def translated(self, found: Sequence[Listed]) -> Sequence[Listed]:
        """A batch of a listing with links as links; nothing is left out of it."""
        return found if self._linker is not None else [self._show(item) for item in found]

    def _show(self, item: Listed) -> Listed:
        path, entry = item
        if self._linker is not None or isinstance(entry, Problem) or entry.kind is not Kind.FILE:
            return item
        link = link_path(path, entry.size)
        return item if link is None else (link, replace(entry, kind=Kind.SYMLINK, size=0))

    async def stat(self, path: RelPath) -> Entry | None:
        """The entry as a sync sees it, None when nothing is there or it is hidden."""
        if self.hides(path):
            return None
        found = await self.storage.stat(path)
        if found is not None and found.kind is Kind.DIRECTORY and self.hides(path, is_directory=True):
            return None
        if found is None and self._linker is None:
            found = await self.storage.stat(object_path(path))
            if found is not None and found.kind is Kind.FILE and found.size <= MAX_TARGET:
                return await self.complete(path, replace(found, kind=Kind.SYMLINK, size=0))
            return None
        return found

    async def complete(self, path: RelPath, entry: Entry) -> Entry:
        """The entry with the target of its link, which may have to be read."""
        if entry.kind is not Kind.SYMLINK or entry.target is not None:
            return entry
        async with self.storage.read(object_path(path), expect=entry.token) as blocks:
            text = b"".join([block async for block in blocks])
        return replace(entry, target=text.decode("utf-8", "surrogateescape"))

    async def digest(self, path: RelPath, entry: Entry) -> Digest | None:
        """The sha256 when the storage knows it without sending the content."""
        return None if self._digester is None else await self._digester.digest(path, expect=entry.token)

    @asynccontextmanager
    async def body(self, path: RelPath, entry: Entry) -> AsyncIterator[Source]:
        """The content of a file, in ranged reads that insist on this version."""
        yield StorageSource(self.storage, path, entry)

    async def put(self, action: Put, source: Source) -> Entry:
        expect = _expectation(action.expect)
        if action.expect is not None and action.expect.kind is Kind.SYMLINK and self._linker is None:
            # The link is an object of another name. The file goes second: both at once would be two things.
            await self.storage.delete(object_path(action.path), expect=action.expect.token)
            expect = ABSENT
        made = await self.storage.write(action.path, source, mtime_ns=action.entry.mtime_ns, expect=expect)
        return await self._with_mode(action.path, made, action.entry.mode)

    async def _with_mode(self, path: RelPath, made: Entry, mode: int | None) -> Entry:
        there = usual_mode(made.kind) if made.mode is None else made.mode
        if self._modes is None or mode is None or mode == there:
            return made
        found = await self._modes.set_mode(path, mode)
        if found.token != made.token:
            return made  # somebody was faster: what they put there is for the next look
        return replace(found, digest=made.digest)

    async def make_directory(self, action: MakeDirectory) -> Entry:
        if self._folders is None:
            return DIRECTORY
        made = await self._folders.make_directory(action.path)
        return await self._with_mode(action.path, made, action.entry.mode)

    async def make_symlink(self, action: MakeSymlink) -> Entry:
        target = action.entry.target or ""
        expect = _expectation(action.expect)
        if self._linker is not None:
            return await self._linker.make_symlink(action.path, target, expect=expect)
        if action.expect is not None and action.expect.kind is not Kind.SYMLINK:
            await self.storage.delete(action.path, expect=action.expect.token)
            expect = ABSENT
        made = await self.storage.write(
            object_path(action.path),
            BytesSource(to_bytes(target)),
            mtime_ns=action.entry.mtime_ns,
            expect=expect,
        )
        return replace(made, kind=Kind.SYMLINK, size=0, target=target)

    async def delete(self, action: Delete) -> None:
        try:
            await self._delete(action)
        except NotFound:
            return  # somebody else was faster: both sides agree that it is gone

    async def _delete(self, action: Delete) -> None:
        if action.expect.kind is Kind.DIRECTORY:
            if self._folders is not None:
                await self._folders.remove_directory(action.path)
            return
        await self.storage.delete(self._object(action.path, action.expect), expect=action.expect.token)

    def _object(self, path: RelPath, entry: Entry) -> RelPath:
        as_object = entry.kind is Kind.SYMLINK and self._linker is None
        return object_path(path) if as_object else path

    async def move(self, action: Move) -> Entry:
        source, target = (self._object(p, action.expect) for p in (action.source, action.target))
        expect = None if action.expect.kind is Kind.DIRECTORY else action.expect.token
        if action.expect.kind is Kind.DIRECTORY:
            await self._insist_directory(source)
        replaced = await self._make_room(action)
        if self._mover is not None:
            try:
                made = await self._mover.move(source, target, expect=expect, replace=replaced)
            except Unsupported:
                made = await self._carry(source, target, action.expect, replaced)
        else:
            made = await self._carry(source, target, action.expect, replaced)
        return self._as_shown(made, action.expect)

    async def _insist_directory(self, path: RelPath) -> None:
        """Directories have no token: a file that took the name of one would be renamed in its place."""
        found = await self.storage.stat(path)
        if found is not None and found.kind is not Kind.DIRECTORY:
            raise Stale("it is not a directory any more", path=path)

    async def _carry(self, source: RelPath, target: RelPath, entry: Entry, replaced: Expect) -> Entry:
        """A rename in two steps, where there is none in one: none at all, or none between these places."""
        if entry.kind is Kind.DIRECTORY:
            raise Unsupported("the remote cannot rename directories", path=source)
        made = await self._duplicate(source, target, entry, replaced)
        await self.storage.delete(source, expect=entry.token)
        return made

    async def _make_room(self, action: Move) -> Expect:
        """What the object that is about to come may replace: one of another name has to go before it."""
        replaced, path = action.replace, action.target
        if replaced is None or self._object(path, replaced) == self._object(path, action.expect):
            return _expectation(replaced)
        if replaced.kind is not Kind.DIRECTORY:
            await self.storage.delete(self._object(path, replaced), expect=replaced.token)
            return ABSENT
        return _expectation(replaced)

    async def _duplicate(self, source: RelPath, target: RelPath, entry: Entry, replaced: Expect) -> Entry:
        """A second object with the same content; where the storage cannot copy, the bytes go through us."""
        if entry.kind is Kind.SYMLINK and self._linker is not None:
            return await self._linker.make_symlink(target, entry.target or "", expect=replaced)
        if self._copier is not None:
            with suppress(Unsupported):  # nor can it copy between these places
                return await self._copier.copy(source, target, expect=entry.token, replace=replaced)
        if entry.kind is Kind.SYMLINK:
            text = BytesSource(to_bytes(entry.target or ""))
            return await self.storage.write(target, text, mtime_ns=entry.mtime_ns, expect=replaced)
        body = StorageSource(self.storage, source, entry)
        made = await self.storage.write(target, body, mtime_ns=entry.mtime_ns, expect=replaced)
        return await self._with_mode(target, made, entry.mode)

    def _as_shown(self, made: Entry, before: Entry) -> Entry:
        if before.kind is Kind.SYMLINK and self._linker is None:
            return replace(made, kind=Kind.SYMLINK, size=0, target=before.target)
        return replace(made, digest=made.digest or before.digest)

    async def set_attributes(self, action: SetAttributes) -> Entry:
        made = action.expect
        wanted = action.entry
        found = await self.storage.stat(action.path)  # modes are set without an expectation
        if found is None or found.kind is not made.kind or found.token != made.token:
            raise Stale("it is not the version that was expected", path=action.path)
        if (
            self._clock is not None
            and made.kind is Kind.FILE
            and wanted.mtime_ns not in (None, made.mtime_ns)
        ):
            assert wanted.mtime_ns is not None
            made = await self._clock.set_mtime(action.path, wanted.mtime_ns, expect=made.token)
        if made.kind is not Kind.SYMLINK:
            made = await self._with_mode(action.path, made, wanted.mode)
        return replace(made, digest=made.digest or action.expect.digest)

    async def barrier(self) -> None:
        if self._barrier is not None:
            await self._barrier.barrier()


def _expectation(expected: Entry | None) -> Expect:
    if expected is None:
        return ABSENT
    if expected.kind is Kind.DIRECTORY:
        raise AlreadyExists("a directory is in the way")
    if expected.token is None:
        raise Stale("the version that stands there is not known")
    return expected.token
