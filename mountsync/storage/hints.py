"""A mailbox of watch hints: posted from anywhere on the loop, collected by one watcher."""

from __future__ import annotations

from typing import Final

import trio

from mountsync.errors import MountsyncError
from mountsync.paths import ROOT, RelPath

MAX_HINTS: Final = 10_000
"""More changed paths than this between two looks become one "look everywhere"."""


class HintBox:
    """Collects changed paths until somebody takes them. An iterator of sets, as a watch gives it.

    Paths posted while nobody waits are kept; a flood becomes {ROOT}.
    """

    def __init__(self) -> None:
        self._paths: set[RelPath] = set()
        self._ready = trio.Event()
        self._error: MountsyncError | None = None

    def post(self, path: RelPath) -> None:
        """Adds one path."""
        if len(self._paths) >= MAX_HINTS:
            self._paths = {ROOT}
        self._paths.add(path)
        self._ready.set()

    def fail(self, error: MountsyncError) -> None:
        """Ends the iteration with this error once the posted paths were taken."""
        self._error = error
        self._ready.set()

    def __aiter__(self) -> HintBox:
        return self

    async def __anext__(self) -> frozenset[RelPath]:
        await self._ready.wait()
        if not self._paths and self._error is not None:
            raise self._error
        taken, self._paths = frozenset(self._paths), set()
        if self._error is None:
            self._ready = trio.Event()
        return frozenset({ROOT}) if ROOT in taken else taken
