"""The commit of a new version, and what is left to do after it.

The commit is one step: the object of the file's own name is replaced by metadata that names the new
chunks by their transaction. Before it the old version stands, after it the new one; in both modes.

In `norename` mode nothing but removing the old chunks is left, and rclone reads old or new at every
moment. In `rename` mode the metadata carries `settle` as long as chunks lose their suffix, so that
every mountsync, on any machine, reads the new version meanwhile and can finish the work; rclone sees
the old version, then an error, then the new one, never bytes of both.

Without metadata a control object carries what the metadata would say; rclone passes it over.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from mountsync.errors import AlreadyExists, NotFound, Stale
from mountsync.formats.chunk_metadata import ChunkMetadata, encode_metadata
from mountsync.formats.chunk_names import ChunkName
from mountsync.model.entry import Entry
from mountsync.paths import join, name_of, parent_of
from mountsync.storage.api import ABSENT
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
    stale = old.stale if old.main is None else old.main
    return Layout(old.path, None, staged.pieces, staged.metadata, commit=piece, stale=stale, left_over=left)


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
            fresh = await view.look_around(layout.path)
            if not _is_same(layout, fresh):
                return _insist_finished(layout, fresh)
            if last:
                raise
            layout = fresh
    raise AssertionError("unreachable")


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
    await remove_first_first(view, gone)
    layout = replace(layout, left_over=tuple(p for p in layout.left_over if p not in gone))
    if layout.metadata is not None and layout.metadata.settle == "plain":
        return await _unwrap(view, layout)
    if layout.metadata is not None and layout.metadata.settle == "chunks":
        return await _settle(view, layout, careful=careful)
    return layout


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


async def _settle(view: View, layout: Layout, *, careful: bool) -> Layout:
    """All chunks lose their suffix, then the metadata its transaction."""
    settled = await _named_finally(view, layout)
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


async def _rewritten(view: View, layout: Layout, main: Entry, metadata: ChunkMetadata) -> Entry:
    body = BytesSource(encode_metadata(metadata))
    return await view.base.write(layout.path, body, mtime_ns=main.mtime_ns, expect=main.token)


async def _named_finally(view: View, layout: Layout) -> tuple[Piece, ...]:
    """The chunks under their final names, the first one renamed last."""
    named = {piece.name.index: piece for piece in layout.chunks if not piece.name.transaction}

    async def rename(piece: Piece) -> None:
        index = piece.name.index or 0
        path = piece_path(view, layout.path, index, "")
        entry = await relocate(view.base, piece.path, path, expect=piece.entry.token)
        named[index] = Piece(path, ChunkName(piece.name.base, index), entry)

    moving = [piece for piece in layout.chunks if piece.name.transaction]
    await run_all(rename, [p for p in moving if p.name.index], limit=view.base.info.concurrency)
    await run_all(rename, [p for p in moving if not p.name.index], limit=1)
    return tuple(named[index] for index in range(len(layout.chunks)))


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
