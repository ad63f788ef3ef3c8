"""Brings a content to the base as hidden chunks, in parallel; nothing of it is visible before the commit.

Chunks that an interrupted upload has finished are taken over, and chunks that did not change since the
last version are not sent again. Both are decided by size, the base's token and the sha256 of the bytes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final

import trio

from mountsync.errors import TooLarge
from mountsync.formats.chunk_metadata import ChunkMetadata, Settle
from mountsync.formats.chunk_names import MAX_CHUNKS, TRANSACTION_CHANCES, ChunkName, transaction_id
from mountsync.model.entry import Entry
from mountsync.paths import RelPath, join, name_of, parent_of, to_bytes
from mountsync.storage.api import ABSENT, Source, SupportsAttributes, SupportsCopy
from mountsync.storage.chunker.claims import Claims
from mountsync.storage.chunker.content import RunningHash, Window, is_costly
from mountsync.storage.chunker.journal import FinishedChunk, Journal, Noted, UploadRecord
from mountsync.storage.chunker.layout import Layout, Piece
from mountsync.storage.chunker.objects import remove
from mountsync.storage.chunker.parallel import run_all
from mountsync.storage.chunker.view import View

NOTE_BYTES: Final = 4 << 20
NOTE_CHUNKS: Final = 100
"""Chunks are noted in the journal when so many bytes, or so many of them, are finished: what the death of
the process makes us send again at most. An error makes nothing be sent again."""


@dataclass(frozen=True, slots=True)
class Staged:
    """A content whose chunks are all on the base."""

    pieces: tuple[Piece, ...]
    """In order; some may be chunks of the version that is replaced."""
    metadata: ChunkMetadata
    finished: tuple[FinishedChunk, ...] = ()
    """Size and sha256 of each."""


def new_transaction(taken: Layout) -> str:
    """An id that no object of the file carries. Another writer may choose the same: see `claims`."""
    used = {piece.name.transaction for piece in taken.chunks + taken.left_over}
    while True:
        # Not a secret: it only should differ from those of other writers.
        made = transaction_id(int(time.time()), random.randrange(TRANSACTION_CHANCES))  # noqa: S311
        if made not in used:
            return made


def piece_path(view: View, path: RelPath, index: int, transaction: str) -> RelPath:
    """Where chunk `index` of the file at `path` lies."""
    return join(parent_of(path), view.settings.names.chunk(name_of(path), index, transaction))


def refuse_long_names(view: View, path: RelPath, chunks: int, transaction: str) -> None:
    """Raises NameTooLong when a chunk of the file would have a name that the base cannot hold."""
    refusal = view.base.info.names.refusal(piece_path(view, path, chunks - 1, transaction))
    if refusal is not None:
        raise type(refusal)(
            f"the names of its chunks cannot be held: {refusal.reason}", path=path, hint="use a shorter name"
        )


class Stage:
    """One upload of one file. Call `run`; then either commit what it gives, or `abandon`."""

    def __init__(self, view: View, journal: Journal, old: Layout, source: Source) -> None:
        """Raises TooLarge."""
        self._view = view
        self._journal = journal
        self._old = old
        self._source = source
        self._size = view.settings.chunk_size
        self._count = max(1, -(-source.size // self._size))
        self._pieces: dict[int, Piece] = {}
        self._finished: dict[int, FinishedChunk] = {}
        self._claims = Claims(view.base)
        self._appending = trio.Lock()
        self._to_note: list[FinishedChunk] = []
        self.begun = False
        """Whether there is a record of it."""
        self.committed = False
        """Whether its content is the valid version; set by whoever commits it."""
        if self._count > MAX_CHUNKS:
            raise TooLarge(f"a file in chunks has at most {MAX_CHUNKS} of them", path=old.path)

    async def run(self, attempts: list[Noted], *, settle: Settle, mtime_ns: int | None) -> Staged:
        """Uploads all chunks that are not there yet. `attempts` are earlier ones of the same path.

        When it raises, finished chunks stay for the next attempt, unless `abandon` is called; call
        `write_notes` so that it knows them.
        """
        await self._begin(attempts)
        self._mtime_ns = mtime_ns
        self._keeps = settle == "chunks"
        self._known = await trio.to_thread.run_sync(self._journal.recall, self._old.path)
        name = self._view.settings.hash_name
        whole = RunningHash(name) if name is not None else None
        await self._bring_all(whole)
        while self._claims.refused:
            await self._begin_anew()
            await self._bring_all(whole)
        return self._staged(name, await whole.finish(self._source) if whole is not None else "", settle)

    async def _bring_all(self, whole: RunningHash | None) -> None:
        """Sends all chunks, until one of them is found to be another writer's."""
        serial = is_costly(self._source)
        self._fed = whole if serial else None
        limit = 1 if serial else self._view.base.info.concurrency
        jobs: list[Callable[[], Awaitable[object]]] = [partial(self._bring, i) for i in range(self._count)]
        if whole is not None and not serial:
            jobs.insert(0, partial(whole.finish, self._source))
            limit += 1
        await run_all(_call, jobs, limit=limit)

    def _staged(self, hash_name: str | None, digest: str, settle: Settle) -> Staged:
        metadata = ChunkMetadata(
            self._source.size,
            self._count,
            md5=digest if hash_name == "md5" else "",
            sha1=digest if hash_name == "sha1" else "",
            transaction=self.transaction,
            settle="" if self._view.settings.norename and settle == "chunks" else settle,
        )
        order = range(self._count)
        return Staged(
            tuple(self._pieces[i] for i in order), metadata, tuple(self._finished[i] for i in order)
        )

    @property
    def transaction(self) -> str:
        """The id that the chunks of this upload carry."""
        return transaction_of(self.noted)

    async def abandon(self) -> None:
        """Removes what was uploaded."""
        if not self.begun:
            return
        with trio.CancelScope(shield=True):
            await self._claims.remove_all()
            await remove_pieces(self._view, _of_transaction(self._old, self.transaction))
            await trio.to_thread.run_sync(self._journal.end, self.noted)

    async def _begin(self, attempts: list[Noted]) -> None:
        """Takes over an earlier attempt that left something, or begins a new one."""
        self._reusable: dict[int, Piece] = {}
        for noted in attempts:
            there = self._still_there(noted)
            if there and not self._reusable:
                self.noted, self._reusable, self.begun = noted, there, True
                excess = [
                    p for p in _of_transaction(self._old, transaction_of(noted)) if p not in there.values()
                ]
                await remove_pieces(self._view, excess)
            else:
                await discard_attempt(self._view, self._journal, self._old, noted)
        if not self._reusable:
            await self._begin_new()

    async def _begin_anew(self) -> None:
        """Leaves an id that another writer uses too, for one of our own."""
        await self.abandon()
        self._claims = Claims(self._view.base)
        self._reusable, self._pieces, self._finished, self._to_note = {}, {}, {}, []
        await self._begin_new()

    async def _begin_new(self) -> None:
        transaction = new_transaction(self._old)
        refuse_long_names(self._view, self._old.path, self._count, transaction)
        replaces = self._old.metadata.transaction if self._old.metadata is not None else ""
        record = UploadRecord(to_bytes(self._old.path), transaction, replaces)
        self.noted = await trio.to_thread.run_sync(self._journal.begin, record)
        self.begun = True

    def _still_there(self, noted: Noted) -> dict[int, Piece]:
        """Finished chunks of an attempt that are on the base as they were left."""
        return {
            piece.name.index: piece
            for piece in _of_transaction(self._old, transaction_of(noted))
            if piece.name.index is not None
            and piece.name.index < self._count
            and (chunk := noted.finished.get(piece.name.index)) is not None
            and chunk.token == piece.entry.token
        }

    async def _bring(self, index: int) -> None:
        """Makes sure that chunk `index` is on the base, and notes it."""
        if self._claims.refused:
            return
        offset = index * self._size
        window = Window(self._source, offset, min(self._size, self._source.size - offset), self._fed)
        piece = await self._taken_over(index, window) or await self._unchanged(index, window)
        if piece is None and not self._claims.refused:
            piece = await self._sent(index, window)
        if piece is None:
            return
        self._pieces[index] = piece
        token = piece.entry.token or ""
        chunk = FinishedChunk(index, window.size, token, await window.digest())
        self._finished[index] = chunk
        if piece.name.transaction == self.transaction and token and self._count > 1:
            self._to_note.append(chunk)
            waiting = self._to_note
            if len(waiting) >= NOTE_CHUNKS or sum(each.size for each in waiting) >= NOTE_BYTES:
                await self.write_notes()

    async def write_notes(self) -> None:
        """Brings to the journal which chunks are finished, for the next attempt."""
        with trio.CancelScope(shield=True):
            async with self._appending:
                await self._write_notes()

    async def _write_notes(self) -> None:
        chunks, self._to_note = self._to_note, []
        if chunks and not self.noted.ended:
            await trio.to_thread.run_sync(self._journal.note_chunks, self.noted, chunks)

    async def _taken_over(self, index: int, window: Window) -> Piece | None:
        """The chunk of an interrupted upload, when it holds the same bytes."""
        piece = self._reusable.get(index)
        if piece is None:
            return None
        if await _same(self.noted.finished[index], piece, window):
            return piece
        # Under our transaction it would count before a chunk of the old version that is kept.
        await remove(self._view.base, piece.path, piece.entry.token)
        return None

    async def _unchanged(self, index: int, window: Window) -> Piece | None:
        """The chunk of the version that is replaced, when it holds the same bytes."""
        known, base = self._known.get(index), self._view.base
        piece = next((p for p in self._old.chunks if p.name.index == index), None)
        if known is None or piece is None or not self._may_keep(index):
            return None
        if not await _same(known, piece, window):
            return None
        if (
            piece.path == piece_path(self._view, self._old.path, index, "")
            and not self._view.settings.norename
        ):
            return piece
        if not isinstance(base, SupportsCopy):
            return None
        path = piece_path(self._view, self._old.path, index, self.transaction)
        copy = partial(base.copy, piece.path, path, expect=piece.entry.token, replace=ABSENT)
        entry = await self._claims.make(path, copy)
        return None if entry is None else self._hidden(index, path, entry)

    def _may_keep(self, index: int) -> bool:
        """Without metadata the first chunk carries the file's time and is made anew."""
        return self._keeps and (self._view.settings.metadata or index > 0)

    async def _sent(self, index: int, window: Window) -> Piece | None:
        """The chunk, uploaded under the transaction's name, with the mode of the file."""
        base, old = self._view.base, self._old
        path = piece_path(self._view, old.path, index, self.transaction)
        write = partial(base.write, path, window, mtime_ns=self._mtime_ns, expect=ABSENT)
        entry = await self._claims.make(path, write)
        if entry is None:
            return None
        mode = old.first.mode if old.is_file else None
        if mode is not None and mode != entry.mode and isinstance(base, SupportsAttributes):
            entry = await base.set_mode(path, mode)
            self._claims.changed(path, entry)
        return self._hidden(index, path, entry)

    def _hidden(self, index: int, path: RelPath, entry: Entry) -> Piece:
        return Piece(path, ChunkName(name_of(self._old.path), index, transaction=self.transaction), entry)


async def discard_attempt(view: View, journal: Journal, old: Layout, noted: Noted) -> None:
    """Removes what an interrupted upload left, as far as `old` shows it, and forgets the attempt."""
    await remove_pieces(view, _of_transaction(old, transaction_of(noted)))
    await trio.to_thread.run_sync(journal.end, noted)


async def remove_pieces(view: View, pieces: Iterable[Piece]) -> None:
    """Deletes these versions of these objects; those that have gone or changed are passed over."""

    async def one(piece: Piece) -> None:
        await remove(view.base, piece.path, piece.entry.token)

    await run_all(one, pieces, limit=view.base.info.concurrency)


def transaction_of(noted: Noted) -> str:
    """The transaction of an upload's record."""
    assert isinstance(noted.record, UploadRecord)
    return noted.record.transaction


def _of_transaction(layout: Layout, transaction: str) -> list[Piece]:
    """Leftovers with this transaction's suffix."""
    return [piece for piece in layout.left_over if piece.name.transaction == transaction]


async def _same(known: FinishedChunk, piece: Piece, window: Window) -> bool:
    """Whether a chunk of which the digest is known holds the bytes of the window."""
    if (piece.entry.token, piece.entry.size, known.size) != (known.token, window.size, window.size):
        return False
    return await window.digest() == known.digest


async def _call(job: Callable[[], Awaitable[object]]) -> None:
    await job()
