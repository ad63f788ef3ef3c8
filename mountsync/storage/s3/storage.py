"""A prefix of a bucket as a storage."""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace as changed
from typing import Final

import trio

from mountsync.errors import AlreadyExists, IsADirectory, NotFound, PathError, Stale
from mountsync.model.entry import Entry, Kind, Token
from mountsync.paths import RelPath
from mountsync.storage.api import ABSENT, Enforcement, Expect, Listed, Source, StorageInfo
from mountsync.storage.expectations import refuse_stale, refuse_target
from mountsync.storage.s3 import mtimes
from mountsync.storage.s3.attempts import Attempts
from mountsync.storage.s3.client import Client
from mountsync.storage.s3.download import Download
from mountsync.storage.s3.guards import Guards
from mountsync.storage.s3.keys import Keys
from mountsync.storage.s3.listing import Listing, Times
from mountsync.storage.s3.objects import Object, Objects, condition
from mountsync.storage.s3.settings import Settings
from mountsync.storage.s3.upload import Uploader

_MAX_SIZE: Final = 5 << 40
_MD5: Final = re.compile(r"[0-9a-f]{32}")


class S3Storage:
    """Objects of one bucket below a prefix. Directories are only what keys imply."""

    def __init__(
        self,
        client: Client,
        settings: Settings,
        guards: Guards,
        attempts: Attempts,
        *,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """`client` is started, and closed by `aclose`. `now_ns` times writes without an mtime."""
        self._client = client
        self._guards = guards
        self._attempts = attempts
        self._now_ns = now_ns
        self._keys = Keys(settings.prefix)
        exact = settings.times_from_metadata
        self._objects = Objects(client, self._keys, from_metadata=exact, now=time.monotonic)
        self._times = Times() if exact else None
        self._uploader = Uploader(
            self._objects, guards, attempts, part_size=settings.part_size, concurrency=settings.concurrency
        )
        self._info = StorageInfo(
            type="s3",
            identity=f"s3:{settings.host}/{settings.bucket}/{settings.prefix}".rstrip("/"),
            mtime_precision_ns=1 if exact else None,
            times_outside_tokens=exact,
            empty_directories=False,
            enforcement=Enforcement.ATOMIC if guards.atomic else Enforcement.CHECKED,
            names=self._keys.rules,
            max_size=_MAX_SIZE,
            read_block=4 << 20,
            concurrency=8,
            flat=True,
            hashes=frozenset({"md5"}),
        )

    @property
    def info(self) -> StorageInfo:
        return self._info

    @asynccontextmanager
    async def list(self, path: RelPath, *, recursive: bool) -> AsyncIterator[AsyncIterator[Sequence[Listed]]]:
        await trio.lowlevel.checkpoint()
        yield Listing(self._objects, self._times, path, recursive=recursive)

    async def stat(self, path: RelPath) -> Entry | None:
        return await self._objects.stat(path)

    @asynccontextmanager
    async def read(
        self, path: RelPath, offset: int = 0, length: int | None = None, *, expect: Expect = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        download = Download(self._objects, path, offset, length)
        try:
            await download.open(expect)
            yield download
        finally:
            download.close()

    async def write(
        self, path: RelPath, source: Source, *, mtime_ns: int | None = None, expect: Expect = None
    ) -> Entry:
        self._accept(path)
        there, refused = await self._objects.make_way(path, look=expect is not None)
        if refused is not None:
            raise refused
        if there is not None and there.kind is Kind.DIRECTORY:
            raise IsADirectory("a directory is there", path=path)
        refuse_stale(there, expect, path)
        when = self._now_ns() if mtime_ns is None else mtime_ns
        token = await self._uploader.put(path, source, {mtimes.KEY: mtimes.to_text(when)}, expect)
        self._came(path)
        return await self._made(path, Entry(Kind.FILE, size=source.size, mtime_ns=when, token=token))

    def _accept(self, path: RelPath) -> None:
        if not path:
            raise IsADirectory("the root is a directory", path=path)
        self._info.names.insist(path)

    def _came(self, path: RelPath) -> None:
        self._objects.saw_file(path)
        if self._times is not None:
            self._times.forget(path)

    async def _made(self, path: RelPath, entry: Entry) -> Entry:
        """The entry of what was written; the time of an upload must be asked for."""
        if self._times is not None:
            return entry
        found = await self._objects.find(path)
        return changed(entry, mtime_ns=found.entry.mtime_ns if found is not None else None)

    async def delete(self, path: RelPath, *, expect: Expect = None) -> None:
        await self._objects.insist(path, expect)
        guarded = expect is not None and self._guards.deletes
        try:
            await self._client.call(
                "delete_object", path, Key=self._keys.key(path), **(condition(expect) if guarded else {})
            )
        finally:
            self._objects.lost_file(path)
            if self._times is not None:
                self._times.forget(path)

    async def copy(
        self, source: RelPath, target: RelPath, *, expect: Expect = None, replace: Expect = ABSENT
    ) -> Entry:
        found = await self._objects.insist(source, expect)
        self._accept(target)
        there, refused = await self._objects.make_way(target, look=True)
        if refused is not None:
            raise refused
        refuse_target(there, replace, target)
        if there is not None and there.kind is Kind.DIRECTORY:
            raise IsADirectory("a directory is there", path=target)
        if source == target:
            return found.entry
        token = await self._copied(source, found, target, replace)
        self._came(target)
        if mtimes.KEY in found.metadata:
            return await self._made(target, changed(found.entry, token=token))
        copied = await self._objects.find(target)
        return changed(found.entry, token=token, mtime_ns=copied.entry.mtime_ns if copied else None)

    async def _copied(self, source: RelPath, found: Object, target: RelPath, replace: Expect) -> Token:
        try:
            return await self._uploader.copy(source, found.entry, target, replace)
        except NotFound:
            raise NotFound("it went while it was copied", path=source) from None
        except Stale:
            now = await self._objects.find(source)
            if replace is ABSENT and now is not None and now.token == found.token:
                raise AlreadyExists("something is there already", path=target) from None
            raise

    async def set_mtime(self, path: RelPath, mtime_ns: int, *, expect: Expect = None) -> Entry:
        found = await self._objects.insist(path, expect)
        await self._uploader.set_metadata(path, {mtimes.KEY: mtimes.to_text(mtime_ns)}, found.token)
        self._came(path)
        return (await self._objects.insist(path, None)).entry

    async def hashes(self, path: RelPath, *, expect: Expect = None) -> Mapping[str, str]:
        """The MD5 where the ETag is one, or where the uploader left it in the metadata."""
        md5 = _md5(await self._objects.insist(path, expect))
        return {"md5": md5} if md5 is not None else {}

    async def recover_attempts(self) -> None:
        """Gives up the uploads in parts of dead processes with this state folder; of nobody else.

        What the server refuses to give up stays noted for the next start.
        """
        for attempt in await trio.to_thread.run_sync(self._attempts.left):
            if attempt.bucket == self._client.bucket:
                with suppress(PathError):
                    await self._uploader.abort(attempt)

    async def aclose(self) -> None:
        self._attempts.release()
        await self._client.aclose()


def _md5(found: Object) -> str | None:
    """An ETag is the MD5 of a body in one part that the server did not encrypt with a key of its own."""
    left = found.metadata.get("md5chksum")  # where rclone leaves it for bodies in parts, base64
    if left is not None:
        try:
            told = base64.b64decode(left, validate=True).hex()
        except binascii.Error:
            told = ""
        return told if _MD5.fullmatch(told) else None
    plain = found.headers.get("ServerSideEncryption") in (None, "AES256")
    customer = found.headers.get("SSECustomerAlgorithm") is not None
    return found.token if plain and not customer and _MD5.fullmatch(found.token) else None
