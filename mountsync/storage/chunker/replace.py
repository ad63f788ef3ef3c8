"""The commit of a new version, and what is left to do after it.

The commit is one step, the replacement of the object of the file's own name. Where the final names of
the new chunks are free they are taken first, and the commit is the end. Where chunks of the old
version have these names, and in `norename` mode, the new chunks stay under their transaction and the
metadata names it. Before the commit the old version stands, after it the new one.

In `norename` mode nothing but removing the old chunks is left then, and rclone reads old or new at
every moment. In `rename` mode the metadata carries `settle` as long as chunks lose their suffix, so
that every mountsync, on any machine, reads the new version meanwhile and can finish the work. rclone
reads the old version, then nothing, then the new one: the order of the steps sees to it that there is
never a set of chunks that passes for a whole file and is not one, and that metadata is never without
any chunk, which rclone would take for a small file.

Without metadata a control object carries what the metadata would say; rclone passes it over.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Final

from mountsync.errors import AlreadyExists, NotFound, PathError, Stale
from mountsync.formats.chunk_metadata import ChunkMetadata, encode_metadata
from mountsync.formats.chunk_names import ChunkName
from mountsync.model.entry import Entry, Token
from mountsync.paths import RelPath, join, name_of, parent_of
from mountsync.storage.api import ABSENT, Enforcement
from mountsync.storage.chunker.layout import COMMIT_WORD, Layout, Piece
from mountsync.storage.chunker.objects import barrier, is_there, pin, relocate, remove
from mountsync.storage.chunker.parallel import run_all
from mountsync.storage.chunker.stage import Staged, piece_path, remove_pieces
from mountsync.storage.chunker.view import View
from mountsync.storage.sources import BytesSource

_TRIES: Final = 3


async def commit(view: View, old: Layout, staged: Staged, *, mtime_ns: int | None) -> Layout:
    """Makes the staged content the valid version, in one step. Raises Stale when `old` is not the last.

    Every chunk is safe from power loss before, where there is an old version to lose.
    """
    if old.is_file:
        await barrier(view.base)
    used = {piece.path for piece in staged.pieces}
    left = tuple(piece for piece in (*old.chunks, *old.left_over) if piece.path not in used)
    body = BytesSource(encode_metadata(staged.metadata))
    if view.settings.metadata:
        main = await view.base.write(old.path, body, mtime_ns=mtime_ns, expect=pin(old.main))
        return Layout(old.path, main, staged.pieces, staged.metadata, left_over=left)
    name = view.settings.names.control(name_of(old.path), COMMIT_WORD)
    path = join(parent_of(old.path), name)
    entry = await view.base.write(path, body, mtime_ns=mtime_ns, expect=ABSENT)
    piece = Piece(path, ChunkName(name_of(old.path), control=COMMIT_WORD), entry)
    await _insist_replaced(view, old, piece)
    stale = old.stale if old.main is None else old.main
    return Layout(old.path, None, staged.pieces, staged.metadata, commit=piece, stale=stale, left_over=left)


async def _insist_replaced(view: View, old: Layout, ours: Piece) -> None:
    """Without metadata: takes the commit back and raises Stale when it is of another version than `old`.

    The control object is not there before and after another writer's change, so that the base cannot
    tell for us whether there was one since we looked. While it is there, no other of ours changes the file.
    """
    now = await view.look_around(old.path)
    if _versions(now) != _versions(old):
        await remove(view.base, ours.path, ours.entry.token)
        raise Stale("another writer changed the file while it was uploaded", path=old.path)


def _versions(layout: Layout) -> set[tuple[RelPath, Token | None]]:
    """The objects that make up a file without metadata, whatever a commit says that is under way."""
    settled = filter(_is_settled, (*layout.chunks, *layout.left_over))
    found = {(piece.path, piece.entry.token) for piece in settled}
    own = layout.main or layout.stale
    return found if own is None else found | {(layout.path, own.token)}


def is_free(old: Layout) -> bool:
    """Whether new chunks can take their final names before the commit: no chunk is there.

    One without a file may be that of another writer, who is about to make its own commit.
    """
    return not any(map(_is_settled, (*old.chunks, *old.left_over)))


async def make_valid(view: View, old: Layout, staged: Staged, *, mtime_ns: int | None) -> Layout:
    """Commits the staged content in the way that suits the base. Raises Stale as `commit`.

    Where the base itself guards expectations, several machines may write one name, and only `commit`
    lets the base decide between them before anything of the old version is touched.
    """
    guarded = view.base.info.enforcement is Enforcement.ATOMIC
    named = view.settings.metadata and staged.metadata.settle == "chunks"
    way = _commit_in_place if named and is_free(old) and not guarded else commit
    return await way(view, old, staged, mtime_ns=mtime_ns)


async def _commit_in_place(view: View, old: Layout, staged: Staged, *, mtime_ns: int | None) -> Layout:
    """Gives the staged chunks their final names, then makes them valid.

    On an error that leaves no doubt the old version is as it was, and no chunk has a final name.
    """
    now = await view.base.stat(old.path)
    if pin(now) != pin(old.main):
        raise Stale("another writer changed the file while it was uploaded", path=old.path)
    if old.is_file:
        await barrier(view.base)
    named: dict[int, Piece] = {}
    try:
        pieces = await _named_finally(view, Layout(old.path, None, staged.pieces), named=named, alone=True)
        metadata = replace(staged.metadata, transaction="", settle="")
        body = BytesSource(encode_metadata(metadata))
        main = await view.base.write(old.path, body, mtime_ns=mtime_ns, expect=pin(old.main))
    except PathError as error:
        await remove_pieces(view, named.values())
        if isinstance(error, AlreadyExists):
            raise Stale("another writer made chunks of the same name", path=old.path) from error
        raise
    await _insist(view, pieces)
    used = {piece.path for piece in staged.pieces}
    left = tuple(piece for piece in (*old.chunks, *old.left_over) if piece.path not in used)
    return Layout(old.path, main, pieces, metadata, left_over=left)


def _is_settled(piece: Piece) -> bool:
    return piece.name.index is not None and not piece.name.transaction


async def finish(view: View, layout: Layout, *, replaces: str, careful: bool) -> Layout:
    """Removes what the committed version replaced and gives chunks their final names.

    `replaces` is the transaction of the old version. `careful`: no step before the last one is safe
    from power loss, because there was an old version. Can be repeated after a crash at any point.
    Raises Stale when another writer came in between.
    """
    for last in (False, False, True):
        try:
            return await _finish(view, layout, replaces=replaces, careful=careful)
        except (NotFound, AlreadyExists, Stale):
            fresh = await view.described(await view.look_around(layout.path))
            if not _is_same(layout, fresh):
                return _insist_finished(layout, fresh)
            if last:
                raise
            layout = fresh
    raise AssertionError("unreachable")


async def take_back(view: View, found: Layout) -> Layout:
    """Removes chunks that have their final names and belong to no version."""
    gone = [piece for piece in found.left_over if _is_settled(piece)]
    await remove_pieces(view, gone)
    return _without(found, gone)


def unfinished(layout: Layout) -> bool:
    """Whether a commit was made of which something is left to do."""
    return layout.metadata is not None and bool(layout.metadata.settle)


def _is_same(ours: Layout, fresh: Layout) -> bool:
    """Whether our commit is still the one that is being settled."""
    return unfinished(fresh) and fresh.metadata == ours.metadata


def _insist_finished(ours: Layout, fresh: Layout) -> Layout:
    """What another process of ours made of our commit. Raises Stale when it is not our content."""
    assert ours.metadata is not None
    if fresh.metadata is not None and fresh.damage is None:
        settled = replace(ours.metadata, transaction="", settle="")
        if replace(fresh.metadata, transaction="", settle="") == settled:
            return fresh
    raise Stale("another writer replaced the file while it was committed", path=ours.path)


async def _finish(view: View, layout: Layout, *, replaces: str, careful: bool) -> Layout:
    assert layout.metadata is not None
    gone = [p for p in layout.left_over if p.name.index is not None and p.name.transaction in ("", replaces)]
    if careful and gone:
        await barrier(view.base)
    if layout.metadata.settle == "chunks":
        return await _settle(view, layout, gone, careful=careful)
    if layout.metadata.settle == "plain" and not view.settings.norename:
        # rclone refuses a small file beside chunks, and would serve metadata without any.
        plain = await _unwrap(view, layout)
        await remove_first_first(view, gone)
        return _without(plain, gone)
    await remove_first_first(view, gone)
    layout = _without(layout, gone)
    return await _unwrap(view, layout) if layout.metadata and layout.metadata.settle == "plain" else layout


def _without(layout: Layout, gone: list[Piece]) -> Layout:
    return replace(layout, left_over=tuple(piece for piece in layout.left_over if piece not in gone))


async def remove_first_first(view: View, pieces: Iterable[Piece]) -> None:
    """Removes chunks, the first one before all others: a file that lacks it is never read as whole."""
    ordered = sorted(pieces, key=lambda piece: piece.name.index or 0)
    await remove_pieces(view, ordered[:1])
    await remove_pieces(view, ordered[1:])


async def _unwrap(view: View, layout: Layout) -> Layout:
    """The only chunk becomes the object of the file's own name."""
    chunk = layout.chunks[0]
    main = await relocate(
        view.base, chunk.path, layout.path, expect=chunk.entry.token, replace=pin(layout.main)
    )
    return Layout(layout.path, main, left_over=layout.left_over)


async def _settle(view: View, layout: Layout, gone: list[Piece], *, careful: bool) -> Layout:
    """All chunks lose their suffix, then the metadata its transaction."""
    settled = await _replaced(view, layout, gone)
    layout = _without(layout, gone)
    if careful:
        await barrier(view.base)
    await _insist(view, settled)
    await _insist_end(view, layout)
    assert layout.metadata is not None
    metadata = replace(layout.metadata, transaction="", settle="")
    if not view.settings.metadata:
        await _end_bare(view, layout)
        return Layout(layout.path, None, settled, left_over=layout.left_over)
    assert layout.main is not None
    main = await _rewritten(view, layout, layout.main, metadata)
    return Layout(layout.path, main, settled, metadata, left_over=layout.left_over)


async def _replaced(view: View, layout: Layout, gone: list[Piece]) -> tuple[Piece, ...]:
    """New chunks take the names of old ones, while the first one is away: so no set passes for whole.

    With metadata at least one chunk stays all the time; where the first is the only one it is replaced
    in one step instead.
    """
    others = [p for p in (*layout.chunks, *gone) if p.name.index and not p.name.transaction]
    if others or not view.settings.metadata:
        layout = await _without_first(view, layout, gone)
        gone = [piece for piece in gone if piece.name.index or piece.name.transaction]
    in_the_way = {piece.path: piece for piece in gone}
    indices = {piece.name.index for piece in layout.chunks}
    excess = [p for p in gone if p.name.transaction or p.name.index not in indices]
    if view.settings.metadata and len(layout.chunks) == 1:
        named = await _named_finally(view, layout, in_the_way)
        await remove_pieces(view, excess)
        return named
    return await _named_finally(view, layout, in_the_way, before_first=excess)


async def _without_first(view: View, layout: Layout, gone: list[Piece]) -> Layout:
    """Takes the first chunk from its final place: an old one goes, a kept one is hidden."""
    await remove_pieces(view, [p for p in gone if p.name.index == 0 and not p.name.transaction])
    if not layout.chunks:
        raise Stale("its chunks went away, because another writer is at it", path=layout.path)
    first = layout.chunks[0]
    moving = any(piece.name.transaction for piece in layout.chunks)
    if first.name.transaction or not moving or layout.metadata is None:
        return layout
    transaction = layout.metadata.transaction
    path = piece_path(view, layout.path, 0, transaction)
    entry = await relocate(view.base, first.path, path, expect=first.entry.token)
    hidden = Piece(path, ChunkName(first.name.base, 0, transaction=transaction), entry)
    return layout.with_chunks((hidden, *layout.chunks[1:]))


async def _rewritten(view: View, layout: Layout, main: Entry, metadata: ChunkMetadata) -> Entry:
    body = BytesSource(encode_metadata(metadata))
    return await view.base.write(layout.path, body, mtime_ns=main.mtime_ns, expect=main.token)


async def _named_finally(
    view: View,
    layout: Layout,
    in_the_way: Mapping[RelPath, Piece] | None = None,
    before_first: Iterable[Piece] = (),
    named: dict[int, Piece] | None = None,
    *,
    alone: bool = False,
) -> tuple[Piece, ...]:
    """The chunks under their final names, the first one renamed last, after `before_first` has gone.

    `in_the_way` are the versions that may be replaced; `named` is filled with what was renamed. `alone`:
    one is renamed before all others. Of several writers whoever gets that name goes on; if each could
    get some names, none would get all.
    """
    named = {} if named is None else named
    done = {piece.name.index or 0: piece for piece in layout.chunks if not piece.name.transaction}

    async def rename(piece: Piece) -> None:
        index = piece.name.index or 0
        path = piece_path(view, layout.path, index, "")
        there = (in_the_way or {}).get(path)
        wanted = pin(None if there is None else there.entry)
        entry = await relocate(view.base, piece.path, path, expect=piece.entry.token, replace=wanted)
        named[index] = Piece(path, ChunkName(piece.name.base, index), entry)

    if {piece.name.index or 0 for piece in layout.chunks} != set(range(len(layout.chunks))):
        raise Stale("a chunk is away, because another writer is at it", path=layout.path)
    moving = [piece for piece in layout.chunks if piece.name.transaction]
    others = [piece for piece in moving if piece.name.index]
    if alone:
        await run_all(rename, others[:1], limit=1)
        others = others[1:]
    await run_all(rename, others, limit=view.base.info.concurrency)
    await remove_pieces(view, before_first)
    await run_all(rename, [p for p in moving if not p.name.index], limit=1)
    whole = done | named
    return tuple(whole[index] for index in range(len(layout.chunks)))


async def _insist(view: View, pieces: tuple[Piece, ...]) -> None:
    """Raises Stale when another writer put a chunk of its own where one of ours was."""

    async def look(piece: Piece) -> None:
        entry = await view.base.stat(piece.path)
        if entry is None or entry.token != piece.entry.token:
            raise Stale("another writer changed a chunk while the file was committed", path=piece.path)

    await run_all(look, pieces, limit=view.base.info.concurrency)


async def _insist_end(view: View, layout: Layout) -> None:
    """Without metadata nothing tells how many chunks there are: raises Stale when one more is there."""
    beyond = piece_path(view, layout.path, len(layout.chunks), "")
    if not view.settings.metadata and await is_there(view.base, beyond):
        raise Stale("a chunk beyond the last one is there", path=beyond)


async def _end_bare(view: View, layout: Layout) -> None:
    """Without metadata: the control object goes last, an object of the file's own name before it."""
    if layout.stale is not None:
        await remove(view.base, layout.path, layout.stale.token)
    assert layout.commit is not None
    await remove(view.base, layout.commit.path, layout.commit.entry.token)
