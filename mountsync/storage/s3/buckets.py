"""The list of buckets, at `s3:` without a bucket. It is for looking only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import trio

from mountsync.errors import IsADirectory, NotFound, PathError, Unsupported
from mountsync.model.entry import DIRECTORY, Entry
from mountsync.paths import RelPath
from mountsync.storage.api import Expect, Listed, Source, StorageInfo
from mountsync.storage.s3.client import Client
from mountsync.storage.s3.settings import Settings


class BucketList:
    """The buckets of an account, each as a directory. What is in one is seen at `s3:BUCKET`."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._info = StorageInfo(
            type="s3",
            identity=f"s3:{settings.host}",
            mtime_precision_ns=None,
            empty_directories=True,
        )

    @property
    def info(self) -> StorageInfo:
        return self._info

    async def _names(self) -> list[str]:
        answer = await self._client.call("list_buckets", None)
        return [bucket["Name"] for bucket in answer.get("Buckets", ())]

    @asynccontextmanager
    async def list(self, path: RelPath, *, recursive: bool) -> AsyncIterator[AsyncIterator[Sequence[Listed]]]:
        if path or recursive:
            raise _one(path)
        send, receive = trio.open_memory_channel[Sequence[Listed]](1)
        async with receive:
            async with send:
                await send.send([(RelPath(name), DIRECTORY) for name in await self._names()])
            yield receive

    async def stat(self, path: RelPath) -> Entry | None:
        if not path:
            return DIRECTORY
        if "/" in path:
            raise _one(path)
        return DIRECTORY if path in await self._names() else None

    @asynccontextmanager
    async def read(
        self, path: RelPath, offset: int = 0, length: int | None = None, *, expect: Expect = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        del offset, length, expect
        raise await self._no_file(path)
        yield  # makes this a generator

    async def write(
        self, path: RelPath, source: Source, *, mtime_ns: int | None = None, expect: Expect = None
    ) -> Entry:
        del source, mtime_ns, expect
        raise _one(path)

    async def delete(self, path: RelPath, *, expect: Expect = None) -> None:
        del expect
        raise await self._no_file(path)

    async def _no_file(self, path: RelPath) -> PathError:
        if "/" in path:
            return _one(path)
        there = await self.stat(path)
        return IsADirectory("it is a bucket", path=path) if there else NotFound("nothing is there", path=path)

    async def aclose(self) -> None:
        await self._client.aclose()


def _one(path: RelPath) -> Unsupported:
    return Unsupported(
        "the list of buckets is for looking only", path=path, hint="name the bucket: s3:BUCKET/PREFIX"
    )
