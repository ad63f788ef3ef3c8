"""The chunker: a storage over another one, whose large files lie there in chunks.

Here are the seven members that every storage has; `capabilities` adds what the base can bear.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Final

import trio

from mountsync.errors import (
    Busy,
    MountsyncError,
    NotADirectory,
    NotFound,
    PathError,
    Stale,
)
from mountsync.formats.chunk_metadata import MAX_METADATA_BYTES, Settle, is_metadata
from mountsync.formats.chunk_names import ChunkName
from mountsync.model.entry import Entry, Token
from mountsync.paths import ROOT, RelPath, ancestors, name_of, to_bytes
from mountsync.storage.api import (
    ABSENT,
    Expect,
    Listed,
    Source,
    Storage,
    StorageInfo,
    SupportsAttempts,
    SupportsHashes,
)
from mountsync.storage.chunker.attempts import Attempts
from mountsync.storage.chunker.checks import insist, insist_file, insist_replaceable
from mountsync.storage.chunker.journal import FinishedChunk, Journal, Noted, RemovalRecord
from mountsync.storage.chunker.layout import Layout, Piece
from mountsync.storage.chunker.listing import Listing
from mountsync.storage.chunker.names import chunker_names
from mountsync.storage.chunker.objects import pin
from mountsync.storage.chunker.reading import read_chunks
from mountsync.storage.chunker.replace import finish, make_valid
from mountsync.storage.chunker.settings import Settings
from mountsync.storage.chunker.stage import Stage, Staged, piece_path, remove_pieces
from mountsync.storage.chunker.view import Survey, View
from mountsync.storage.locks import PathLocks

_TRIES: Final = 4
_FOLDERS_AT_ONCE: Final = 4


class ChunkerStorage:
    """Files of any size on a base, as rclone's chunker keeps them. Owns the base."""

    def __init__(self, base: Storage, settings: Settings, journal: Journal) -> None:
        self.base = base
        self.settings = settings
        self.view = View(base, settings)
        self.attempts = Attempts(self.view, journal)
        self.journal = journal
        self.locks = PathLocks()
        self._info = _info(base, settings)

    @property
    def info(self) -> StorageInfo:
        return self._info

    @asynccontextmanager
    async def list(self, path: RelPath, *, recursive: bool) -> AsyncIterator[AsyncIterator[Sequence[Listed]]]:
        yield Listing(self, path, recursive=recursive)

    async def stat(self, path: RelPath) -> Entry | None:
        if path == ROOT:
            return await self.base.stat(path)
        await self.attempts.settle(path)
        found = await self.view.look(path)
        return found.entry() if found.exists else None

    @asynccontextmanager
    async def read(
        self, path: RelPath, offset: int = 0, length: int | None = None, *, expect: Expect = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        await self.attempts.settle(path)
        layout = await self.readable(path, expect)
        if layout.is_chunked:
            async with read_chunks(self.base, layout, offset, length) as pieces:
                yield pieces
        else:
            async with self.base.read(path, offset, length, expect=pin(layout.main)) as pieces:
                yield pieces

    async def readable(self, path: RelPath, expect: Expect) -> Layout:
        """The layout of a sound file. Raises NotFound, IsADirectory, Stale, Corrupt or Unsupported."""
        layout = await self.view.recall(path, expect)
        insist_file(layout)
        insist(layout, expect)
        layout = await self.view.described(layout)
        refusal = layout.refusal()
        if refusal is not None:
            raise refusal
        return layout

    async def write(
        self, path: RelPath, source: Source, *, mtime_ns: int | None = None, expect: Expect = None
    ) -> Entry:
        self.accept(path, size=source.size)
        await self.refuse_file_above(path)
        for left in reversed(range(_TRIES)):
            try:
                return await self._write_once(path, source, mtime_ns, expect)
            except BaseException as error:
                self.view.forget(path)
                # Whoever expects nothing in particular may also come second.
                again = isinstance(error, Stale) and expect is None and left and source.still()
                if not again:
                    raise
        raise AssertionError("unreachable")

    async def _write_once(self, path: RelPath, source: Source, mtime_ns: int | None, expect: Expect) -> Entry:
        async with self.locks.hold(path):
            old = await self.attempts.ready(path)
        insist_replaceable(old, expect)
        wrap = await self._must_wrap(source)
        small = source.size <= self.settings.chunk_size and not wrap
        if small and not any(not p.name.transaction for p in (*old.chunks, *old.left_over)):
            return await self._put_plain(old, source, mtime_ns)
        if not self.settings.metadata and source.size <= self.settings.chunk_size and _is_bare_or_new(old):
            return await self._put_one(old, source, mtime_ns)
        return await self._put_chunks(old, source, mtime_ns, "plain" if small else "chunks")

    def accept(self, path: RelPath, *, size: int = 0) -> None:
        """Raises the error that making a file of this size at `path` would meet, by its name alone."""
        self._info.names.insist(path, size=size)

    async def refuse_file_above(self, path: RelPath) -> None:
        """Raises NotADirectory when a parent is a file without metadata: the base knows no object there."""
        for above in () if self.settings.metadata else ancestors(path):
            found = await self.view.look(above)
            if found.is_file:
                raise NotADirectory(f"its parent {above!r} is not a directory", path=path)
            if found.exists:
                return

    async def _must_wrap(self, source: Source) -> bool:
        """Whether even a small file is kept in chunks, because of the options or of what it says."""
        if not self.settings.metadata:
            return True
        if self.settings.hashes_all and self.settings.hash_name not in self.base.info.hashes:
            return True
        if source.size > MAX_METADATA_BYTES:
            return False
        return is_metadata(await source.read(0, source.size))

    async def _put_plain(self, old: Layout, source: Source, mtime_ns: int | None) -> Entry:
        """A small file, as one object of its own name; then the chunks of the old version go."""
        main = await self.base.write(old.path, source, mtime_ns=mtime_ns, expect=pin(old.main))
        with trio.CancelScope(shield=True):
            await remove_pieces(self.view, old.chunks)
            await self.attempts.discard(old)
        self.view.remember(Layout(old.path, main, surveyed=False))
        return main

    async def _put_one(self, old: Layout, source: Source, mtime_ns: int | None) -> Entry:
        """Without metadata: a file of one chunk, put where it stays."""
        path = old.chunks[0].path if old.chunks else piece_path(self.view, old.path, 0, "")
        wanted = pin(old.chunks[0].entry if old.chunks else None)
        entry = await self.base.write(path, source, mtime_ns=mtime_ns, expect=wanted)
        piece = Piece(path, ChunkName(name_of(old.path), 0), entry)
        return self.view.remember(Layout(old.path, chunks=(piece,))).entry()

    async def _put_chunks(self, old: Layout, source: Source, mtime_ns: int | None, settle: Settle) -> Entry:
        """A file in chunks. While they travel others may change the file; then this raises Stale."""
        stage = Stage(self.view, self.journal, old, source)
        earlier = self.attempts.take(old.path)
        self.attempts.under_way.add(stage)
        try:
            staged = await stage.run(earlier, settle=settle, mtime_ns=mtime_ns)
            _insist_still(source, old.path)
            async with self.locks.hold(old.path):
                await self._insist_unchanged(old)
                made = await self._commit(old, staged, mtime_ns, stage)
        except BaseException as error:
            await self._give_up(stage, error, source, earlier)
            raise
        finally:
            self.attempts.under_way.discard(stage)
        await trio.to_thread.run_sync(self._remember, made, staged)
        return self.view.remember(made).entry()

    async def _insist_unchanged(self, old: Layout) -> None:
        """Without metadata no object stands for the whole file, so the base cannot check it for us."""
        if not self.settings.metadata:
            now = await self.view.look_for_leftovers(old.path)
            insist(now, old.entry().token if old.exists else ABSENT)

    async def _commit(self, old: Layout, staged: Staged, mtime_ns: int | None, stage: Stage) -> Layout:
        """Makes the staged version valid and settles it; what fails after the commit is finished later."""
        replaces = old.metadata.transaction if old.metadata is not None else ""
        with trio.CancelScope(shield=True):
            made = await make_valid(self.view, old, staged, mtime_ns=mtime_ns)
            stage.committed = True
            made = await finish(self.view, made, replaces=replaces, careful=old.is_file)
            await trio.to_thread.run_sync(self.journal.end, stage.noted)
        return made

    async def _give_up(
        self, stage: Stage, error: BaseException, source: Source, earlier: Sequence[Noted]
    ) -> None:
        """Removes the chunks of an upload that failed for good; else the next attempt takes them over."""
        moved_on = isinstance(error, Stale) and not source.still()
        for_good = isinstance(error, PathError) and not isinstance(error, Busy) and not moved_on
        try:
            if for_good and not stage.committed:
                await stage.abandon()
            elif not stage.committed:
                await stage.write_notes()
        finally:
            self.attempts.keep(stage, earlier)

    def _remember(self, made: Layout, staged: Staged) -> None:
        """Keeps the digests of the chunks, so that the next version sends only what changed."""
        if len(made.chunks) < 2:
            return
        chunks = [
            FinishedChunk(chunk.index, chunk.size, piece.entry.token, chunk.digest)
            for chunk, piece in zip(staged.finished, made.chunks, strict=True)
            if piece.entry.token
        ]
        self.journal.remember(made.path, chunks)

    async def delete(self, path: RelPath, *, expect: Expect = None) -> None:
        async with self.locks.hold(path):
            await self.attempts.settle(path)
            found = await self.view.look(path)
            insist_file(found)
            insist(found, expect)
            if found.is_chunked:
                await self._remove_chunks(found)
            else:
                await self.base.delete(path, expect=pin(found.main))
            self.view.forget(path)

    async def _remove_chunks(self, found: Layout) -> None:
        """First what makes the file exist; from then on it is gone, whatever happens."""
        order = _removal_order(found)
        record = RemovalRecord(to_bytes(found.path), [(to_bytes(at), token or "") for at, token in order])
        noted = await trio.to_thread.run_sync(self.journal.begin, record)
        with trio.CancelScope(shield=True):
            try:
                await self.base.delete(order[0][0], expect=order[0][1])
            except PathError:
                await trio.to_thread.run_sync(self.journal.end, noted)
                raise
            except MountsyncError:
                self.attempts.add([noted])
                raise
            self.attempts.add([noted])
            await self.attempts.settle(found.path)
        await trio.to_thread.run_sync(self.journal.forget, found.path)

    async def hashes(self, path: RelPath, *, expect: Expect = None) -> Mapping[str, str]:
        """Of a file in chunks what its metadata says, of a plain one what the base knows."""
        layout = await self.readable(path, expect)
        if layout.is_chunked:
            described = layout.metadata
            known = {"md5": described.md5, "sha1": described.sha1} if described is not None else {}
            return {name: value for name, value in known.items() if value}
        if isinstance(self.base, SupportsHashes):
            return await self.base.hashes(path, expect=pin(layout.main))
        return {}

    async def recover_attempts(self) -> None:
        """Finishes commits, moves and removals of an earlier process; its uploads can be resumed."""
        if isinstance(self.base, SupportsAttempts):
            await self.base.recover_attempts()
        await self.attempts.recover()

    async def survey(self, folder: RelPath, *, recursive: bool) -> Survey:
        """All files below `folder` as they lie on the base. Raises as `list` does."""
        try:
            return await self.view.survey(folder, recursive=recursive)
        except NotFound:
            if not self.settings.metadata and (await self.view.look(folder)).is_file:
                raise NotADirectory("it is not a directory", path=folder) from None
            raise

    async def aclose(self) -> None:
        await trio.to_thread.run_sync(self.journal.close)
        await self.base.aclose()


def _is_bare_or_new(old: Layout) -> bool:
    """Whether one chunk may be put directly: nothing but the only chunk of the old version is there."""
    return not old.left_over and len(old.chunks) <= 1 and not (old.main or old.stale or old.commit)


def _insist_still(source: Source, path: RelPath) -> None:
    if not source.still():
        raise Stale("the source changed while it was uploaded", path=path)


def _removal_order(found: Layout) -> list[tuple[RelPath, Token | None]]:
    """The object that makes the file exist, then all others that belong to it."""
    settled = [
        piece for piece in found.left_over if piece.name.index is not None and not piece.name.transaction
    ]
    pieces = sorted((*found.chunks, *settled), key=lambda piece: piece.name.index or 0)
    order = [(piece.path, piece.entry.token) for piece in pieces]
    if found.commit is not None:
        order.append((found.commit.path, found.commit.entry.token))
    if found.stale is not None:
        order.append((found.path, found.stale.token))
    return order if found.main is None else [(found.path, found.main.token), *order]


def _info(base: Storage, settings: Settings) -> StorageInfo:
    below, names = base.info, settings.names
    always = not settings.metadata or (settings.hashes_all and settings.hash_name not in below.hashes)
    known = settings.hash_name
    return replace(
        below,
        type="chunker",
        identity=settings.identity(below.identity),
        lies_in=below.lies_in or below.identity,
        names=chunker_names(below.names, names, chunk_size=settings.chunk_size, always=always),
        max_size=settings.max_size,
        hashes=below.hashes if known is None else below.hashes | {known},
    )
