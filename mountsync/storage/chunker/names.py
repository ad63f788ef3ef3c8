"""Which names can be held through a chunker."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import ClassVar

from mountsync.errors import NameRefused, PathError
from mountsync.formats.chunk_names import MAX_CHUNKS, ChunkName, NameFormat, name_format
from mountsync.paths import RelPath, join, name_of, parent_of, parts_of
from mountsync.storage.api import NameRules

_LONGEST_TRANSACTION = "z" * 6


@dataclass(frozen=True, slots=True)
class ChunkerNames(NameRules):
    """The base's rules, and two more: no name is a chunk's, and chunks' names fit where there are chunks.

    A file that is no larger than `chunk_size` needs no chunk, so its name may be as long as the base
    bears; ask again with its `size` when it grows. Where every file is kept in chunks, `always` is set.
    """

    base: NameRules = field(default_factory=NameRules)
    format: NameFormat = field(default_factory=name_format)
    chunk_size: int = 1
    always: bool = False
    depend_on_size: ClassVar[bool] = True

    def refusal(self, path: RelPath, *, size: int = 0) -> PathError | None:
        """The error that making a file of `size` bytes at `path` would meet, or None."""
        chunk = next(filter(None, map(self.format.parse, parts_of(path))), None)
        if chunk is not None:
            return _overlap(path, chunk)
        refusal = self.base.refusal(path)
        if refusal is None and path and (self.always or size > self.chunk_size):
            return self._refuse_chunks(path, size)
        return refusal

    def depends_on_place(self, name: str) -> bool:
        """As the base says."""
        return self.base.depends_on_place(name)

    def largest(self, path: RelPath) -> int | None:
        """Bytes: what fits into as many chunks as have short enough names."""

        def is_refused(chunks: int) -> bool:
            return self.refusal(path, size=chunks * self.chunk_size) is not None

        counts = range(1, MAX_CHUNKS + 1)
        fitting = bisect_left(counts, True, key=is_refused)
        return None if fitting == len(counts) else fitting * self.chunk_size

    def _refuse_chunks(self, path: RelPath, size: int) -> PathError | None:
        last = max(0, -(-size // self.chunk_size) - 1)
        name = self.format.chunk(name_of(path), last, _LONGEST_TRANSACTION)
        refusal = self.base.refusal(join(parent_of(path), name))
        if refusal is None:
            return None
        hint = "use a shorter name: a file in chunks needs room for their numbers"
        return type(refusal)(f"the name of a chunk of it: {refusal.reason}", path=path, hint=hint)


def chunker_names(base: NameRules, names: NameFormat, *, chunk_size: int, always: bool) -> ChunkerNames:
    """The rules of a chunker over a storage with the rules `base`."""
    return ChunkerNames(
        max_name_bytes=base.max_name_bytes,
        max_path_bytes=base.max_path_bytes,
        utf8_only=base.utf8_only,
        forbidden=base.forbidden,
        base=base,
        format=names,
        chunk_size=chunk_size,
        always=always,
    )


def _overlap(path: RelPath, chunk: ChunkName) -> PathError:
    return NameRefused(
        f"the name is that of a chunk of {chunk.base!r}, and the file would become invisible",
        path=path,
        hint="choose another name, or another name_format for the remote",
    )
