"""Listing a bucket: pages of keys become entries, with the directories that the keys imply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from mountsync.errors import MountsyncError, NotADirectory, NotFound, PermissionDenied, Unreachable
from mountsync.model.entry import DIRECTORY, Entry, Kind, Problem
from mountsync.paths import RelPath, ancestors, is_within
from mountsync.storage.api import Listed
from mountsync.storage.s3 import mtimes
from mountsync.storage.s3.objects import Objects, token_of
from mountsync.storage.together import each

_AT_ONCE: Final = 12
_MOST_TIMES: Final = 500_000

Version = tuple[str | None, int]
"""The token of an object and the second of its upload."""


class Times:
    """The mtimes of versions that were seen; listings do not tell them."""

    def __init__(self) -> None:
        self._known: dict[RelPath, tuple[Version, int | None]] = {}

    def find(self, path: RelPath, version: Version) -> tuple[int | None] | None:
        """The mtime in a tuple, None when this version was not seen."""
        known = self._known.get(path)
        return (known[1],) if known is not None and known[0] == version else None

    def note(self, path: RelPath, version: Version, mtime_ns: int | None) -> None:
        """Remembers one."""
        if len(self._known) >= _MOST_TIMES:
            self._known.clear()
        self._known[path] = (version, mtime_ns)

    def forget(self, path: RelPath) -> None:
        """The object changes now."""
        self._known.pop(path, None)


class Folding:
    """Makes entries of keys. The server gives keys in order, so a file comes before what is below it."""

    def __init__(self, objects: Objects, top: RelPath) -> None:
        self._keys = objects.keys
        self._top = top
        self._folders: set[RelPath] = set()
        self._files: list[RelPath] = []
        """Files of which the last key is a continuation: each begins with the one before."""

    def fold(self, contents: Sequence[Mapping[str, Any]]) -> list[Listed]:
        """The entries of one page. Markers of directories, and keys that are no paths, are left out."""
        found: list[Listed] = []
        for item in contents:
            path = self._keys.path(item["Key"])
            if path is not None:
                found += self._one(path, item)
        return found

    def _one(self, path: RelPath, item: Mapping[str, Any]) -> list[Listed]:
        while self._files and not path.startswith(self._files[-1]):
            self._files.pop()
        blocking = next((file for file in self._files if is_within(path, file)), None)
        if blocking is not None:
            return [(blocking, _both())]
        self._files.append(path)
        fresh = [at for at in ancestors(path) if at not in self._folders and at != self._top]
        fresh = [at for at in fresh if is_within(at, self._top)]
        self._folders.update(fresh)
        return [*((at, DIRECTORY) for at in reversed(fresh)), (path, _entry(item))]


def _both() -> Problem:
    return Problem("it is an object and a directory at once", transient=False, error="NotADirectory")


def _entry(item: Mapping[str, Any]) -> Entry:
    uploaded = mtimes.whole_seconds(item["LastModified"])
    return Entry(Kind.FILE, size=item["Size"], mtime_ns=uploaded, token=token_of(item["ETag"]))


class Listing:
    """Iterates over the batches of one listing."""

    def __init__(self, objects: Objects, times: Times | None, path: RelPath, *, recursive: bool) -> None:
        """Without `times`, those of the uploads are given."""
        self._objects = objects
        self._times = times
        self._path = path
        self._recursive = recursive
        self._folding = Folding(objects, path)
        self._next: str | None = None
        self._ended = False
        self._empty = True

    def __aiter__(self) -> Listing:
        return self

    async def __anext__(self) -> Sequence[Listed]:
        while not self._ended:
            batch = await self._batch()
            if batch:
                self._empty = False
                return batch
        if self._empty and self._path:
            self._empty = False
            raise await self._nothing()
        raise StopAsyncIteration

    async def _nothing(self) -> MountsyncError:
        if await self._objects.find(self._path) is not None:
            return NotADirectory("it is not a directory", path=self._path)
        return NotFound("nothing is there", path=self._path)

    async def _batch(self) -> list[Listed]:
        page = await self._objects.client.call(
            "list_objects_v2",
            self._path,
            Prefix=self._objects.keys.below(self._path),
            Delimiter=None if self._recursive else "/",
            ContinuationToken=self._next,
        )
        self._next = page.get("NextContinuationToken")
        self._ended = not page.get("IsTruncated", False)
        if not self._ended and not self._next:
            raise Unreachable("the server cut the listing short", path=self._path)
        found = dict(self._folding.fold(page.get("Contents", ())))
        await self._tell_times(found)
        await self._add_folders(found, page.get("CommonPrefixes", ()))
        return list(found.items())

    async def _add_folders(self, found: dict[RelPath, Any], prefixes: Sequence[Mapping[str, str]]) -> None:
        """A prefix is a directory when more than markers is below it."""
        folders = [self._objects.keys.path(item["Prefix"].removesuffix("/")) for item in prefixes]

        async def look(path: RelPath) -> None:
            if await self._objects.is_folder(path):
                found[path] = _both() if path in found else DIRECTORY

        await each([path for path in folders if path is not None], look, at_once=_AT_ONCE)

    async def _tell_times(self, found: dict[RelPath, Any]) -> None:
        if self._times is None:
            return
        unknown = []
        for path, entry in found.items():
            if not isinstance(entry, Entry) or entry.kind is not Kind.FILE:
                continue
            known = self._times.find(path, (entry.token, entry.mtime_ns or 0))
            if known is None:
                unknown.append(path)
            else:
                found[path] = _timed(entry, known[0])

        async def ask(path: RelPath) -> None:
            assert self._times is not None
            await _ask(self._objects, self._times, path, found)

        await each(unknown, ask, at_once=_AT_ONCE)


async def _ask(objects: Objects, times: Times, path: RelPath, found: dict[RelPath, Any]) -> None:
    """Looks at one object; what it is now replaces what the listing told."""
    try:
        now = await objects.find(path)
    except PermissionDenied as error:
        found[path] = Problem(error.reason, transient=False, error=type(error).__name__)
        return
    if now is None:
        del found[path]
        return
    times.note(path, (now.token, now.uploaded_ns), now.entry.mtime_ns)
    found[path] = now.entry


def _timed(entry: Entry, mtime_ns: int | None) -> Entry:
    return Entry(Kind.FILE, size=entry.size, mtime_ns=mtime_ns, token=entry.token)
