"""Putting an object: in one request, or in parts that are sent at once."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import trio

from mountsync.errors import MountsyncError, NotFound, PathError, Stale, Unreachable
from mountsync.model.entry import Entry, Token
from mountsync.paths import RelPath
from mountsync.storage.api import ABSENT, Expect, Source
from mountsync.storage.s3.attempts import Attempt, Attempts
from mountsync.storage.s3.guards import Guards
from mountsync.storage.s3.objects import Objects, condition, token_of
from mountsync.storage.s3.refusals import NoSuchUpload, StaleAfterRetry
from mountsync.storage.together import each

_MOST_PARTS: Final = 10_000
_MIB: Final = 1 << 20
_COPY_PART: Final = 512 << 20
COPY_LIMIT: Final = 5 << 30
"""The largest object in bytes that one request copies."""
_ABORT_SECONDS: Final = 10

SendPart = Callable[[dict[str, Any], int, int], Awaitable[str]]
"""Sends one part, given the request's fields, the offset and the length; returns its ETag."""


def part_length(size: int, wanted: int) -> int:
    """The length of parts in bytes: as wanted, or more where there would be too many."""
    least = -(-size // _MOST_PARTS)
    return max(wanted, -(-least // _MIB) * _MIB)


def whole_token(etags: list[str]) -> Token:
    """The ETag that a server usually gives to an object in parts with these ETags; pure."""
    try:
        digests = b"".join(bytes.fromhex(token_of(etag)) for etag in etags)
    except ValueError:
        return Token("")
    return Token(f"{hashlib.md5(digests, usedforsecurity=False).hexdigest()}-{len(etags)}")


class Uploader:
    """Puts and copies objects. Every method returns the token of what it made."""

    def __init__(
        self, objects: Objects, guards: Guards, attempts: Attempts, *, part_size: int, concurrency: int
    ) -> None:
        self._objects = objects
        self._client = objects.client
        self._guards = guards
        self._attempts = attempts
        self._part_size = part_size
        self._concurrency = concurrency

    async def put(self, path: RelPath, source: Source, metadata: dict[str, str], expect: Expect) -> Token:
        """The whole body, all or nothing. Raises Stale as `Storage.write`."""
        if source.size > self._part_size:
            return await self._put_in_parts(path, source, metadata, expect)
        data = await _exactly(source, 0, source.size, path)
        if not source.still():
            raise Stale("the source changed while it was uploaded", path=path)
        try:
            answer = await self._client.call(
                "put_object",
                path,
                Key=self._objects.keys.key(path),
                Body=data,
                Metadata=metadata,
                **(condition(expect) if self._guards.writes else {}),
            )
        except StaleAfterRetry:
            ours = Token(hashlib.md5(data, usedforsecurity=False).hexdigest())
            return await self._what_we_made(path, ours, metadata)
        except NotFound:
            raise _unexpected(expect, path) from None
        return token_of(answer["ETag"])

    async def _what_we_made(self, path: RelPath, ours: Token, metadata: dict[str, str]) -> Token:
        """The token, when what is there came with an attempt of ours whose answer was lost."""
        found = await self._objects.find(path)
        if found is None or found.token != ours or dict(found.metadata) != metadata:
            raise Stale("it is not the version that was expected", path=path)
        return ours

    async def _put_in_parts(
        self, path: RelPath, source: Source, metadata: dict[str, str], expect: Expect
    ) -> Token:
        async def send(fields: dict[str, Any], offset: int, length: int) -> str:
            data = await _exactly(source, offset, length, path)
            return str((await self._client.call("upload_part", path, Body=data, **fields))["ETag"])

        def check() -> None:
            if not source.still():
                raise Stale("the source changed while it was uploaded", path=path)

        length = part_length(source.size, self._part_size)
        headers = {"Metadata": metadata}
        return await self._in_parts(path, source.size, length, headers, send, check, expect)

    async def copy(self, source: RelPath, found: Entry, target: RelPath, replace: Expect) -> Token:
        """Copies the version `found`, inside the server, with its metadata."""
        origin = {
            "CopySource": {"Bucket": self._client.bucket, "Key": self._objects.keys.key(source)},
            "CopySourceIfMatch": f'"{found.token}"',
        }
        unguarded = replace is not None and self._guards.parts and not self._guards.copies
        if found.size > COPY_LIMIT or (unguarded and found.size):
            return await self._copy_in_parts(origin, source, found.size, target, replace)
        answer = await self._client.call(
            "copy_object",
            target,
            Key=self._objects.keys.key(target),
            **origin,
            **(condition(replace) if self._guards.copies else {}),
        )
        return token_of(answer["CopyObjectResult"]["ETag"])

    async def _copy_in_parts(
        self, origin: dict[str, Any], source: RelPath, size: int, target: RelPath, replace: Expect
    ) -> Token:
        async def send(fields: dict[str, Any], offset: int, length: int) -> str:
            answer = await self._client.call(
                "upload_part_copy",
                target,
                CopySourceRange=f"bytes={offset}-{offset + length - 1}",
                **origin,
                **fields,
            )
            return str(answer["CopyPartResult"]["ETag"])

        first = await self._objects.insist(source, Token(origin["CopySourceIfMatch"].strip('"')))
        headers = {"Metadata": dict(first.metadata), "ContentType": first.headers.get("ContentType")}
        length = part_length(size, _COPY_PART)
        return await self._in_parts(target, size, length, headers, send, lambda: None, replace)

    async def set_metadata(self, path: RelPath, metadata: dict[str, str], expect: Token) -> None:
        """Replaces the metadata of the version `expect`; its other properties stay."""
        found = await self._objects.insist(path, expect)
        kept = ("ContentType", "ContentEncoding", "ContentDisposition", "ContentLanguage", "CacheControl")
        await self._client.call(
            "copy_object",
            path,
            Key=self._objects.keys.key(path),
            CopySource={"Bucket": self._client.bucket, "Key": self._objects.keys.key(path)},
            CopySourceIfMatch=f'"{expect}"',
            MetadataDirective="REPLACE",
            Metadata={**found.metadata, **metadata},
            StorageClass=found.headers.get("StorageClass"),
            **{name: found.headers.get(name) for name in kept},
            **(condition(expect) if self._guards.copies else {}),
        )

    async def _in_parts(
        self,
        path: RelPath,
        size: int,
        length: int,
        headers: dict[str, Any],
        send: SendPart,
        check: Callable[[], None],
        expect: Expect,
    ) -> Token:
        """An upload in parts; it is given up on any failure, and when it is cancelled."""
        attempt = await self._begin(path, headers)
        try:
            etags = await self._send_all(attempt, path, size, length, send)
            await self._recheck(path, expect)
            check()
            token = await self._complete(attempt, path, etags, expect)
        except BaseException:
            await self._give_up(attempt)
            raise
        await self._forget(attempt)
        return token

    async def _begin(self, path: RelPath, headers: dict[str, Any]) -> Attempt:
        key = self._objects.keys.key(path)
        with trio.CancelScope(shield=True):  # an upload that began is always noted
            answer = await self._client.call("create_multipart_upload", path, Key=key, **headers)
            attempt = Attempt(self._client.bucket, key, answer["UploadId"])
            await trio.to_thread.run_sync(self._attempts.note, attempt)
        return attempt

    async def _send_all(
        self, attempt: Attempt, path: RelPath, size: int, length: int, send: SendPart
    ) -> list[str]:
        etags: dict[int, str] = {}

        async def one(number: int) -> None:
            offset = (number - 1) * length
            fields = {"Key": attempt.key, "UploadId": attempt.upload, "PartNumber": number}
            etags[number] = await send(fields, offset, min(length, size - offset))

        count = -(-size // length)
        try:
            await each(range(1, count + 1), one, at_once=self._concurrency)
        except NoSuchUpload:
            raise Unreachable("the server has dropped the upload", path=path) from None
        return [etags[number] for number in range(1, count + 1)]

    async def _recheck(self, path: RelPath, expect: Expect) -> None:
        """Where the server does not compare, we do, as late as we can."""
        if expect is None or self._guards.parts:
            return
        found = await self._objects.find(path)
        if (found.token if found is not None else ABSENT) != expect:
            raise Stale("it is not the version that was expected", path=path)

    async def _complete(self, attempt: Attempt, path: RelPath, etags: list[str], expect: Expect) -> Token:
        parts = [{"PartNumber": number, "ETag": etag} for number, etag in enumerate(etags, start=1)]
        try:
            answer = await self._client.call(
                "complete_multipart_upload",
                path,
                Key=attempt.key,
                UploadId=attempt.upload,
                MultipartUpload={"Parts": parts},
                **(condition(expect) if self._guards.parts else {}),
            )
        except (NoSuchUpload, StaleAfterRetry, Unreachable) as error:
            return await self._after_doubt(path, whole_token(etags), error)
        except NotFound:
            raise _unexpected(expect, path) from None
        return token_of(answer["ETag"])

    async def _after_doubt(self, path: RelPath, ours: Token, error: MountsyncError) -> Token:
        """The answer may have been lost after the server had done it."""
        found = await self._objects.find(path)
        if found is not None and found.token == ours:
            return ours
        if isinstance(error, NoSuchUpload):
            raise Unreachable("the server has dropped the upload", path=path) from None
        raise error

    async def _give_up(self, attempt: Attempt) -> None:
        """Frees the parts. What cannot be freed now stays noted for the next start."""
        with trio.move_on_after(_ABORT_SECONDS, shield=True):
            try:
                await self.abort(attempt)
            except MountsyncError:
                return  # the note stays

    async def abort(self, attempt: Attempt) -> None:
        """Ends an upload in parts that was not finished; nothing happens when it is not known."""
        with suppress(NoSuchUpload, NotFound):  # finished, or given up before
            await self._client.call("abort_multipart_upload", None, Key=attempt.key, UploadId=attempt.upload)
        await self._forget(attempt)

    async def _forget(self, attempt: Attempt) -> None:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(self._attempts.forget, attempt)


def _unexpected(expect: Expect, path: RelPath) -> PathError:
    """What "not found" means as the answer to a change."""
    if expect is None or expect is ABSENT:
        return PathError("the server cannot hold this name", path=path)
    return Stale("it is gone", path=path)


async def _exactly(source: Source, offset: int, length: int, path: RelPath) -> bytes:
    data = await source.read(offset, length) if length else b""
    if len(data) != length:
        raise Stale("the source ended early", path=path)
    return data
