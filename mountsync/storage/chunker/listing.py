"""Lists through a chunker: one listing of each folder of the base serves all files in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, islice
from typing import Final, Protocol

import trio

from mountsync.errors import PathError
from mountsync.model.entry import Entry, Problem
from mountsync.paths import RelPath
from mountsync.storage.api import Listed, Storage
from mountsync.storage.chunker.attempts import Attempts
from mountsync.storage.chunker.layout import Layout
from mountsync.storage.chunker.parallel import run_all
from mountsync.storage.chunker.settings import Settings
from mountsync.storage.chunker.view import Survey

_FOLDERS_AT_ONCE: Final = 4
_BATCH: Final = 100


class Surveyed(Protocol):
    """What a listing needs of the overlay."""

    base: Storage
    settings: Settings
    attempts: Attempts

    async def survey(self, folder: RelPath, *, recursive: bool) -> Survey: ...


class Listing:
    """Iterates over a folder, folder by folder; over all at once where the base likes that better."""

    def __init__(self, storage: Surveyed, folder: RelPath, *, recursive: bool) -> None:
        self._storage = storage
        self._flat = recursive and storage.base.info.flat
        self._recursive = recursive
        self._root: RelPath | None = folder
        self._folders: list[tuple[RelPath, Entry]] = []
        """Told when they were listed: a folder that cannot be listed is a problem and no entry."""
        self._problems: dict[RelPath, Problem] = {}
        self._items: Iterator[Listed] = iter(())

    def __aiter__(self) -> Listing:
        return self

    async def __anext__(self) -> Sequence[Listed]:
        await trio.lowlevel.checkpoint()
        while True:
            batch = list(islice(self._items, _BATCH))
            if batch:
                return batch
            self._items = chain.from_iterable(await self._next_folders())

    async def _next_folders(self) -> list[Iterator[Listed]]:
        """The items of some folders more; at first those of the root."""
        if self._root is not None:
            root, self._root = self._root, None
            self._problems = await self._storage.attempts.settle_below(root)
            return [self._told(await self._storage.survey(root, recursive=self._flat))]
        if not self._folders:
            raise StopAsyncIteration
        now, self._folders = self._folders[-_FOLDERS_AT_ONCE:], self._folders[:-_FOLDERS_AT_ONCE]
        found: list[Iterator[Listed]] = []

        async def one(item: tuple[RelPath, Entry]) -> None:
            try:
                survey = await self._storage.survey(item[0], recursive=False)
            except PathError as error:
                found.append(iter([(item[0], Problem(error.reason, error=type(error).__name__))]))
            else:
                found.append(chain([item], self._told(survey)))

        await run_all(one, now, limit=_FOLDERS_AT_ONCE)
        return found

    def _told(self, survey: Survey) -> Iterator[Listed]:
        """Entries and problems of one survey; folders in it wait to be listed."""
        yield from survey.problems.items()
        for path, layout in survey.layouts.items():
            if path in self._problems:
                yield path, self._problems[path]
            elif self._recursive and not self._flat and layout.is_directory:
                self._folders.append((path, layout.entry()))
            elif layout.exists:
                yield path, self._item(layout)

    def _item(self, layout: Layout) -> Entry | Problem:
        """The entry, damaged or not; with `fail_hard` a damaged file is a problem."""
        refusal = layout.refusal() if self._storage.settings.fail_hard else None
        if refusal is None:
            return layout.entry()
        return Problem(refusal.reason, transient=False, error=type(refusal).__name__)
