"""What a chunker can do beyond the seven members, each where its base can: nothing more is claimed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from mountsync.errors import AlreadyExists, DirectoryNotEmpty, NotADirectory
from mountsync.model.entry import Digest, Entry
from mountsync.paths import RelPath, is_within, join, name_of, parent_of
from mountsync.storage import api
from mountsync.storage.api import ABSENT, Expect, Storage
from mountsync.storage.chunker.checks import insist, insist_file, insist_replaceable, refuse_future
from mountsync.storage.chunker.gc import sweep
from mountsync.storage.chunker.journal import Journal
from mountsync.storage.chunker.layout import Layout, Piece
from mountsync.storage.chunker.objects import pin, relocate
from mountsync.storage.chunker.overlay import ChunkerStorage
from mountsync.storage.chunker.reading import pour_chunks
from mountsync.storage.chunker.settings import Settings
from mountsync.storage.chunker.stage import remove_pieces
from mountsync.storage.chunker.transfer import copy_chunks


def open_overlay(base: Storage, settings: Settings, journal: Journal) -> ChunkerStorage:
    """A chunker over `base` with the capabilities that `base` has."""
    mixins = [mixin for protocols, mixin in _MIXINS if isinstance(base, protocols)]
    kind = type("ChunkerStorage", (*mixins, ChunkerStorage), {})
    storage = kind(base, settings, journal)
    assert isinstance(storage, ChunkerStorage)
    return storage


class _Pouring(ChunkerStorage):
    @asynccontextmanager
    async def pour(
        self,
        path: RelPath,
        into: api.Into,
        offset: int = 0,
        length: int | None = None,
        *,
        expect: Expect = None,
    ) -> AsyncIterator[AsyncIterator[int]]:
        """As `SupportsPour.pour`: by the base what lies in one object, the rest as it is read."""
        assert isinstance(self.base, api.SupportsPour)
        await self.attempts.settle(path)
        layout = await self.readable(path, expect)
        if layout.is_chunked:
            async with pour_chunks(self.base, layout, into, offset, length) as counts:
                yield counts
        else:
            async with self.base.pour(path, into, offset, length, expect=pin(layout.main)) as counts:
                yield counts


class _Moving(ChunkerStorage):
    async def move(
        self, source: RelPath, target: RelPath, *, expect: Expect = None, replace: Expect = ABSENT
    ) -> Entry:
        """As `SupportsMove.move`; directories where the base moves directories."""
        self.accept(target)
        async with self.locks.hold(source, target):
            found, there = await self._both(source, target, expect, replace)
            if found.is_directory or not found.is_file:
                return await self._move_object(found, there, replace)
            if source == target:
                return found.entry()
            if found.chunks or not _is_simple(there):
                await self.attempts.discard(there)
                await self.attempts.mover.move(await self.view.described(found), there)
                return (await self.view.look(target)).entry()
            return await self._move_object(found, there, replace)

    async def _both(
        self, source: RelPath, target: RelPath, expect: Expect, replace: Expect
    ) -> tuple[Layout, Layout]:
        """What is at both ends, checked; commits under way there are finished."""
        found = await self.attempts.ready(source)
        if not found.is_directory:
            insist_file(found)
        insist(found, expect)
        there = found if source == target else await self.attempts.ready(target)
        if not (found.is_directory and is_within(target, source)):
            await self.refuse_file_above(target)
        if there.exists and replace is ABSENT:
            raise AlreadyExists("something is there already", path=target)
        if not found.is_directory:
            refuse_future(found)
            insist_replaceable(there, replace)
        return found, there

    async def _move_object(self, found: Layout, there: Layout, replace: Expect) -> Entry:
        """One object of the base: a small file, a link or a directory; then old chunks at the target go."""
        if found.is_directory and there.chunks and not is_within(there.path, found.path):
            raise NotADirectory("something that is not a directory is there", path=there.path)
        wanted = pin(there.main) if there.is_file or replace is not None else None
        entry = await relocate(self.base, found.path, there.path, expect=pin(found.main), replace=wanted)
        await remove_pieces(self.view, there.chunks)
        self.view.forget(found.path)
        self.view.forget(there.path)
        return entry


class _Copying(ChunkerStorage):
    async def copy(
        self, source: RelPath, target: RelPath, *, expect: Expect = None, replace: Expect = ABSENT
    ) -> Entry:
        """As `SupportsCopy.copy`: all of the file or nothing."""
        base = self.base
        assert isinstance(base, api.SupportsCopy)
        self.accept(target)
        async with self.locks.hold(source, target):
            found = await self.attempts.ready(source)
            insist_file(found)
            insist(found, expect)
            there = found if source == target else await self.attempts.ready(target)
            await self.refuse_file_above(target)
            if there.exists and replace is ABSENT:
                raise AlreadyExists("something is there already", path=target)
            insist_replaceable(there, replace)
            if source == target:
                return found.entry()
            if found.chunks or not _is_simple(there):
                await self.attempts.discard(there)
                whole = await self.view.described(found)
                return (await copy_chunks(self.view, self.journal, whole, there)).entry()
            entry = await base.copy(source, target, expect=pin(found.main), replace=pin(there.main))
            await remove_pieces(self.view, there.chunks)
            self.view.forget(target)
            return entry


def _is_simple(there: Layout) -> bool:
    """Whether a plain object can be put there by itself: no chunk in its final place is beside it."""
    return there.stale is None and not any(
        piece.name.index is not None and not piece.name.transaction
        for piece in (*there.chunks, *there.left_over)
    )


class _SettingMtime(ChunkerStorage):
    async def set_mtime(self, path: RelPath, mtime_ns: int, *, expect: Expect = None) -> Entry:
        """Sets the time of the object that holds it: the metadata, the file itself, or the first chunk."""
        base = self.base
        assert isinstance(base, api.SupportsSetMtime)
        async with self.locks.hold(path):
            found = await self.attempts.ready(path)
            insist_file(found)
            insist(found, expect)
            refuse_future(found)
            at = path if found.main is not None else found.chunks[0].path
            entry = await base.set_mtime(at, mtime_ns, expect=found.first.token)
            return self.view.remember(_with_first(found, entry)).entry()


def _with_first(found: Layout, entry: Entry) -> Layout:
    if found.main is not None:
        return found.with_main(entry)
    first = found.chunks[0]
    return found.with_chunks((Piece(first.path, first.name, entry), *found.chunks[1:]))


class _Directories(ChunkerStorage):
    async def make_directory(self, path: RelPath) -> Entry:
        """As `SupportsDirectories.make_directory`."""
        base = self.base
        assert isinstance(base, api.SupportsDirectories)
        self.accept(path)
        await self.refuse_file_above(path)
        await self._refuse_file(path)
        return await base.make_directory(path)

    async def remove_directory(self, path: RelPath) -> None:
        """As `SupportsDirectories`; a folder with nothing but old leftovers of chunks counts as empty."""
        base = self.base
        assert isinstance(base, api.SupportsDirectories)
        await self._refuse_file(path)
        try:
            await base.remove_directory(path)
        except DirectoryNotEmpty:
            if not await sweep(self, path):
                raise
            await base.remove_directory(path)

    async def _refuse_file(self, path: RelPath) -> None:
        """Without metadata the base knows no object at a file's path."""
        if not self.settings.metadata and (await self.view.look(path)).is_file:
            raise NotADirectory("something that is not a directory is there", path=path)


class _Symlinks(ChunkerStorage):
    async def make_symlink(self, path: RelPath, target: str, *, expect: Expect = None) -> Entry:
        """As `SupportsSymlinks.make_symlink`; the chunks of a file that was there go after it."""
        base = self.base
        assert isinstance(base, api.SupportsSymlinks)
        self.accept(path)
        await self.refuse_file_above(path)
        async with self.locks.hold(path):
            old = await self.attempts.ready(path)
            insist_replaceable(old, expect)
            entry = await base.make_symlink(path, target, expect=pin(old.stale or old.main))
            await remove_pieces(self.view, old.chunks)
            self.view.forget(path)
            return entry


class _Attributes(ChunkerStorage):
    async def set_mode(self, path: RelPath, mode: int) -> Entry:
        """Sets the mode of all objects of a file, so that no chunk tells more than the file may."""
        base = self.base
        assert isinstance(base, api.SupportsAttributes)
        async with self.locks.hold(path):
            found = await self.attempts.ready(path)
            if not found.chunks:
                return await base.set_mode(path, mode)
            pieces = [
                Piece(piece.path, piece.name, await base.set_mode(piece.path, mode)) for piece in found.chunks
            ]
            changed = found.with_chunks(tuple(pieces))
            if found.main is not None:
                changed = changed.with_main(await base.set_mode(path, mode))
            return self.view.remember(changed).entry()


class _Digests(ChunkerStorage):
    async def digest(self, path: RelPath, *, expect: Expect = None) -> Digest | None:
        """The base's digest of a plain file; of a file in chunks none is known."""
        assert isinstance(self.base, api.SupportsDigest)
        found = await self.readable(path, expect)
        return None if found.chunks else await self.base.digest(path, expect=pin(found.main))


class _Watching(ChunkerStorage):
    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[frozenset[RelPath]]]:
        """The base's hints; a chunk's is one of its file."""
        assert isinstance(self.base, api.SupportsWatch)
        below: AbstractAsyncContextManager[AsyncIterator[frozenset[RelPath]]] = self.base.watch()
        async with below as hints:
            yield _Mapped(self, hints)


class _Mapped:
    """Hints of the base, as paths of the overlay."""

    def __init__(self, storage: ChunkerStorage, hints: AsyncIterator[frozenset[RelPath]]) -> None:
        self._names = storage.settings.names
        self._hints = hints

    def __aiter__(self) -> _Mapped:
        return self

    async def __anext__(self) -> frozenset[RelPath]:
        return frozenset(map(self._owner, await anext(self._hints)))

    def _owner(self, path: RelPath) -> RelPath:
        name = self._names.parse(name_of(path))
        return path if name is None else join(parent_of(path), name.base)


class _Measuring(ChunkerStorage):
    async def usage(self) -> api.Usage:
        """The space of the base."""
        assert isinstance(self.base, api.SupportsUsage)
        return await self.base.usage()


class _Barrier(ChunkerStorage):
    async def barrier(self) -> None:
        """The base's barrier: all that was written lies there."""
        assert isinstance(self.base, api.SupportsBarrier)
        await self.base.barrier()


_MIXINS: Final[tuple[tuple[type | tuple[type, ...], type[ChunkerStorage]], ...]] = (
    (api.SupportsPour, _Pouring),
    ((api.SupportsMove, api.SupportsCopy), _Moving),
    (api.SupportsCopy, _Copying),
    (api.SupportsSetMtime, _SettingMtime),
    (api.SupportsDirectories, _Directories),
    (api.SupportsSymlinks, _Symlinks),
    (api.SupportsAttributes, _Attributes),
    (api.SupportsDigest, _Digests),
    (api.SupportsWatch, _Watching),
    (api.SupportsUsage, _Measuring),
    (api.SupportsBarrier, _Barrier),
)
