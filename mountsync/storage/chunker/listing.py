"""Lists through a chunker: one listing of each folder of the base serves all files in it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

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

    def __aiter__(self) -> Listing:
        return self

    async def __anext__(self) -> Sequence[Listed]:
        if self._root is not None:
            root, self._root = self._root, None
            self._problems = await self._storage.attempts.settle_below(root)
            return self._items(await self._storage.survey(root, recursive=self._flat))
        if not self._folders:
            raise StopAsyncIteration
        now, self._folders = self._folders[-_FOLDERS_AT_ONCE:], self._folders[:-_FOLDERS_AT_ONCE]
        found: list[Listed] = []

        async def one(item: tuple[RelPath, Entry]) -> None:
            folder = item[0]
            try:
                found.extend([item, *self._items(await self._storage.survey(folder, recursive=False))])
            except PathError as error:
                found.append((folder, Problem(error.reason, error=type(error).__name__)))

        await run_all(one, now, limit=_FOLDERS_AT_ONCE)
        return found

    def _items(self, survey: Survey) -> list[Listed]:
        items: list[Listed] = [*survey.problems.items()]
        for path, layout in survey.layouts.items():
            if path in self._problems:
                items.append((path, self._problems[path]))
            elif self._recursive and not self._flat and layout.is_directory:
                self._folders.append((path, layout.entry()))
            elif layout.exists:
                items.append((path, self._item(layout)))
        return items

    def _item(self, layout: Layout) -> Entry | Problem:
        """The entry, damaged or not; with `fail_hard` a damaged file is a problem."""
        refusal = layout.refusal() if self._storage.settings.fail_hard else None
        if refusal is None:
            return layout.entry()
        return Problem(refusal.reason, transient=False, error=type(refusal).__name__)
