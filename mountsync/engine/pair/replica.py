"""A storage as one side of a pair: looks again before it destroys, and keeps what it replaces.

Everything that is overwritten or deleted goes to the backups first, unless there are none. Bodies are
hashed while they pass. An object that was renamed in this run may have got another token; actions that
were planned with the old one find it all the same.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from mountsync.engine.hashing import OnDisk, digest_of
from mountsync.engine.pair.backups import Backups
from mountsync.engine.pair.bodies import HashingSource
from mountsync.engine.pair.filters import Filter
from mountsync.engine.storage_replica import StorageReplica
from mountsync.errors import MountsyncError, NotFound, Stale
from mountsync.model.entry import Digest, Entry, Kind, Token
from mountsync.model.plan import Delete, MakeSymlink, Move, Put, SetAttributes
from mountsync.paths import RelPath
from mountsync.storage.api import Source, Storage, SupportsBody

Look = Callable[[RelPath], Awaitable[Entry | None]]


class PairReplica(StorageReplica):
    """One side of a pair. `backups` None: nothing is kept."""

    def __init__(
        self,
        storage: Storage,
        hidden: Filter,
        backups: Backups | None,
        *,
        hash_bodies: bool = True,
        open_bodies: bool = False,
    ) -> None:
        super().__init__(storage, excluded=hidden.hides)
        self._backups = backups
        self._hash_bodies = hash_bodies
        self._opener = storage if open_bodies and isinstance(storage, SupportsBody) else None
        self._renewed: dict[tuple[RelPath, Token], Token] = {}
        self.across: Look | None = None
        """Looks at the other side: what came back there is not deleted here."""

    def _known(self, path: RelPath, entry: Entry) -> Entry:
        """The entry with the token that the object has since it was renamed."""
        if entry.token is None or not self._renewed:
            return entry
        return replace(entry, token=self._renewed.get((path, entry.token), entry.token))

    @asynccontextmanager
    async def body(self, path: RelPath, entry: Entry) -> AsyncIterator[Source]:
        """The content of a file, held open where the storage can do that."""
        known = self._known(path, entry)
        if self._opener is not None:
            async with self._opener.body(path, expect=known.token) as source:
                yield source
        else:
            async with super().body(path, known) as source:
                yield source

    async def put(self, action: Put, source: Source) -> Entry:
        """Puts a file. The entry has the digest of what passed, where digests are wanted."""
        expect = None if action.expect is None else await self._make_way(action.path, action.expect)
        todo = action if expect is action.expect else replace(action, expect=expect)
        if not self._hash_bodies:
            return await super().put(todo, source)
        hashing = _Both(source) if hasattr(source, "fileno") else HashingSource(source)
        made = await super().put(todo, hashing)
        if made.digest is not None:
            return made
        return made.with_digest(hashing.digest or await _of_descriptor(source))

    async def _make_way(self, path: RelPath, old: Entry) -> Entry | None:
        """Keeps what will be overwritten; gives what stands at `path` then."""
        expect = self._known(path, old)
        place = self._object(path, expect)
        if self._backups is not None:
            await self._backups.copy(place, expect)
        if place == path:
            return expect
        await self.storage.delete(place, expect=expect.token)
        return None

    async def make_symlink(self, action: MakeSymlink) -> Entry:
        if action.expect is None:
            return await super().make_symlink(action)
        expect = self._known(action.path, action.expect)
        gone = await self._put_away(action.path, expect)
        return await self._or_back(
            gone,
            self._object(action.path, expect),
            super().make_symlink(replace(action, expect=None if gone else expect)),
        )

    async def _put_away(self, path: RelPath, entry: Entry) -> RelPath | None:
        """Moves an object to the backups, or copies it there; tells where it was moved to."""
        if self._backups is None:
            return None
        return await self._backups.put_away(self._object(path, entry), entry)

    async def _or_back(self, gone: RelPath | None, path: RelPath, work: Awaitable[Entry]) -> Entry:
        """Does what replaces an object that was put away; brings it back when that cannot be done."""
        try:
            return await work
        except MountsyncError:
            if gone is not None and self._backups is not None:
                await self._backups.bring_back(gone, path)
            raise

    async def delete(self, action: Delete) -> None:
        """Removes an entry. Raises Stale when something of that kind is on the other side again."""
        if action.expect.kind is Kind.DIRECTORY:
            await super().delete(action)
            return
        if self.across is not None:
            there = await self.across(action.path)
            if there is not None and there.kind is action.expect.kind:
                raise Stale("it is on the other side again", path=action.path)
        expect = self._known(action.path, action.expect)
        try:
            gone = await self._put_away(action.path, expect)
        except NotFound:
            return  # somebody else was faster: both sides agree that it is gone
        if gone is None:
            await super().delete(replace(action, expect=expect))

    async def move(self, action: Move) -> Entry:
        """Renames an entry; what it replaces goes to the backups."""
        expect = self._known(action.source, action.expect)
        under = None if action.replace is None else self._known(action.target, action.replace)
        gone = None
        if under is not None and under.kind is not Kind.DIRECTORY:
            gone = await self._put_away(action.target, under)
        todo = replace(action, expect=expect, replace=None if gone else under)
        made = await self._or_back(gone, self._object(action.target, under or expect), super().move(todo))
        if action.expect.token is not None and made.token is not None:
            self._renewed[action.target, action.expect.token] = made.token
        return made

    async def set_attributes(self, action: SetAttributes) -> Entry:
        return await super().set_attributes(replace(action, expect=self._known(action.path, action.expect)))


class _Both(HashingSource):
    """A body on this machine's disk: hashed if it is read, copied by the kernel where that can be done."""

    def __init__(self, source: Source) -> None:
        super().__init__(source)
        assert isinstance(source, OnDisk)
        self.fileno = source.fileno


async def _of_descriptor(source: Source) -> Digest | None:
    """The digest of a body that the kernel copied; None when it moved on meanwhile."""
    if not isinstance(source, OnDisk):
        return None
    try:
        return await digest_of(source)
    except Stale:
        return None
