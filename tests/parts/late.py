"""A storage in memory that is like a Modal volume: times and modes come late, and a rename is a copy."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

from mountsync.model.entry import Entry
from mountsync.paths import RelPath
from mountsync.storage.api import ABSENT, Expect
from mountsync.storage.memory import MemoryStorage
from mountsync.storage.memory_tree import DEFAULT_FILE_MODE, Directory, File, Tree

_SECOND = 1_000_000_000


class LateStorage(MemoryStorage):
    """What `barrier` did not write down is lost when another one is opened over the tree: who was killed
    leaves files with the time at which they were stored. A renamed file is another object.
    """

    def __init__(self, tree: Tree) -> None:
        super().__init__(tree=tree)
        self._info = replace(self._info, moves_directories=False, stable_tokens=False, hashes=frozenset())
        if not hasattr(tree, "kept"):
            tree.kept, tree.stored, tree.seconds = {}, {}, itertools.count(1_600_000_000)  # type: ignore[attr-defined]
        self._known: Any = tree
        for file in self._files():
            own = (self._known.stored.get(file.version, file.mtime_ns), DEFAULT_FILE_MODE)
            file.mtime_ns, file.mode = self._known.kept.get(file.version, own)

    def _files(self) -> list[File]:
        waiting: list[Directory] = [self._tree._root]
        found = []
        while waiting:
            nodes = list(waiting.pop().children.values())
            waiting += [node for node in nodes if isinstance(node, Directory)]
            found += [node for node in nodes if isinstance(node, File)]
        return found

    def _stored(self, path: RelPath, entry: Entry) -> Entry:
        node = self._tree.find(path)
        if isinstance(node, File):
            self._known.stored[node.version] = next(self._known.seconds) * _SECOND
        return entry

    async def write(self, path: RelPath, *args: Any, **named: Any) -> Entry:
        return self._stored(path, await super().write(path, *args, **named))

    async def copy(self, source: RelPath, target: RelPath, **named: Any) -> Entry:
        return self._stored(target, await super().copy(source, target, **named))

    async def move(
        self, source: RelPath, target: RelPath, *, expect: Expect = None, replace: Expect = ABSENT
    ) -> Entry:
        entry = await super().move(source, target, expect=expect, replace=replace)
        node = self._tree.find(target)
        if isinstance(node, File) and source != target:
            node.version = self._tree._next()
            entry = self._stored(target, node.entry())
        return entry

    async def barrier(self) -> None:
        await super().barrier()
        for file in self._files():
            self._known.kept[file.version] = (file.mtime_ns, file.mode)
