"""Looks at a side: the whole of it, or around some paths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import trio

from mountsync.engine.pair.filters import Filter
from mountsync.engine.pair.replica import PairReplica
from mountsync.engine.pair.sight import Sight
from mountsync.errors import NotADirectory, NotFound, PathError, Stale
from mountsync.model.entry import Entry, Kind, Problem
from mountsync.model.side import Side
from mountsync.paths import ROOT, RelPath, ancestors, is_ours, is_within
from mountsync.state.pairs import Rows, form_of
from mountsync.storage.api import Listed
from mountsync.storage.together import each

_SLICE: Final = 250
_ASKERS: Final = 8


class Looker:
    """Fills sights of one side."""

    def __init__(self, replica: PairReplica, side: Side, rows: Rows, hidden: Filter) -> None:
        self._replica = replica
        self._side = side
        self._rows = rows
        self._hidden = hidden

    async def whole(self, sight: Sight) -> None:
        """Lists everything. Raises Unreachable, NotFound: then nothing may be concluded."""
        await self._list(ROOT, sight)

    async def _list(self, folder: RelPath, sight: Sight) -> None:
        async with self._replica.storage.list(folder, recursive=True) as batches:
            async for batch in batches:
                for first in range(0, len(batch), _SLICE):
                    for item in self._take_plain(batch[first : first + _SLICE], sight):
                        await self._take(item, sight)
                    await trio.lowlevel.checkpoint()

    def _take_plain(self, items: Sequence[Listed], sight: Sight) -> list[Listed]:
        """Takes what is nothing special; gives the rest. Most of a listing is spent here."""
        take, rows, hides = sight.take, self._rows, self._hidden.hides
        rest: list[Listed] = []
        for item in self._replica.translated(items):
            path, entry = item
            if (
                isinstance(entry, Problem)
                or entry.kind is Kind.SYMLINK
                or hides(path, is_directory=entry.kind is Kind.DIRECTORY)
            ):
                rest.append(item)
            else:
                take(path, entry, rows)
        return rest

    async def _take(self, item: Listed, sight: Sight) -> None:
        path, entry = item
        if isinstance(entry, Problem):
            if not self._hidden.hides_any(path):
                sight.problems[path] = entry
            return
        if self._hidden.hides(path, is_directory=entry.kind is Kind.DIRECTORY):
            sight.keeps.update(up for up in ancestors(path) if not is_ours(up))
            return
        if entry.kind is Kind.SYMLINK and entry.target is None:
            known = self._known_target(path, entry)
            if known is None:
                await self._read_target(path, entry, sight)
                return
            entry = known
        sight.take(path, entry, self._rows)

    def _known_target(self, path: RelPath, entry: Entry) -> Entry | None:
        """A link that is kept as an object, its text taken from the base."""
        packed = self._rows.get(path)
        form = None if packed is None else form_of(packed)
        if form is None or form.target is None or entry.token is None:
            return None
        token = form.a if self._side is Side.A else form.b
        target = form.target.decode("utf-8", "surrogateescape")
        return _with_target(entry, target) if token == entry.token else None

    async def _read_target(self, path: RelPath, entry: Entry, sight: Sight) -> None:
        try:
            sight.take(path, await self._replica.complete(path, entry), self._rows)
        except (NotFound, Stale):
            sight.problems[path] = Problem("it changed while it was looked at", error="Stale")
        except PathError as error:
            sight.problems[path] = Problem(
                error.reason, transient=error.transient, error=type(error).__name__
            )

    async def around(self, paths: Iterable[RelPath], sight: Sight) -> None:
        """Looks at the paths, all below them, and the directories above them. Raises Unreachable."""
        tops = _topmost(paths)
        above = {up for path in tops for up in ancestors(path)}
        wanted = [*((path, True) for path in tops), *((path, False) for path in above)]

        async def ask(item: tuple[RelPath, bool]) -> None:
            await self._ask(item[0], sight, deep=item[1])

        await each(wanted, ask, at_once=_ASKERS)

    async def _ask(self, path: RelPath, sight: Sight, *, deep: bool) -> None:
        try:
            entry = await self._replica.stat(path)
        except PathError as error:
            sight.problems[path] = Problem(
                error.reason, transient=error.transient, error=type(error).__name__
            )
            return
        if entry is None:
            return
        await self._take((path, entry), sight)
        if deep and entry.kind is Kind.DIRECTORY:
            try:
                await self._list(path, sight)
            except (NotFound, NotADirectory):
                sight.problems[path] = Problem("it changed while it was looked at", error="Stale")


def _with_target(entry: Entry, target: str) -> Entry:
    return Entry(entry.kind, entry.size, entry.mtime_ns, entry.mode, entry.digest, entry.token, target)


def _topmost(paths: Iterable[RelPath]) -> list[RelPath]:
    found: list[RelPath] = []
    for path in sorted(paths):
        if path and not (found and is_within(path, found[-1])):
            found.append(path)
    return _really_topmost(found)


def _really_topmost(paths: Sequence[RelPath]) -> list[RelPath]:
    """Text order puts `a.b` between `a` and `a/c`."""
    known = set(paths)
    return [path for path in paths if not any(up in known for up in ancestors(path))]
