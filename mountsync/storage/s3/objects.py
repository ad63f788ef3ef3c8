"""Looking at objects: what is at a path, and whether something can be put there."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from mountsync.errors import IsADirectory, NotADirectory, NotFound, Stale
from mountsync.model.entry import DIRECTORY, Entry, Kind, Token
from mountsync.paths import RelPath, ancestors
from mountsync.storage.api import ABSENT, Expect
from mountsync.storage.s3 import mtimes
from mountsync.storage.s3.client import Answer, Client
from mountsync.storage.s3.keys import Keys
from mountsync.storage.together import each

_FOLDER_SECONDS: Final = 30.0
_MOST_FOLDERS: Final = 100_000


@dataclass(frozen=True, slots=True)
class Object:
    """One object, as a HEAD tells it."""

    entry: Entry
    uploaded_ns: int
    """When, to the second."""
    metadata: Mapping[str, str]
    headers: Answer

    @property
    def token(self) -> Token:
        assert self.entry.token is not None
        return self.entry.token


def token_of(etag: str) -> Token:
    """The token for an ETag."""
    return Token(etag.removeprefix("W/").strip('"'))


def condition(expect: Expect) -> dict[str, str]:
    """The headers that make a change depend on an expectation."""
    if expect is None:
        return {}
    return {"IfNoneMatch": "*"} if expect is ABSENT else {"IfMatch": f'"{expect}"'}


class Objects:
    """Looks at a bucket. Folders that were seen lately are not asked for again; `now` in seconds."""

    def __init__(self, client: Client, keys: Keys, *, from_metadata: bool, now: Callable[[], float]) -> None:
        self.client = client
        self.keys = keys
        self._from_metadata = from_metadata
        self._now = now
        self._folders: dict[RelPath, float] = {}

    async def find(self, path: RelPath) -> Object | None:
        """The object at a path, None when there is none; a directory is none."""
        try:
            answer = await self.client.call("head_object", path, Key=self.keys.key(path))
        except NotFound:
            return None
        return self._object(answer)

    def _object(self, answer: Answer) -> Object:
        metadata: dict[str, Any] = {key.lower(): value for key, value in answer["Metadata"].items()}
        uploaded = mtimes.whole_seconds(answer["LastModified"])
        told = mtimes.from_text(metadata.get(mtimes.KEY)) if self._from_metadata else None
        entry = Entry(
            Kind.FILE,
            size=answer["ContentLength"],
            mtime_ns=uploaded if told is None else told,
            token=token_of(answer["ETag"]),
        )
        return Object(entry, uploaded, metadata, answer)

    async def is_folder(self, path: RelPath) -> bool:
        """Whether an object is below a path. A marker of a directory is none."""
        if not path:
            return True
        below, start = self.keys.below(path), None
        while True:
            page = await self.client.call("list_objects_v2", path, Prefix=below, MaxKeys=10, StartAfter=start)
            found = [item["Key"] for item in page.get("Contents", ())]
            if any(self.keys.path(key) is not None for key in found):
                self.saw_folder(path)
                return True
            if not found or not page.get("IsTruncated"):
                return False
            start = found[-1]

    async def stat(self, path: RelPath) -> Entry | None:
        """The entry at a path, a directory's too. The root is there with the first key below its prefix."""
        if not path:
            return DIRECTORY if not self.keys.prefix or await self._is_begun() else None
        found = await self.find(path)
        if found is not None:
            return found.entry
        return DIRECTORY if await self.is_folder(path) else None

    async def _is_begun(self) -> bool:
        below = self.keys.below(RelPath(""))
        page = await self.client.call("list_objects_v2", RelPath(""), Prefix=below, MaxKeys=1)
        return bool(page.get("Contents"))

    async def insist(self, path: RelPath, expect: Expect) -> Object:
        """The object. Raises NotFound, IsADirectory or Stale."""
        found = await self.find(path) if path else None
        if found is None:
            raise await self.absent(path)
        if expect is not None and found.token != expect:
            raise Stale("it is not the version that was expected", path=path)
        return found

    async def absent(self, path: RelPath) -> IsADirectory | NotFound:
        """The error for a path at which no object is."""
        if await self.is_folder(path):
            return IsADirectory("it is a directory", path=path)
        return NotFound("nothing is there", path=path)

    def saw_folder(self, path: RelPath) -> None:
        """An object is below this directory, and below those above it, right now."""
        if len(self._folders) > _MOST_FOLDERS:
            self._folders.clear()
        now = self._now()
        self._folders.update((folder, now) for folder in (path, *ancestors(path)) if folder)

    def saw_file(self, path: RelPath) -> None:
        """An object is at this path right now."""
        self._folders.pop(path, None)
        if "/" in path:
            self.saw_folder(RelPath(path.rpartition("/")[0]))

    def lost_file(self, path: RelPath) -> None:
        """An object went; so may have the folders above it."""
        for folder in ancestors(path):
            self._folders.pop(folder, None)

    def _is_fresh(self, folder: RelPath) -> bool:
        return self._now() - self._folders.get(folder, -_FOLDER_SECONDS) < _FOLDER_SECONDS

    async def make_way(self, path: RelPath, *, look: bool) -> tuple[Entry | None, NotADirectory | None]:
        """What a new object at `path` would replace, and why it could not be there for what is above it.

        Without `look` a file at the path itself is not looked for.
        """
        found: dict[RelPath, Entry] = {}
        files = [above for above in ancestors(path) if not self._is_fresh(above)]
        if look:
            files.append(path)

        async def look_for(item: tuple[str, RelPath]) -> None:
            kind, at = item
            if kind == "folder":
                if await self.is_folder(at):
                    found.setdefault(at, DIRECTORY)
                return
            there = await self.find(at)
            if there is not None:
                found[at] = there.entry

        await each([("folder", path), *(("file", at) for at in files)], look_for, at_once=4)
        blocking = next((above for above in ancestors(path) if above in found), None)
        refused = NotADirectory(f"its parent {blocking!r} is a file", path=path) if blocking else None
        return found.get(path), refused
