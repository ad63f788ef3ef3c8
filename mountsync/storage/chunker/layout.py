"""What the objects of one folder mean: which make up a file, which are left over. Pure decisions.

A file is *plain* (one object of its own name) or *in chunks*: data chunks, and with metadata an
object of the file's own name that describes them. Damage is a fact about a file, not a reason to
hide it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final

from mountsync.errors import Corrupt, PathError, Unsupported
from mountsync.formats.chunk_metadata import (
    MAX_METADATA_BYTES,
    ChunkMetadata,
    FutureMetadata,
    MetadataError,
    decode_metadata,
    encode_metadata,
)
from mountsync.formats.chunk_names import ChunkName, NameFormat
from mountsync.model.entry import PROVISIONAL, Entry, Kind, Problem, Token, is_provisional
from mountsync.paths import RelPath
from mountsync.storage.api import Listed

COMMIT_WORD: Final = "commit"
"""The control object that names the valid version while a file without metadata is replaced."""
MOVING_WORD: Final = "moving"
"""The control object that holds a file's metadata while its chunks are on their way to another name."""

_HASH_LENGTHS: Final = (0, 41, 50, 91)
"""How much longer hashes make the metadata: none, md5, sha1, both."""


@dataclass(frozen=True, slots=True)
class Piece:
    """One object of the base whose name is a chunk's."""

    path: RelPath
    name: ChunkName
    entry: Entry


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the content of an object says about being metadata."""

    content: bytes
    metadata: ChunkMetadata | None = None
    future: str | None = None


def group(
    names: NameFormat, listed: Iterable[Listed]
) -> tuple[dict[RelPath, Pieces], dict[RelPath, Problem]]:
    """Items of a listing by the path of the file that they belong to, and what could not be listed.

    A problem of a chunk is one of its file. Only files can be chunks; directories and links whose
    names look like chunks are themselves.
    """
    mains: dict[RelPath, Entry] = {}
    chunks: defaultdict[RelPath, list[Piece]] = defaultdict(list)
    problems: dict[RelPath, Problem] = {}
    for path, item in listed:
        last = path.rpartition("/")[2]
        name = names.parse(last)
        owner = path if name is None else RelPath(path[: len(path) - len(last) + len(name.base)])
        if isinstance(item, Problem):
            problems[owner] = item
        elif name is None or item.kind is not Kind.FILE:
            mains[path] = item
        else:
            chunks[owner].append(Piece(path, name, item))
    paths = dict.fromkeys([*mains, *chunks])
    return {at: Pieces(at, mains.get(at), tuple(chunks.get(at, ()))) for at in paths}, problems


def verdict_of(content: bytes) -> Verdict:
    """The verdict on a whole content of at most 255 bytes."""
    try:
        return Verdict(content, metadata=decode_metadata(content))
    except FutureMetadata as error:
        return Verdict(content, future=str(error))
    except MetadataError:
        return Verdict(content)


@dataclass(frozen=True, slots=True)
class Pieces:
    """All objects of one folder that belong to one name."""

    path: RelPath
    """The path of the file."""
    main: Entry | None = None
    """The object of the file's own name; it may be a directory or a link too."""
    chunks: tuple[Piece, ...] = ()

    @property
    def data(self) -> list[Piece]:
        """Data chunks, of every transaction, temporary ones included."""
        return [piece for piece in self.chunks if piece.name.index is not None]

    @property
    def settled(self) -> list[Piece]:
        """Data chunks in their final place."""
        return [piece for piece in self.data if not piece.name.transaction]

    @property
    def commit(self) -> Piece | None:
        """The control object of a replacement that is under way."""
        return next((p for p in self.chunks if p.name.control == COMMIT_WORD), None)

    def is_considered(self) -> bool:
        """Whether the object of the file's own name may be metadata, by its kind and size."""
        main = self.main
        return main is not None and main.kind is Kind.FILE and main.size <= MAX_METADATA_BYTES


@dataclass(frozen=True, slots=True)
class Layout:
    """What makes up one file. Absent when both `main` and `chunks` are empty."""

    path: RelPath
    main: Entry | None = None
    chunks: tuple[Piece, ...] = ()
    """The data, in order; empty for a plain file."""
    metadata: ChunkMetadata | None = None
    """None for a plain file, and as long as nobody needed to read it."""
    damage: str | None = None
    future: str | None = None
    commit: Piece | None = None
    stale: Entry | None = None
    """An object of the file's own name that is no part of it: metadata, where none is kept."""
    left_over: tuple[Piece, ...] = ()
    """Objects with names of this file's chunks that are no part of it."""
    surveyed: bool = field(default=True, compare=False)
    """Whether `left_over` is known."""

    @property
    def exists(self) -> bool:
        return self.main is not None or bool(self.chunks)

    @property
    def is_file(self) -> bool:
        return bool(self.chunks) or (self.main is not None and self.main.kind is Kind.FILE)

    @property
    def is_directory(self) -> bool:
        return not self.chunks and self.main is not None and self.main.kind is Kind.DIRECTORY

    @property
    def is_chunked(self) -> bool:
        return bool(self.chunks)

    @property
    def first(self) -> Entry:
        """The object that holds the file's times and mode."""
        return self.main if self.main is not None else self.chunks[0].entry

    def entry(self) -> Entry:
        """The file as others see it. Its token names the versions of all objects that make it up."""
        if not self.chunks:
            assert self.main is not None
            return self.main
        size = sum(piece.entry.size for piece in self.chunks)
        return Entry(Kind.FILE, size, self.first.mtime_ns, self.first.mode, token=self._token())

    def _token(self) -> Token:
        objects = [self.main, *(piece.entry for piece in self.chunks)]
        known = [_version(entry) for entry in objects if entry is not None]
        digest = hashlib.sha256("\0".join(known).encode("utf-8", "surrogateescape")).hexdigest()
        mark = PROVISIONAL if any(map(is_provisional, known)) else ""
        return Token(f"chunks:{digest[:40]}{mark}")

    def refusal(self) -> PathError | None:
        """Why the content cannot be read, None when it can."""
        if self.future is not None:
            return Unsupported(
                f"made by a newer chunker ({self.future})", path=self.path, hint="please upgrade mountsync"
            )
        if self.damage is not None:
            return Corrupt(
                self.damage,
                path=self.path,
                hint="delete it or write it anew; `mountsync fsck` lists such files",
            )
        return None

    def with_main(self, main: Entry) -> Layout:
        """The same layout, the version of its own object known anew."""
        return replace(self, main=main)

    def with_chunks(self, chunks: tuple[Piece, ...]) -> Layout:
        """The same layout, the versions of its chunks known anew."""
        return replace(self, chunks=chunks)


def _version(entry: Entry) -> Token:
    return entry.token or Token(f"{entry.size}:{entry.mtime_ns}")


def needs_verdict(pieces: Pieces, *, metadata: bool) -> bool:
    """Whether the content of the file's own object must be read to know what the file is.

    It need not where all chunks are in their final place and the object is exactly as long as the
    metadata of these chunks.
    """
    if not pieces.is_considered() or not pieces.data:
        return False
    if any(piece.name.transaction for piece in pieces.data):
        return True
    return metadata and not _plausible(pieces)


def _plausible(pieces: Pieces) -> bool:
    assert pieces.main is not None
    chunks = pieces.settled
    size = sum(piece.entry.size for piece in chunks)
    bare = len(encode_metadata(ChunkMetadata(size, len(chunks))))
    return pieces.main.size - bare in _HASH_LENGTHS


def resolve(pieces: Pieces, verdict: Verdict | None, *, metadata: bool) -> Layout:
    """What the pieces mean. `verdict` is of the file's own object, or of the commit object.

    `metadata` tells whether files in chunks have metadata in this overlay.
    """
    if pieces.main is not None and pieces.main.kind is not Kind.FILE:
        return Layout(pieces.path, pieces.main, left_over=pieces.chunks)
    if verdict is not None and verdict.metadata is not None:
        return _described(pieces, verdict.metadata, metadata=metadata)
    if not metadata and pieces.settled:
        return _bare(pieces)
    if verdict is not None and verdict.future is not None:
        return _of_future(pieces, verdict.future)
    if verdict is None and pieces.is_considered() and pieces.settled:
        return _assembled(pieces, pieces.settled)
    return Layout(pieces.path, pieces.main, left_over=pieces.chunks)


def _described(pieces: Pieces, described: ChunkMetadata, *, metadata: bool) -> Layout:
    """A file of which the metadata is known."""
    chosen = _chosen(pieces, described)
    if not metadata and pieces.commit is not None:
        found = _assembled(replace(pieces, main=None), chosen, described)
        return replace(found, commit=pieces.commit, stale=pieces.main)
    if not metadata and not chosen and pieces.settled:
        return _bare(pieces)
    return _assembled(pieces, chosen, described)


def _bare(pieces: Pieces) -> Layout:
    """A file without metadata; an object of its own name has no say."""
    return replace(_assembled(replace(pieces, main=None), pieces.settled), stale=pieces.main)


def _chosen(pieces: Pieces, described: ChunkMetadata) -> list[Piece]:
    """The chunks that the metadata means."""
    own = [piece for piece in pieces.data if piece.name.transaction == described.transaction]
    if described.settle != "chunks":
        return own
    there = {piece.name.index for piece in own}
    kept = [p for p in pieces.settled if p.name.index not in there and (p.name.index or 0) < described.chunks]
    return own + kept


def _assembled(pieces: Pieces, chosen: Iterable[Piece], described: ChunkMetadata | None = None) -> Layout:
    ordered = tuple(sorted(chosen, key=lambda piece: (piece.name.index, piece.path)))
    used = {piece.path for piece in ordered}
    return Layout(
        pieces.path,
        pieces.main,
        ordered,
        described,
        damage=_damage(ordered, described),
        left_over=tuple(piece for piece in pieces.chunks if piece.path not in used),
    )


def _damage(chunks: tuple[Piece, ...], described: ChunkMetadata | None) -> str | None:
    """What is wrong with the chunks, for a person; None when nothing is."""
    if not chunks:
        return "all of its chunks are missing"
    seen: defaultdict[int, int] = defaultdict(int)
    for piece in chunks:
        seen[piece.name.index or 0] += 1
    double = next((index for index, times in seen.items() if times > 1), None)
    if double is not None:
        return f"chunk {double + 1} is there {seen[double]} times"
    expected = described.chunks if described is not None else max(seen) + 1
    missing = next((index for index in range(min(expected, len(seen) + 1)) if index not in seen), None)
    if missing is not None:
        return f"chunk {missing + 1} of {expected} is missing"
    size = sum(piece.entry.size for piece in chunks)
    if described is not None and (size, len(chunks)) != (described.size, described.chunks):
        return f"{len(chunks)} chunks of {size} bytes are there, not {described.chunks} of {described.size}"
    return None


def _of_future(pieces: Pieces, future: str) -> Layout:
    """A file of a newer chunker: shown by the chunks that we know, never read or changed."""
    return replace(_assembled(pieces, pieces.settled), damage=None, future=future)
