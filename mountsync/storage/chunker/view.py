"""Looks at the base and understands what it sees; remembers layouts that prove themselves.

A remembered layout is never believed: the object that describes the file is asked for again, and
every chunk is read with the version that was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Final, TypeVar, TypeVarTuple

import trio
from cachetools import LRUCache

from mountsync.errors import NotADirectory, NotFound, PathError, Stale
from mountsync.model.entry import Entry, Kind, Problem, Token
from mountsync.paths import RelPath, join, name_of, parent_of
from mountsync.storage.api import Expect, Listed, Storage
from mountsync.storage.chunker.layout import (
    Layout,
    Pieces,
    Verdict,
    group,
    needs_verdict,
    resolve,
    verdict_of,
)
from mountsync.storage.chunker.parallel import run_all
from mountsync.storage.chunker.settings import Settings
from mountsync.storage.sources import read_range

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_REMEMBERED_OBJECTS: Final = 100_000
_REMEMBERED_VERDICTS: Final = 20_000
_BATCH: Final = 100
"""Files that are looked through on the loop at a time."""
_LITTER_SECONDS: Final = 30.0
"""For how long a folder's list of names with chunks is believed; only tidiness depends on it."""


@dataclass(frozen=True, slots=True)
class Survey:
    """What one listing showed."""

    layouts: dict[RelPath, Layout]
    problems: dict[RelPath, Problem]


class View:
    """The files on a base, as chunker understands them."""

    def __init__(self, base: Storage, settings: Settings) -> None:
        self.base = base
        self.settings = settings
        self._verdicts: LRUCache[tuple[RelPath, Token], Verdict] = LRUCache(_REMEMBERED_VERDICTS)
        self._layouts: LRUCache[RelPath, Layout] = LRUCache(
            _REMEMBERED_OBJECTS, lambda at: len(at.chunks) + 1
        )
        self._litter: LRUCache[RelPath, tuple[float, frozenset[RelPath]]] = LRUCache(256)

    async def look(self, path: RelPath) -> Layout:
        """The file at `path` now. Leftovers beside a plain file may stay unknown (`surveyed`)."""
        main = await self.base.stat(path)
        if self.is_chunk_name(path):
            return Layout(path, main if main is not None and main.kind is not Kind.FILE else None)
        plain = self.settings.metadata or (main is not None and main.kind is not Kind.FILE)
        if plain and not await self._may_be_metadata(path, main):
            return self.remember(Layout(path, main, surveyed=False))
        if main is None and self._is_tidy(path) and not await self._has_first_chunk(path):
            return self.remember(Layout(path, surveyed=False))
        return await self.look_around(path)

    async def look_around(self, path: RelPath) -> Layout:
        """The file at `path` now, with all that lies beside it: one listing of its folder."""
        try:
            listed = await self._listed(parent_of(path), recursive=False)
        except (NotFound, NotADirectory):
            return Layout(path)
        found, problems = await self._grouped(listed)
        self._note_litter(parent_of(path), found.values())
        if path in problems:
            raise Stale(f"its folder cannot be listed in full: {problems[path].reason}", path=path)
        if path not in found:
            return Layout(path)
        return self.remember(await self._understand(found[path]))

    async def look_for_leftovers(self, path: RelPath) -> Layout:
        """As `look`, but leftovers of the name are known, from a listing at most half a minute old."""
        found = await self.look(path)
        if found.surveyed or (found.main is not None and found.main.kind is not Kind.FILE):
            return found
        return found if self._is_tidy(path) else await self.look_around(path)

    async def recall(self, path: RelPath, expect: Expect) -> Layout:
        """The layout for reading: the remembered one where it is still true, else a new look."""
        known = self._layouts.get(path)
        if known is not None and known.is_file and await self._is_current(known, expect):
            return known
        return await self.look(path)

    async def survey(self, folder: RelPath, *, recursive: bool) -> Survey:
        """All files below `folder`, from one listing of the base."""
        found, problems = await self._grouped(await self._listed(folder, recursive=recursive))
        if not recursive:
            self._note_litter(folder, found.values())
        certain, unsure = await self._in_thread(len(found), self._sorted, found)
        layouts: dict[RelPath, Layout] = {}
        for layout in certain:
            if len(layouts) % _BATCH == 0:
                await trio.lowlevel.checkpoint()
            layouts[layout.path] = self.remember(layout)
        await self._understand_many(unsure, layouts, problems)
        return Survey({at: found for at, found in layouts.items() if at not in problems}, problems)

    async def verdict(self, path: RelPath, entry: Entry) -> Verdict:
        """What the small object `entry` at `path` says. Raises Stale when it is another by now."""
        key = (path, entry.token) if entry.token is not None else None
        if key is not None and key in self._verdicts:
            return self._verdicts[key]
        content = await read_range(self.base, path, 0, entry.size, size=entry.size, entry=entry)
        found = verdict_of(content)
        if key is not None:
            self._verdicts[key] = found
        return found

    async def described(self, layout: Layout) -> Layout:
        """The layout with its metadata read, damage found by it included."""
        main = layout.main
        if layout.metadata is not None or layout.future or main is None:
            return layout
        if not Pieces(layout.path, main).is_considered():
            return layout
        verdict = await self.verdict(layout.path, main)
        pieces = Pieces(layout.path, main, layout.chunks + layout.left_over)
        found = self._resolve(pieces, verdict)
        return self.remember(replace(found, surveyed=layout.surveyed))

    def remember(self, layout: Layout) -> Layout:
        """Keeps a layout for `recall`."""
        if layout.is_file:
            self._layouts[layout.path] = layout
        else:
            self._layouts.pop(layout.path, None)
        return layout

    def forget(self, path: RelPath) -> None:
        """Drops what is known about `path` and about leftovers in its folder."""
        self._layouts.pop(path, None)
        self._litter.pop(parent_of(path), None)

    def is_chunk_name(self, path: RelPath) -> bool:
        """Whether an object at `path` would be taken for a chunk."""
        return self.settings.names.parse(name_of(path)) is not None

    def _is_tidy(self, path: RelPath) -> bool:
        """Whether a listing of the last half minute showed no chunk of the name."""
        noted = self._litter.get(parent_of(path))
        return noted is not None and trio.current_time() < noted[0] + _LITTER_SECONDS and path not in noted[1]

    async def _has_first_chunk(self, path: RelPath) -> bool:
        """Whether the first chunk of a file without metadata is there: then the folder must be listed."""
        name = self.settings.names.chunk(name_of(path), 0)
        if self.base.info.names.refusal(RelPath(name)) is not None:
            return False
        return await self.base.stat(join(parent_of(path), name)) is not None

    async def _may_be_metadata(self, path: RelPath, main: Entry | None) -> bool:
        if main is None or not Pieces(path, main).is_considered():
            return False
        verdict = await self.verdict(path, main)
        return verdict.metadata is not None or verdict.future is not None

    async def _is_current(self, known: Layout, expect: Expect) -> bool:
        if expect is not None and known.entry().token != expect:
            return False
        if known.main is None or not known.chunks:
            return expect is not None
        main = await self.base.stat(known.path)
        return main is not None and main.token is not None and main.token == known.main.token

    async def _listed(self, folder: RelPath, *, recursive: bool) -> list[Listed]:
        listed: list[Listed] = []
        async with self.base.list(folder, recursive=recursive) as batches:
            async for batch in batches:
                listed.extend(batch)
        return listed

    async def _grouped(self, listed: list[Listed]) -> tuple[dict[RelPath, Pieces], dict[RelPath, Problem]]:
        return await self._in_thread(len(listed), group, self.settings.names, listed)

    def _sorted(self, found: dict[RelPath, Pieces]) -> tuple[list[Layout], list[Pieces]]:
        """What is certain from the listing, and what must be read first."""
        unsure = [pieces for pieces in found.values() if self._needs_reading(pieces)]
        skip = {pieces.path for pieces in unsure}
        certain = [self._resolve(pieces, None) for path, pieces in found.items() if path not in skip]
        return certain, unsure

    async def _in_thread(self, items: int, work: Callable[[*Ts], T], *args: *Ts) -> T:
        """Pure work, in a thread when it is too much for the loop."""
        if items <= _BATCH:
            return work(*args)
        return await trio.to_thread.run_sync(work, *args)

    def _note_litter(self, folder: RelPath, found: Iterable[Pieces]) -> None:
        names = frozenset(pieces.path for pieces in found if pieces.chunks)
        self._litter[folder] = trio.current_time(), names

    def _needs_reading(self, pieces: Pieces) -> bool:
        if not self.settings.metadata and pieces.commit is not None:
            return True
        return needs_verdict(pieces, metadata=self.settings.metadata)

    async def _understand(self, pieces: Pieces) -> Layout:
        """What the pieces are, read where it must be. Raises Stale when they change meanwhile."""
        if not self._needs_reading(pieces):
            return self._resolve(pieces, None)
        commit = pieces.commit
        if not self.settings.metadata and commit is not None:
            return self._resolve(pieces, await self.verdict(commit.path, commit.entry))
        assert pieces.main is not None
        return self._resolve(pieces, await self.verdict(pieces.path, pieces.main))

    def _resolve(self, pieces: Pieces, verdict: Verdict | None) -> Layout:
        return resolve(pieces, verdict, metadata=self.settings.metadata)

    async def _understand_many(
        self, unsure: list[Pieces], layouts: dict[RelPath, Layout], problems: dict[RelPath, Problem]
    ) -> None:
        """Fills the results for those that must be read, some at a time."""

        async def one(pieces: Pieces) -> None:
            try:
                layouts[pieces.path] = self.remember(await self._understand(pieces))
            except PathError as error:
                reason = f"it changed while it was looked at: {error.reason}"
                problems[pieces.path] = Problem(reason, error=type(error).__name__)

        await run_all(one, unsure, limit=self.base.info.concurrency)
