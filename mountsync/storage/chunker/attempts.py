"""Changes that were begun and not ended, by this process or by one that died."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

import trio

from mountsync.errors import PathError
from mountsync.model.entry import Problem
from mountsync.paths import RelPath, from_bytes, is_within, parent_of
from mountsync.storage.chunker.journal import Journal, MoveRecord, Noted, RemovalRecord, UploadRecord
from mountsync.storage.chunker.layout import Layout
from mountsync.storage.chunker.objects import is_there, remove
from mountsync.storage.chunker.parallel import run_all
from mountsync.storage.chunker.replace import finish, take_back, unfinished
from mountsync.storage.chunker.stage import Stage, discard_attempt, transaction_of
from mountsync.storage.chunker.transfer import Mover
from mountsync.storage.chunker.view import View


class Attempts:
    """Which paths have work left; each is finished before the next change of that path."""

    def __init__(self, view: View, journal: Journal) -> None:
        self._view = view
        self._journal = journal
        self._mover = Mover(view, journal)
        self._uploads: defaultdict[RelPath, list[Noted]] = defaultdict(list)
        self._others: list[Noted] = []
        self._settling = trio.Lock()
        self._elsewhere: list[Noted] = []
        self.under_way: set[Stage] = set()
        """Uploads of this process."""

    @property
    def mover(self) -> Mover:
        """Carries out moves."""
        return self._mover

    @property
    def transactions(self) -> frozenset[tuple[RelPath, str]]:
        """Uploads that are under way or may be taken up again: their chunks are not garbage."""
        left = [noted for several in self._uploads.values() for noted in several]
        now = [stage.noted for stage in self.under_way if stage.begun]
        every = (*left, *now, *self._elsewhere)
        return frozenset((noted.path, transaction_of(noted)) for noted in every)

    def look_elsewhere(self, roots: Iterable[Path]) -> None:
        """Learns which uploads other processes of this machine have under way. Reads files: for threads.

        `roots` as for `Journal.elsewhere`.
        """
        found = self._journal.elsewhere(roots)
        self._elsewhere = [noted for noted in found if isinstance(noted.record, UploadRecord)]

    def add(self, left: list[Noted]) -> None:
        """Takes charge of records."""
        for noted in left:
            if isinstance(noted.record, UploadRecord):
                self._uploads[noted.path].append(noted)
            else:
                self._others.append(noted)

    def take(self, path: RelPath) -> list[Noted]:
        """The uploads of `path` that were interrupted; whoever takes them ends or keeps them."""
        return self._uploads.pop(path, [])

    def keep(self, stage: Stage, earlier: Sequence[Noted]) -> None:
        """Remembers an upload that failed and may be taken up again, and those that were before it."""
        mine = [stage.noted] if stage.begun else []
        others = [noted for noted in earlier if noted not in mine]
        self.add([noted for noted in (*mine, *others) if not noted.ended])

    def interrupted_in(self, folder: RelPath) -> list[RelPath]:
        """The files in a folder whose uploads were interrupted and may be taken up again."""
        return [path for path in self._uploads if parent_of(path) == folder]

    async def discard(self, old: Layout) -> None:
        """Removes what interrupted uploads of a path left, as far as its layout shows it."""
        for noted in list(self._uploads.get(old.path, ())):
            await discard_attempt(self._view, self._journal, old, noted)
            await self._end([noted])

    async def ready(self, path: RelPath) -> Layout:
        """The file at `path`, every commit of it finished, leftovers known."""
        await self.settle(path)
        begun = path in self._uploads
        found = await (self._view.look_around(path) if begun else self._view.look_for_leftovers(path))
        return await self._finished(found)

    async def _finished(self, found: Layout) -> Layout:
        """Ends what was committed; takes back names that were given before a commit that never came."""
        known = list(self._uploads.get(found.path, ()))
        transaction = found.metadata.transaction if found.metadata is not None else ""
        mine = [noted for noted in known if transaction and transaction_of(noted) == transaction]
        with trio.CancelScope(shield=True):
            if mine or unfinished(found):
                replaces = next((n.record.replaces for n in mine if isinstance(n.record, UploadRecord)), "")
                found = await finish(self._view, found, replaces=replaces, careful=True)
                await self._end(mine)
            elif known:
                found = await take_back(self._view, found)
        return self._view.remember(found)

    async def _end(self, uploads: list[Noted]) -> None:
        """Forgets uploads."""
        for noted in uploads:
            self._uploads[noted.path].remove(noted)
            await trio.to_thread.run_sync(self._journal.end, noted)
            if not self._uploads[noted.path]:
                del self._uploads[noted.path]

    async def settle(self, path: RelPath) -> None:
        """Finishes moves and removals that concern `path`. Raises what keeps them from it."""
        if not self._others:
            return
        async with self._settling:
            for noted in [n for n in self._others if path in _paths(n)]:
                await self._settle_one(noted)

    async def settle_below(self, folder: RelPath) -> dict[RelPath, Problem]:
        """Finishes moves and removals below `folder`; what cannot be finished is told by path."""
        problems: dict[RelPath, Problem] = {}
        if not self._others:
            return problems
        async with self._settling:
            for noted in [n for n in self._others if any(is_within(at, folder) for at in _paths(n))]:
                try:
                    await self._settle_one(noted)
                except PathError as error:
                    reason = f"a change of it is not finished: {error.reason}"
                    problems |= dict.fromkeys(_paths(noted), Problem(reason, error=type(error).__name__))
        return problems

    async def _settle_one(self, noted: Noted) -> None:
        if isinstance(noted.record, MoveRecord):
            await self._mover.resume(noted)
        elif isinstance(noted.record, RemovalRecord):
            await self._resume_removal(noted.record)
            await trio.to_thread.run_sync(self._journal.end, noted)
        self._others.remove(noted)

    async def _resume_removal(self, record: RemovalRecord) -> None:
        """Goes on with a removal whose first step was taken; else the file stays."""
        first = from_bytes(record.objects[0][0])
        if await is_there(self._view.base, first):
            return

        async def one(item: tuple[bytes, str]) -> None:
            await remove(self._view.base, from_bytes(item[0]), item[1])  # type: ignore[arg-type]  # wire form of a token

        await run_all(one, record.objects, limit=self._view.base.info.concurrency)
        self._view.forget(from_bytes(record.path))

    async def recover(self) -> None:
        """Finishes all that was committed, moved or removed by half; uploads stay to be taken up again.

        An upload of which nothing is left on the base is forgotten.
        """
        await self.settle_below(RelPath(""))
        for path in list(self._uploads):
            found = await self._finished(await self._view.look_around(path))
            there = {piece.name.transaction for piece in found.left_over}
            await self._end([n for n in self._uploads.get(path, ()) if transaction_of(n) not in there])


def _paths(noted: Noted) -> list[RelPath]:
    record = noted.record
    found = [from_bytes(record.path)]
    return [*found, from_bytes(record.target)] if isinstance(record, MoveRecord) else found
