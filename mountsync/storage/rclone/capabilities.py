"""What a remote of rclone's can do beyond the seven members, each where its backend says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from mountsync.errors import (
    DirectoryNotEmpty,
    IsADirectory,
    NameRefused,
    NotADirectory,
    NotFound,
    PermissionDenied,
)
from mountsync.formats.rclone_names import to_rclone
from mountsync.model.entry import DIRECTORY, Digest, Entry, Kind
from mountsync.paths import ROOT, RelPath, is_within
from mountsync.storage.api import ABSENT, Expect, Usage
from mountsync.storage.expectations import refuse_stale, refuse_target
from mountsync.storage.rclone.listing import Place
from mountsync.storage.rclone.objects import Remote
from mountsync.storage.rclone.staging import Staging
from mountsync.storage.rclone.storage import ALWAYS, RcloneStorage


def with_capabilities(place: Place, staging: Staging, *, concurrency: int) -> RcloneStorage:
    """A storage with the capabilities that its backend has."""
    mixins = [mixin for has, mixin in _MIXINS if has(place.facts)]
    kind = type("RcloneStorage", (*mixins, RcloneStorage), {})
    storage = kind(place, staging, concurrency=concurrency)
    assert isinstance(storage, RcloneStorage)
    return storage


class _Relocating(RcloneStorage):
    """What moving and copying have in common."""

    async def both(self, source: RelPath, target: RelPath, expect: Expect, replace: Expect) -> Entry:
        """What is at the source, after both ends were seen to be as they must."""
        found = await self.existing(source, expect)
        self.accept(target)
        await self.refuse_file_above(target)
        there = await self.stat(target)
        refuse_target(there, replace, target)
        if found.kind is Kind.DIRECTORY:
            await self._check_directory(there, source, target)
        elif there is not None and there.kind is Kind.DIRECTORY:
            raise IsADirectory("a directory is there", path=target)
        return found

    async def _check_directory(self, there: Entry | None, source: RelPath, target: RelPath) -> None:
        if target != source and is_within(target, source):
            raise NameRefused("a directory cannot go into itself", path=target)
        if there is not None and there.kind is not Kind.DIRECTORY:
            raise NotADirectory("something that is not a directory is there", path=target)
        if there is not None and target != source and await self._place.listed(target, recursive=False):
            raise DirectoryNotEmpty("a directory that is not empty is there", path=target)

    async def existing(self, path: RelPath, expect: Expect) -> Entry:
        """What is there, which must be as expected. The root cannot go anywhere."""
        if path == ROOT:
            raise PermissionDenied("the root of a storage cannot be moved")
        found = await self.stat(path)
        if found is None:
            raise NotFound("nothing is there", path=path)
        if found.kind is Kind.FILE:
            refuse_stale(found, expect, path)
        return found

    async def relocate(self, command: str, source: RelPath, target: RelPath) -> Entry:
        remote = self._place.remote
        ends = {"srcRemote": to_rclone(source), "dstRemote": to_rclone(target)}
        await self.change(command, source, srcFs=remote, dstFs=remote, _config=ALWAYS, **ends)
        return await self.made(target)


class _Moving(_Relocating):
    async def move(
        self, source: RelPath, target: RelPath, *, expect: Expect = None, replace: Expect = ABSENT
    ) -> Entry:
        """As `SupportsMove.move`. rclone removes what is at the target just before it moves."""
        async with self.locks.hold(source, target):
            found = await self.both(source, target, expect, replace)
            if source == target:
                return found
            if found.kind is Kind.FILE:
                return await self.relocate("operations/movefile", source, target)
            return await self._move_directory(source, target)

    async def _move_directory(self, source: RelPath, target: RelPath) -> Entry:
        if not self._info.moves_directories:
            raise IsADirectory("directories cannot be moved in one step there", path=source)
        if await self.stat(target) is not None:  # it is empty; rclone would move file by file into it
            await self.change("operations/rmdir", target, fs=self._place.remote, remote=to_rclone(target))
        await self.change(
            "sync/move",
            source,
            srcFs=self.place_of(source),
            dstFs=self.place_of(target),
            createEmptySrcDirs=True,
            deleteEmptySrcDirs=True,
        )
        return await self.made(target)

    def place_of(self, folder: RelPath) -> str:
        """A folder as a remote of its own."""
        remote = self._place.remote
        return f"{remote}{'' if remote.endswith((':', '/')) else '/'}{to_rclone(folder)}"


class _Copying(_Relocating):
    async def copy(
        self, source: RelPath, target: RelPath, *, expect: Expect = None, replace: Expect = ABSENT
    ) -> Entry:
        """As `SupportsCopy.copy`."""
        async with self.locks.hold(source, target):
            if (await self.existing(source, expect)).kind is Kind.DIRECTORY:
                raise IsADirectory("it is a directory", path=source)
            found = await self.both(source, target, expect, replace)
            return found if source == target else await self.relocate("operations/copyfile", source, target)


class _Directories(RcloneStorage):
    async def make_directory(self, path: RelPath) -> Entry:
        """As `SupportsDirectories.make_directory`."""
        self._info.names.insist(path)
        there = await self._place.stat(path) if path != ROOT else None
        if there is not None and not there.is_dir:
            raise NotADirectory("a file is there", path=path)
        if there is None:
            await self.change("operations/mkdir", path, fs=self._place.remote, remote=to_rclone(path))
        return DIRECTORY

    async def remove_directory(self, path: RelPath) -> None:
        """As `SupportsDirectories.remove_directory`."""
        there = await self.stat(path)
        if there is None:
            raise NotFound("nothing is there", path=path)
        if there.kind is not Kind.DIRECTORY:
            raise NotADirectory("it is not a directory", path=path)
        if await self._place.listed(path, recursive=False):
            raise DirectoryNotEmpty("the directory is not empty", path=path)
        await self.change("operations/rmdir", path, fs=self._place.remote, remote=to_rclone(path))


class _Hashes(RcloneStorage):
    async def hashes(self, path: RelPath, *, expect: Expect = None) -> Mapping[str, str]:
        """As `SupportsHashes.hashes`."""
        await self.existing_file(path, expect)
        item = await self._place.stat(path)
        known = (item.hashes if item is not None else None) or {}
        return {name: text for name, text in known.items() if text and name in self._info.hashes}


class _Digests(_Hashes):
    async def digest(self, path: RelPath, *, expect: Expect = None) -> Digest | None:
        """As `SupportsDigest.digest`."""
        told = (await self.hashes(path, expect=expect)).get("sha256")
        return Digest(told) if told else None


class _About(msgspec.Struct):
    total: int | None = None
    used: int | None = None
    free: int | None = None


class _Space(RcloneStorage):
    async def usage(self) -> Usage:
        """As `SupportsUsage.usage`."""
        answer = await self._place.rpc.call("operations/about", fs=self._place.remote)
        told = msgspec.json.decode(answer, type=_About)
        return Usage(told.total, told.used, told.free)


def _plain_hashes(facts: Remote) -> bool:
    return "sha256" not in facts.cheap_hashes and bool({"md5", "sha1"}.intersection(facts.cheap_hashes))


_MIXINS: Final = (
    (lambda facts: facts.features.move or facts.features.copy, _Moving),
    (lambda facts: facts.features.copy, _Copying),
    (lambda facts: facts.features.can_have_empty_directories, _Directories),
    (lambda facts: "sha256" in facts.cheap_hashes, _Digests),
    (_plain_hashes, _Hashes),
    (lambda facts: facts.features.about, _Space),
)
