"""Moves and copies inside the base, object by object: no byte comes through us, no hash is needed.

A move is written down before its first step, and is rolled forward after a crash, or back when a step
fails. A copy becomes valid in one step, or its objects are removed again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import trio

from mountsync.errors import AlreadyExists, Corrupt, MountsyncError, NotFound, PathError, Stale
from mountsync.formats.chunk_metadata import ChunkMetadata, Settle, decode_metadata, encode_metadata
from mountsync.formats.chunk_names import ChunkName
from mountsync.model.entry import Token
from mountsync.paths import RelPath, from_bytes, join, name_of, parent_of, to_bytes
from mountsync.storage.api import ABSENT, Storage, SupportsCopy, SupportsMove
from mountsync.storage.chunker.journal import Journal, MoveRecord, Noted
from mountsync.storage.chunker.layout import Layout, Piece
from mountsync.storage.chunker.objects import is_there, relocate, remove
from mountsync.storage.chunker.parallel import run_all
from mountsync.storage.chunker.replace import commit, finish
from mountsync.storage.chunker.stage import Staged, new_transaction, piece_path, refuse_long_names
from mountsync.storage.chunker.view import View


@dataclass(frozen=True, slots=True)
class Step:
    """One object of a file and where it goes."""

    source: RelPath
    target: RelPath
    token: Token | None
    size: int = 0


def steps_in_place(source: Layout, target: RelPath) -> list[Step]:
    """Every object to its final name at a target where nothing is; the one that counts goes last."""
    steps = [_renamed(piece, target) for piece in source.chunks]
    assert source.main is not None
    return [*steps, Step(source.path, target, source.main.token)]


def steps_hidden(view: View, source: Layout, target: RelPath, transaction: str) -> list[Step]:
    """The data to names under a transaction of the target."""
    if source.chunks:
        return [_step(view, piece, target, transaction) for piece in source.chunks]
    assert source.main is not None
    path = piece_path(view, target, 0, transaction)
    return [Step(source.path, path, source.main.token, source.main.size)]


def _renamed(piece: Piece, target: RelPath) -> Step:
    """A chunk under the target's name, what follows the name unchanged."""
    suffix = name_of(piece.path).removeprefix(piece.name.base)
    path = join(parent_of(target), name_of(target) + suffix)
    return Step(piece.path, path, piece.entry.token, piece.entry.size)


def _step(view: View, piece: Piece, target: RelPath, transaction: str) -> Step:
    path = piece_path(view, target, piece.name.index or 0, transaction)
    return Step(piece.path, path, piece.entry.token, piece.entry.size)


def may_go_in_place(view: View, source: Layout, target: Layout) -> bool:
    """Whether the objects can go straight to their final names: nothing of the target is in the way."""
    names = {piece.path for piece in target.left_over}
    free = not target.exists and target.stale is None
    return (
        free
        and source.main is not None
        and view.settings.metadata
        and not any(step.target in names for step in steps_in_place(source, target.path))
        and not any(piece.name.index is not None and not piece.name.transaction for piece in target.left_over)
    )


def metadata_for(view: View, source: Layout, transaction: str) -> ChunkMetadata:
    """What makes the hidden chunks of a moved or copied file valid. Raises Corrupt for a damaged one."""
    refusal = source.refusal()
    if refusal is not None:
        raise refusal
    described = source.metadata
    plain = not source.chunks and view.settings.metadata
    settle: Settle = "plain" if plain else "" if view.settings.norename else "chunks"
    size = source.entry().size
    return ChunkMetadata(
        size,
        max(1, len(source.chunks)),
        md5=described.md5 if described is not None else "",
        sha1=described.sha1 if described is not None else "",
        transaction=transaction,
        settle=settle,
    )


class Mover:
    """Carries out moves, and finishes those of earlier processes."""

    def __init__(self, view: View, journal: Journal) -> None:
        self._view = view
        self._journal = journal

    async def move(self, source: Layout, target: Layout) -> None:
        """Takes a file in chunks, or onto one, to another name. Both are as they were just seen.

        Raises what the first failing step raised; then the source is as it was, or, when the base
        went out of reach meanwhile, the move is finished later.
        """
        noted = await trio.to_thread.run_sync(self._noted, self._record(source, target))
        with trio.CancelScope(shield=True):
            try:
                await self._forward(noted.record)
            except MountsyncError:
                await self._back(noted)
                raise
            await trio.to_thread.run_sync(self._journal.end, noted)

    async def resume(self, noted: Noted) -> None:
        """Finishes a move that an earlier process, or a failed call, left half done."""
        assert isinstance(noted.record, MoveRecord)
        if await self._untouched(noted.record):
            await trio.to_thread.run_sync(self._journal.end, noted)
            return
        try:
            await self._forward(noted.record)
        except (Stale, Corrupt):
            await self._back(noted)
            raise
        await trio.to_thread.run_sync(self._journal.end, noted)

    def _noted(self, record: MoveRecord) -> Noted:
        return self._journal.begin(record, durable=True)

    def _record(self, source: Layout, target: Layout) -> MoveRecord:
        view = self._view
        if may_go_in_place(view, source, target):
            refuse_long_names(view, target.path, len(source.chunks), _longest(source))
            steps = steps_in_place(source, target.path)
            return MoveRecord(to_bytes(source.path), to_bytes(target.path), _wire(steps))
        transaction = new_transaction(target)
        count = max(1, len(source.chunks))
        refuse_long_names(view, target.path, count, transaction)
        steps = steps_hidden(view, source, target.path, transaction)
        own = source.stale or (source.main if source.chunks else None)
        return MoveRecord(
            to_bytes(source.path),
            to_bytes(target.path),
            _wire(steps),
            metadata=encode_metadata(metadata_for(view, source, transaction)),
            replaces=(target.main.token or "") if target.main is not None else "",
            source_main=(own.token or "") if own is not None else "",
            mtime_ns=source.first.mtime_ns,
        )

    async def _forward(self, record: object) -> None:
        assert isinstance(record, MoveRecord)
        await self._take(record, back=False)
        if record.metadata:
            await self._commit(record)
        for path in (record.path, record.target):
            self._view.forget(from_bytes(path))

    async def _take(self, record: MoveRecord, *, back: bool) -> None:
        """All steps but the last one in parallel, then the last; or the other way round."""

        async def one(step: tuple[bytes, bytes, str]) -> None:
            source, target = from_bytes(step[0]), from_bytes(step[1])
            token = Token(step[2])
            await (self._once(target, source, token) if back else self._once(source, target, token))

        limit = self._view.base.info.concurrency
        first, last = record.steps[:-1], record.steps[-1:]
        for part in (last, first) if back else (first, last):
            await run_all(one, part, limit=limit)

    async def _once(self, source: RelPath, target: RelPath, token: Token) -> None:
        """One step, done or found done. Raises Corrupt when the object is at neither end."""
        base = self._view.base
        try:
            await relocate(base, source, target, expect=token or None)
        except NotFound:
            if not await is_there(base, target):
                raise Corrupt("a chunk went away while the file was moved", path=source) from None
        except AlreadyExists:
            # A base that copies and deletes may have been stopped between the two.
            if isinstance(base, SupportsMove) or not await _are_twins(base, source, target):
                raise
            await remove(base, source, token or None)

    async def _commit(self, record: MoveRecord) -> None:
        """Makes the hidden objects at the target the valid version, then ends the source."""
        source, target = from_bytes(record.path), from_bytes(record.target)
        described = decode_metadata(record.metadata)
        old = await self._view.look_around(target)
        replaces = ""
        if old.metadata is None or old.metadata.transaction != described.transaction:
            found = (old.main.token or "") if old.main is not None else ""
            if found != record.replaces:
                raise Stale("another writer changed the target while a file was moved to it", path=target)
            replaces = old.metadata.transaction if old.metadata is not None else ""
            staged = Staged(_pieces_of(old, described), described)
            old = await commit(self._view, old, staged, mtime_ns=record.mtime_ns)
        if record.source_main:
            await remove(self._view.base, source, Token(record.source_main))
        await finish(self._view, old, replaces=replaces, careful=True)

    async def _untouched(self, record: MoveRecord) -> bool:
        """Whether not even the first step was taken."""
        base = self._view.base
        for source, target, _ in record.steps:
            if await is_there(base, from_bytes(target)) or not await is_there(base, from_bytes(source)):
                return False
        return True

    async def _back(self, noted: Noted) -> None:
        """Undoes the steps of a move that cannot be finished, unless it became valid already.

        When that fails too the record stays, and the move is taken up again later.
        """
        record = noted.record
        assert isinstance(record, MoveRecord)
        if await self._is_valid(record):
            return
        await self._take(record, back=True)
        await trio.to_thread.run_sync(self._journal.end, noted)

    async def _is_valid(self, record: MoveRecord) -> bool:
        target = from_bytes(record.target)
        if not record.metadata:
            source = from_bytes(record.path)
            return await is_there(self._view.base, target) and not await is_there(self._view.base, source)
        found = await self._view.look(target)
        transaction = decode_metadata(record.metadata).transaction
        return found.metadata is not None and found.metadata.transaction == transaction


async def copy_chunks(view: View, source: Layout, target: Layout) -> Layout:
    """Copies a file in chunks, or onto one. Raises Corrupt for a damaged source; then nothing changed."""
    transaction = new_transaction(target)
    refuse_long_names(view, target.path, max(1, len(source.chunks)), transaction)
    metadata = metadata_for(view, source, transaction)
    steps = steps_hidden(view, source, target.path, transaction)
    try:
        pieces = await _copied(view, steps, target.path, transaction)
    except BaseException:
        await _drop(view, steps)
        raise
    replaces = target.metadata.transaction if target.metadata is not None else ""
    with trio.CancelScope(shield=True):
        try:
            made = await commit(view, target, Staged(pieces, metadata), mtime_ns=source.first.mtime_ns)
        except PathError:
            await _drop(view, steps)
            raise
        made = await finish(view, made, replaces=replaces, careful=target.is_file)
    return view.remember(made)


async def _copied(view: View, steps: list[Step], target: RelPath, transaction: str) -> tuple[Piece, ...]:
    base = view.base
    assert isinstance(base, SupportsCopy)
    made: dict[int, Piece] = {}

    async def one(item: tuple[int, Step]) -> None:
        index, step = item
        entry = await base.copy(step.source, step.target, expect=step.token, replace=ABSENT)
        if entry.size != step.size:
            raise Corrupt(f"the copy of a chunk has {entry.size} bytes, not {step.size}", path=step.source)
        made[index] = Piece(step.target, ChunkName(name_of(target), index, transaction=transaction), entry)

    await run_all(one, enumerate(steps), limit=base.info.concurrency)
    return tuple(made[index] for index in range(len(steps)))


async def _drop(view: View, steps: Iterable[Step]) -> None:
    async def one(step: Step) -> None:
        await remove(view.base, step.target, None)

    with trio.CancelScope(shield=True):
        await run_all(one, steps, limit=view.base.info.concurrency)


def _pieces_of(layout: Layout, described: ChunkMetadata) -> tuple[Piece, ...]:
    """The hidden chunks of a transaction, in order. Raises Corrupt when they are not what is described."""
    own = [piece for piece in layout.left_over if piece.name.transaction == described.transaction]
    own.sort(key=lambda piece: piece.name.index or 0)
    size = sum(piece.entry.size for piece in own)
    if (len(own), size) != (described.chunks, described.size):
        raise Corrupt("chunks went away while the file was moved", path=layout.path)
    return tuple(own)


async def _are_twins(base: Storage, source: RelPath, target: RelPath) -> bool:
    """Whether the target is the copy of the source that an earlier step made."""
    one, other = await base.stat(source), await base.stat(target)
    return one is not None and other is not None and (one.size, one.mtime_ns) == (other.size, other.mtime_ns)


def _longest(source: Layout) -> str:
    return max((piece.name.transaction for piece in source.chunks), key=len, default="")


def _wire(steps: list[Step]) -> list[tuple[bytes, bytes, str]]:
    return [(to_bytes(step.source), to_bytes(step.target), step.token or "") for step in steps]
