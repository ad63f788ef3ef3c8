"""Moves and copies inside the base, object by object: no byte comes through us, no hash is needed.

A move is written down before its first step, and is rolled forward after a crash, or back when a step
fails. A copy becomes valid in one step, or its objects are removed again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import trio

from mountsync.errors import AlreadyExists, Corrupt, MountsyncError, NotFound, PathError, Stale
from mountsync.formats.chunk_metadata import ChunkMetadata, Settle, decode_metadata, encode_metadata
from mountsync.formats.chunk_names import ChunkName
from mountsync.model.entry import Token
from mountsync.paths import RelPath, from_bytes, join, name_of, parent_of, to_bytes
from mountsync.storage.api import ABSENT, Enforcement, Expect, Storage, SupportsCopy, SupportsMove
from mountsync.storage.chunker.claims import Claims
from mountsync.storage.chunker.journal import Journal, MoveRecord, Noted, UploadRecord
from mountsync.storage.chunker.layout import MOVING_WORD, Layout, Piece
from mountsync.storage.chunker.objects import is_there, relocate, remove
from mountsync.storage.chunker.parallel import run_all
from mountsync.storage.chunker.replace import (
    commit,
    finish,
    is_free,
    make_valid,
    take_back,
    unfinished,
)
from mountsync.storage.chunker.stage import Staged, new_transaction, piece_path, refuse_long_names
from mountsync.storage.chunker.view import View

Made: TypeAlias = dict[bytes, Token | None]
"""The tokens that objects have at the places where this process took them."""


@dataclass(frozen=True, slots=True)
class Step:
    """One object of a file and where it goes."""

    source: RelPath
    target: RelPath
    token: Token | None
    size: int = 0


def phases_in_place(view: View, source: Layout, target: Layout) -> list[list[Step]]:
    """Every object to its final name, where no chunk of the target has these names.

    The metadata is never anywhere without a chunk beside it, which rclone would take for a small file,
    and replaces what is at the target in the last step.
    """
    first, *others = [_renamed(piece, target.path) for piece in source.chunks]
    assert source.main is not None
    own = source.main.token
    if others and not target.exists:
        return [others, [Step(source.path, target.path, own)], [first]]
    aside = _aside(view, target.path)
    return [others, [Step(source.path, aside, own)], [first], [Step(aside, target.path, own)]]


def phases_hidden(view: View, source: Layout, target: RelPath, transaction: str) -> list[list[Step]]:
    """The data to names under a transaction of the target, the metadata aside."""
    first, *others = steps_hidden(view, source, target, transaction)
    if not source.chunks:
        return [[first]]
    if source.main is None:
        return [[first], others]
    return [others, [Step(source.path, _aside(view, target), source.main.token)], [first]]


def _aside(view: View, target: RelPath) -> RelPath:
    """Where metadata is while a file is moved: a control object, which everybody passes over."""
    return join(parent_of(target), view.settings.names.control(name_of(target), MOVING_WORD))


def steps_hidden(view: View, source: Layout, target: RelPath, transaction: str) -> list[Step]:
    """Every chunk, or the plain object, to a name under a transaction of the target."""
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
    """Whether the objects can go straight to their final names: nothing of the target is in the way.

    Not where several machines may write the target: one whose commit comes first removes what it finds
    in the places of its chunks, and that would be all there is of the source's.
    """
    if view.base.info.enforcement is Enforcement.ATOMIC:
        return False
    if source.main is None or not source.chunks or not view.settings.metadata or not is_free(target):
        return False
    taken = {piece.path for piece in (*target.left_over, *target.chunks)}
    return not any(step.target in taken for steps in phases_in_place(view, source, target) for step in steps)


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
        made: Made = {}
        with trio.CancelScope(shield=True):
            try:
                await self._forward(noted.record, made)
            except MountsyncError:
                await self._back(noted, made)
                raise
            await trio.to_thread.run_sync(self._journal.end, noted)

    async def resume(self, noted: Noted) -> None:
        """Finishes a move that an earlier process, or a failed call, left half done."""
        record = noted.record
        assert isinstance(record, MoveRecord)
        made: Made = {}
        with trio.CancelScope(shield=True):
            if not await self._is_over(record):
                try:
                    await self._forward(record, made)
                except (Stale, Corrupt, AlreadyExists):
                    await self._back(noted, made)
                    raise
            await trio.to_thread.run_sync(self._journal.end, noted)

    def _noted(self, record: MoveRecord) -> Noted:
        return self._journal.begin(record, durable=True)

    def _record(self, source: Layout, target: Layout) -> MoveRecord:
        view = self._view
        if may_go_in_place(view, source, target):
            refuse_long_names(view, target.path, len(source.chunks), _longest(source))
            return MoveRecord(
                to_bytes(source.path),
                to_bytes(target.path),
                _wire(phases_in_place(view, source, target)),
                replaces=_token_of(target),
                rest=[(to_bytes(piece.path), piece.entry.token or "") for piece in target.chunks],
            )
        transaction = new_transaction(target)
        refuse_long_names(view, target.path, max(1, len(source.chunks)), transaction)
        rest = [(to_bytes(_aside(view, target.path)), "")] if source.chunks and source.main else []
        if source.stale is not None:
            rest.append((to_bytes(source.path), source.stale.token or ""))
        return MoveRecord(
            to_bytes(source.path),
            to_bytes(target.path),
            _wire(phases_hidden(view, source, target.path, transaction)),
            metadata=encode_metadata(metadata_for(view, source, transaction)),
            replaces=_token_of(target),
            rest=rest,
            mtime_ns=source.first.mtime_ns,
        )

    async def _forward(self, record: object, made: Made) -> None:
        assert isinstance(record, MoveRecord)
        if not await self._is_valid(record):
            await self._take(record, made, back=False)
        if record.metadata:
            await self._commit(record)
        else:
            await self._remove_rest(record)
        for path in (record.path, record.target):
            self._view.forget(from_bytes(path))

    async def _take(self, record: MoveRecord, made: Made, *, back: bool) -> None:
        """All phases in their order, or all of them back.

        What a step put somewhere may have another token there. After a crash nobody knows it: then what
        is at such a place is taken for it.
        """
        steps = [step for phase in record.phases for step in phase]
        onward = {step[1]: step[0] for step in steps} if back else {step[0]: step[1] for step in steps}
        ours = {step[1] for step in steps}

        async def one(step: tuple[bytes, bytes, str]) -> None:
            source, target = (step[1], step[0]) if back else (step[0], step[1])
            expect = made.get(source) if source in ours else Token(step[2]) or None
            if back:
                await self._undo(source, target, expect, onward)
                return
            replace = Token(record.replaces) if target == record.target and record.replaces else ABSENT
            made[target] = await self._once(source, target, expect, onward, replace)

        for phase in reversed(record.phases) if back else record.phases:
            await run_all(one, phase, limit=self._view.base.info.concurrency)

    async def _undo(self, start: bytes, end: bytes, expect: Expect, onward: dict[bytes, bytes]) -> None:
        """One step back. Where its object still is at the old place it was not taken: what has its new
        name is another writer's.
        """
        base, source, target = self._view.base, from_bytes(start), from_bytes(end)
        if await is_there(base, target):
            await _remove_twin(base, source, target)
        else:
            await self._once(start, end, expect, onward, ABSENT)

    async def _once(
        self, start: bytes, end: bytes, expect: Expect, onward: dict[bytes, bytes], replace: Expect
    ) -> Token | None:
        """One step, done or found done, by where the object is now or where later steps took it.

        Gives its token at the new place, None where that is not known. Raises Corrupt when the object is
        nowhere.
        """
        base, source, target = self._view.base, from_bytes(start), from_bytes(end)
        try:
            return (await relocate(base, source, target, expect=expect, replace=replace)).token
        except NotFound:
            if not await self._is_further(end, onward):
                raise Corrupt("a chunk went away while the file was moved", path=source) from None
        except AlreadyExists:
            if not await _remove_twin(base, source, target):
                raise
        return None

    async def _is_further(self, place: bytes, onward: dict[bytes, bytes]) -> bool:
        """Whether an object is at this place, or at one to which later steps take it."""
        at: bytes | None = place
        while at is not None:
            if await is_there(self._view.base, from_bytes(at)):
                return True
            at = onward.get(at)
        return False

    async def _commit(self, record: MoveRecord) -> None:
        """Makes the hidden objects at the target the valid version, then ends the source."""
        target = from_bytes(record.target)
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
        await self._remove_rest(record)
        await finish(self._view, old, replaces=replaces, careful=True)

    async def _remove_rest(self, record: MoveRecord) -> None:
        for path, token in record.rest:
            await remove(self._view.base, from_bytes(path), Token(token) if token else None)

    async def _is_over(self, record: MoveRecord) -> bool:
        """Whether not even the first step was taken, or all is done: then there is nothing to resume."""
        steps = [step for phase in record.phases for step in phase]
        starts = {from_bytes(step[0]) for step in steps} - {from_bytes(step[1]) for step in steps}
        left = [start for start in starts if await is_there(self._view.base, start)]
        if len(left) == len(starts):
            return True
        if left or not record.metadata:
            return False
        hidden = [from_bytes(step[1]) for step in steps]
        if any([await is_there(self._view.base, at) for at in hidden]):
            return False
        found = await self._view.look_around(from_bytes(record.target))
        if unfinished(found):
            return False
        await take_back(self._view, found)
        return True

    async def _back(self, noted: Noted, made: Made) -> None:
        """Undoes the steps of a move that cannot be finished, unless it became valid already.

        When that fails too the record stays, and the move is taken up again later.
        """
        record = noted.record
        assert isinstance(record, MoveRecord)
        if await self._is_valid(record):
            return
        await self._take(record, made, back=True)
        await trio.to_thread.run_sync(self._journal.end, noted)

    async def _is_valid(self, record: MoveRecord) -> bool:
        """Whether the target became valid under the record's transaction."""
        if not record.metadata:
            return False
        found = await self._view.look(from_bytes(record.target))
        transaction = decode_metadata(record.metadata).transaction
        return found.metadata is not None and found.metadata.transaction == transaction


async def copy_chunks(view: View, journal: Journal, source: Layout, target: Layout) -> Layout:
    """Copies a file in chunks, or onto one. Raises Corrupt for a damaged source; then nothing changed."""
    transaction = new_transaction(target)
    refuse_long_names(view, target.path, max(1, len(source.chunks)), transaction)
    metadata = metadata_for(view, source, transaction)
    steps = steps_hidden(view, source, target.path, transaction)
    replaces = target.metadata.transaction if target.metadata is not None else ""
    record = UploadRecord(to_bytes(target.path), transaction, replaces)
    noted = await trio.to_thread.run_sync(journal.begin, record)
    claims = Claims(view.base)
    try:
        pieces = await _copied(view, steps, target.path, transaction, claims)
    except BaseException:
        await claims.remove_all()
        journal.end(noted)
        raise
    with trio.CancelScope(shield=True):
        made = await _copy_made(view, target, Staged(pieces, metadata), source.first.mtime_ns, claims)
        made = await finish(view, made, replaces=replaces, careful=target.is_file)
        await trio.to_thread.run_sync(journal.end, noted)
    return view.remember(made)


async def _copy_made(
    view: View, target: Layout, staged: Staged, mtime_ns: int | None, claims: Claims
) -> Layout:
    """Commits a copy; its objects go when that fails for good."""
    try:
        return await make_valid(view, target, staged, mtime_ns=mtime_ns)
    except PathError:
        await claims.remove_all()
        raise


async def _copied(
    view: View, steps: list[Step], target: RelPath, transaction: str, claims: Claims
) -> tuple[Piece, ...]:
    base = view.base
    assert isinstance(base, SupportsCopy)
    made: dict[int, Piece] = {}

    async def one(item: tuple[int, Step]) -> None:
        index, step = item
        copy = partial(base.copy, step.source, step.target, expect=step.token, replace=ABSENT)
        entry = None if claims.refused else await claims.make(step.target, copy)
        if entry is None:
            return
        if entry.size != step.size:
            raise Corrupt(f"the copy of a chunk has {entry.size} bytes, not {step.size}", path=step.source)
        made[index] = Piece(step.target, ChunkName(name_of(target), index, transaction=transaction), entry)

    await run_all(one, enumerate(steps), limit=base.info.concurrency)
    if claims.refused:
        raise Stale("another writer is at it, under the same transaction", path=target)
    return tuple(made[index] for index in range(len(steps)))


def _pieces_of(layout: Layout, described: ChunkMetadata) -> tuple[Piece, ...]:
    """The hidden chunks of a transaction, in order. Raises Corrupt when they are not what is described."""
    own = [piece for piece in layout.left_over if piece.name.transaction == described.transaction]
    own.sort(key=lambda piece: piece.name.index or 0)
    size = sum(piece.entry.size for piece in own)
    if (len(own), size) != (described.chunks, described.size):
        raise Corrupt("chunks went away while the file was moved", path=layout.path)
    return tuple(own)


async def _remove_twin(base: Storage, source: RelPath, target: RelPath) -> bool:
    """A base that copies and deletes may have been stopped between the two: then the source goes."""
    if isinstance(base, SupportsMove):
        return False
    one, other = await base.stat(source), await base.stat(target)
    if one is None or other is None or (one.size, one.mtime_ns) != (other.size, other.mtime_ns):
        return False
    await remove(base, source, one.token)
    return True


def _token_of(layout: Layout) -> str:
    return (layout.main.token or "") if layout.main is not None else ""


def _longest(source: Layout) -> str:
    return max((piece.name.transaction for piece in source.chunks), key=len, default="")


def _wire(phases: list[list[Step]]) -> list[list[tuple[bytes, bytes, str]]]:
    return [
        [(to_bytes(step.source), to_bytes(step.target), step.token or "") for step in steps]
        for steps in phases
    ]
