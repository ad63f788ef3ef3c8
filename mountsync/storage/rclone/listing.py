"""Listings through rclone: whole trees in one call where all goes well, else folder by folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import trio

from mountsync.errors import AccessRefused, ConfigError, MountsyncError, NotADirectory, NotFound, Unreachable
from mountsync.formats.rclone_names import to_rclone
from mountsync.model.entry import Kind, Problem
from mountsync.paths import ROOT, RelPath
from mountsync.storage.api import Listed
from mountsync.storage.rclone import objects
from mountsync.storage.rclone.rpc import Rpc

_BATCH: Final = 2000
_FATAL: Final = (Unreachable, AccessRefused, ConfigError)


class Place:
    """One remote of rclone's, and what is known of it."""

    def __init__(self, rpc: Rpc, remote: str, facts: objects.Remote) -> None:
        self.rpc = rpc
        self.remote = remote
        self.facts = facts

    @property
    def _options(self) -> dict[str, object]:
        hashes = list(self.facts.cheap_hashes)
        return {"noMimeType": True, "showHash": bool(hashes), "hashTypes": hashes}

    @property
    def _implied(self) -> objects.Item | None:
        """The root of a remote without directories is there even when it is empty."""
        folders = self.facts.features.can_have_empty_directories
        return None if folders else objects.Item(path="", is_dir=True)

    async def stat(self, path: RelPath) -> objects.Item | None:
        """The object, None when nothing is there. Raises what calls raise."""
        try:
            answer = await self.rpc.call(
                "operations/stat", path, fs=self.remote, remote=to_rclone(path), opt=self._options
            )
        except (NotFound, NotADirectory):
            return self._implied if path == ROOT else None
        return msgspec.json.decode(answer, type=objects.Found).item

    async def is_begun(self) -> bool:
        """Whether the root exists. Without directories it does with the first object in it."""
        if self.facts.features.can_have_empty_directories:
            return await self.stat(ROOT) is not None
        try:
            return bool(objects.items_of(await self._list(ROOT, self._options)))
        except (NotFound, NotADirectory):
            return False

    async def listed(self, path: RelPath, *, recursive: bool) -> list[Listed]:
        """One answer of rclone's, whole."""
        options = self._options | {"recurse": recursive}
        answer = await self._list(path, options)
        return await trio.to_thread.run_sync(
            lambda: objects.listed(objects.items_of(answer), self.facts), abandon_on_cancel=True
        )

    async def _list(self, path: RelPath, options: dict[str, object]) -> bytes:
        return await self.rpc.call(
            "operations/list", path, fs=self.remote, remote=to_rclone(path), opt=options
        )

    async def partials(self, folder: RelPath) -> list[str]:
        """Names, as rclone has them, of uploads into a folder that have not ended."""
        answer = await self._list(folder, {"noModTime": True, "noMimeType": True, "filesOnly": True})
        names = (item.path.rpartition("/")[2] for item in objects.items_of(answer))
        return [name for name in names if objects.is_partial(name)]


class RcloneListing:
    """Iterates over batches of a listing; see `Storage.list`."""

    def __init__(self, place: Place, path: RelPath, *, recursive: bool) -> None:
        self._place = place
        self._path = path
        self._recursive = recursive
        self._ready: list[Listed] | None = None
        self._folders: list[RelPath] = []

    def __aiter__(self) -> RcloneListing:
        return self

    async def __anext__(self) -> Sequence[Listed]:
        if self._ready is None:
            self._ready = await self._first()
        while not self._ready and self._folders:
            self._ready = await self._next(self._folders.pop())
        if not self._ready:
            raise StopAsyncIteration
        batch, self._ready = self._ready[:_BATCH], self._ready[_BATCH:]
        return batch

    async def _first(self) -> list[Listed]:
        """Remotes without directories answer for any name; only one with objects is a directory."""
        found = await self._begun()
        if not found and self._path != ROOT:
            item = await self._place.stat(self._path)
            if item is None:
                raise NotFound("nothing is there", path=self._path)
            if not item.is_dir:
                raise NotADirectory("it is not a directory", path=self._path)
        return found

    async def _begun(self) -> list[Listed]:
        """The whole in one call; when that fails for a folder somewhere, this folder alone."""
        if self._recursive:
            try:
                return await self._place.listed(self._path, recursive=True)
            except _FATAL:
                raise
            except MountsyncError:
                pass  # which folder it was, a walk finds out
        found = await self._here()
        self._note_folders(found)
        return found

    async def _here(self) -> list[Listed]:
        try:
            return await self._place.listed(self._path, recursive=False)
        except NotFound:
            await self._refuse_file()
            if self._path == ROOT and await self._place.stat(ROOT) is not None:
                return []
            raise
        except _FATAL:
            raise
        except MountsyncError as error:
            await self._refuse_file()
            if self._path == ROOT:
                raise Unreachable(f"the root cannot be listed: {error.reason}", path=self._path) from error
            return [(self._path, _problem(error))]

    async def _refuse_file(self) -> None:
        found = await self._place.stat(self._path)
        if found is not None and not found.is_dir:
            raise NotADirectory("it is not a directory", path=self._path)

    async def _next(self, folder: RelPath) -> list[Listed]:
        try:
            found = await self._place.listed(folder, recursive=False)
        except NotFound:
            return []  # it went meanwhile
        except _FATAL:
            raise
        except MountsyncError as error:
            return [(folder, _problem(error))]
        self._note_folders(found)
        return found

    def _note_folders(self, found: list[Listed]) -> None:
        if self._recursive:
            self._folders += [
                path
                for path, entry in found
                if not isinstance(entry, Problem) and entry.kind is Kind.DIRECTORY
            ]


def _problem(error: MountsyncError) -> Problem:
    return Problem(error.reason, transient=True, error=type(error).__name__)
