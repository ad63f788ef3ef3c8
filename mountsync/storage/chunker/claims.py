"""Objects that a change makes under the id of its transaction, each one where nothing is yet.

An id is the second in which a transaction began and one of 1296 chances: two writers of one name can
have the same. Nobody can know an id to be its own by having chosen it; each object that could be made
where nothing was is. Whoever finds one of another writer in a place goes on under another id.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from mountsync.errors import AlreadyExists, PathError, Stale
from mountsync.model.entry import Entry, Token
from mountsync.paths import RelPath
from mountsync.storage.api import Storage
from mountsync.storage.chunker.objects import is_there, remove
from mountsync.storage.chunker.parallel import run_all


class Claims:
    """What one change has made under one id, and nothing that others made there."""

    def __init__(self, base: Storage) -> None:
        self._base = base
        self._made: dict[RelPath, Token | None] = {}
        """None where it is not known what became of it."""
        self.refused = False
        """Whether another writer uses the id too. Then begin nothing more, but let end what is under way:
        what is cancelled can be neither removed for sure nor left."""

    async def make(self, path: RelPath, step: Callable[[], Awaitable[Entry]]) -> Entry | None:
        """The object that `step` makes at `path`, expecting nothing there; None when it is another's.

        Raises what `step` raises for any other reason.
        """
        for last in (False, True):
            self._made[path] = None
            try:
                entry = await step()
            except PathError as error:
                del self._made[path]
                if not isinstance(error, Stale | AlreadyExists):
                    raise
                if await is_there(self._base, path):
                    self.refused = True
                    return None
                if last:
                    raise
                # Another writer came and made way again: should both give up for that, none would be left.
            else:
                self._made[path] = entry.token
                return entry
        raise AssertionError("unreachable")

    def changed(self, path: RelPath, entry: Entry) -> None:
        """Notes that an object of ours is another version now."""
        self._made[path] = entry.token

    async def remove_all(self) -> None:
        """Removes what was made, unless somebody else has replaced it."""

        async def one(made: tuple[RelPath, Token | None]) -> None:
            await remove(self._base, *made)

        with trio.CancelScope(shield=True):
            await run_all(one, list(self._made.items()), limit=self._base.info.concurrency)
