"""Hints of what changed on a side, and the truth about whether anybody is watching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

from mountsync.errors import MountsyncError, Unreachable
from mountsync.paths import ROOT, RelPath, is_ours
from mountsync.storage.api import Storage, SupportsWatch

_AGAIN_S: Final = 30.0
"""After that time a watcher that died is started again."""


class SideWatch:
    """Watches one side as long as `run` runs. A watcher that dies says so and is started again."""

    def __init__(
        self, storage: Storage, name: str, hint: Callable[[RelPath], None], lost: Callable[[], None]
    ) -> None:
        """`hint` is told what may have changed, `lost` that there was too much of it to be told."""
        self._storage = storage
        self._name = name
        self._hint = hint
        self._lost = lost
        self.trouble: str | None = None
        """Why nobody watches, None while somebody does."""
        self.ready = trio.Event()
        """Changes are hinted from now on, or it is known that nobody watches."""
        self.losses = 0
        """How often changes came faster than they could be told."""
        self._made_good = 0

    @property
    def can_watch(self) -> bool:
        """Whether the storage tells of changes by itself."""
        return isinstance(self._storage, SupportsWatch)

    @property
    def behind(self) -> str | None:
        """Says that events were lost until everything was looked at since."""
        if self.losses == self._made_good:
            return None
        return f"side {self._name} changed too fast and events were lost; looking at everything"

    def make_good(self, losses: int) -> None:
        """Everything was looked at, in a look that began when there were so many losses."""
        self._made_good = losses

    async def run(self) -> None:
        """Never ends by itself where the storage can watch.

        After each new start, and after a lost event, everything is looked at.
        """
        if not isinstance(self._storage, SupportsWatch):
            self.ready.set()
            return
        while True:
            try:
                await self._watch(self._storage)
                self.trouble = f"the watcher of side {self._name} ended"
            except (MountsyncError, OSError) as error:
                self.trouble = f"the watcher of side {self._name} died: {error}"
            self.ready.set()
            self._hint(ROOT)
            await trio.sleep(_AGAIN_S)

    async def _watch(self, storage: SupportsWatch) -> None:
        try:
            async with storage.watch() as hints:
                if self.trouble is not None:
                    self._hint(ROOT)
                self.trouble = None
                self.ready.set()
                async for paths in hints:
                    if ROOT in paths:
                        self.losses += 1
                        self._lost()
                    for path in paths:
                        if not is_ours(path):
                            self._hint(path)
        except BaseExceptionGroup as group:
            raise Unreachable(f"it failed: {group.exceptions[0]}") from group
