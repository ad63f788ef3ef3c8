"""An object store in memory: no directories but those that files imply, no links, no modes, no renames."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from mountsync.model.entry import Entry, Kind
from mountsync.paths import RelPath, parent_of
from mountsync.storage.memory import MemoryStorage
from mountsync.storage.memory_tree import Directory


class FlatStorage:
    """Wraps a `MemoryStorage`, whose tree tests may look into and change; call `prune` after that."""

    def __init__(self, inner: MemoryStorage | None = None) -> None:
        self._inner = inner or MemoryStorage()
        self._tree = self._inner._tree
        self.info = replace(
            self._inner.info,
            type="flat",
            empty_directories=False,
            moves_directories=False,
            stable_tokens=False,
            flat=True,
        )

    def list(self, path: RelPath, *, recursive: bool) -> Any:
        return _Plain(self._inner.list(path, recursive=recursive))

    async def stat(self, path: RelPath) -> Entry | None:
        return _plain(await self._inner.stat(path))

    def read(self, *args: Any, **named: Any) -> Any:
        return self._inner.read(*args, **named)

    async def write(self, *args: Any, **named: Any) -> Entry:
        return replace(await self._inner.write(*args, **named), mode=None)

    async def delete(self, path: RelPath, **named: Any) -> None:
        await self._inner.delete(path, **named)
        self.prune(path)

    async def copy(self, *args: Any, **named: Any) -> Entry:
        return replace(await self._inner.copy(*args, **named), mode=None)

    async def set_mtime(self, *args: Any, **named: Any) -> Entry:
        return replace(await self._inner.set_mtime(*args, **named), mode=None)

    def prune(self, path: RelPath) -> None:
        """Directories go with the last file in them."""
        above = parent_of(path)
        while above:
            found = self._tree.find(above)
            if isinstance(found, Directory) and not found.children:
                self._tree.remove_directory(above)
            above = parent_of(above)

    async def aclose(self) -> None:
        """Nothing is open."""


def _plain(entry: Entry | None) -> Entry | None:
    if entry is None:
        return None
    return replace(entry, mode=None) if entry.kind is not Kind.SYMLINK else entry


class _Plain:
    def __init__(self, inner: Any) -> None:
        self._inner = inner

    async def __aenter__(self) -> _Plain:
        self._batches = await self._inner.__aenter__()
        return self

    async def __aexit__(self, *what: object) -> Any:
        return await self._inner.__aexit__(*what)

    def __aiter__(self) -> _Plain:
        return self

    async def __anext__(self) -> list[Any]:
        return [(path, _plain(entry)) for path, entry in await self._batches.__anext__()]
