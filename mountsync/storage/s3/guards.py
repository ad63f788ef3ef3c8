"""Which expectations a server enforces itself: found out once, kept in the state folder.

Amazon's own servers enforce all. Another server is asked with requests that a server which enforces
refuses; where it does not, they change nothing but objects under random names in our own folder.
"""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any, Final

import msgspec
import trio

from mountsync.errors import MountsyncError, NotFound, Stale, Unreachable, Unsupported
from mountsync.paths import OURS, RelPath
from mountsync.storage.kept import load, save
from mountsync.storage.s3.client import Client
from mountsync.storage.s3.keys import Keys
from mountsync.storage.s3.refusals import NoSuchUpload

_OTHER: Final = '"00000000000000000000000000000000"'


class Guards(msgspec.Struct, frozen=True):
    """What the server compares and swaps in one step."""

    writes: bool = False
    parts: bool = False
    """At the end of an upload in parts."""
    deletes: bool = False
    copies: bool = False

    @property
    def atomic(self) -> bool:
        """Whether all expectations are safe; a copy can go as a write in parts."""
        return self.writes and self.parts and self.deletes


ALL: Final = Guards(writes=True, parts=True, deletes=True, copies=True)
NONE: Final = Guards()


async def known_guards(client: Client, keys: Keys, place: Path) -> Guards:
    """What is known of the server, asked when it is not. A bucket that we may not write to has none."""
    if client.knows_amazon:
        return ALL
    kept = await trio.to_thread.run_sync(load, place, Guards)
    if kept is not None:
        return kept
    try:
        found = await _probe(client, f"{keys.below(RelPath(OURS))}probe-{secrets.token_hex(8)}")
    except Unreachable:
        raise
    except MountsyncError:
        return NONE  # read-only, perhaps only today: ask again at the next start
    await trio.to_thread.run_sync(save, place, found)
    return found


async def _probe(client: Client, key: str) -> Guards:
    try:
        writes = await _guards_writes(client, key)
        parts = writes and await _guards_parts(client, key)
        copies = writes and await _refuses(
            client,
            "copy_object",
            key,
            CopySource=_source(client, key),
            MetadataDirective="REPLACE",
            IfNoneMatch="*",
        )
        deletes = await _refuses(client, "delete_object", key, IfMatch=_OTHER)
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(10):
            await client.call("delete_object", None, Key=key)
    return Guards(writes=writes, parts=parts, deletes=deletes, copies=copies)


async def _guards_writes(client: Client, key: str) -> bool:
    none_there = await _refuses(client, "put_object", key, Body=b"1", IfMatch=_OTHER)
    await client.call("put_object", None, Key=key, Body=b"2")
    replaces = none_there and await _refuses(client, "put_object", key, Body=b"1", IfMatch=_OTHER)
    creates = await _refuses(client, "put_object", key, Body=b"3", IfNoneMatch="*")
    return replaces and creates


async def _guards_parts(client: Client, key: str) -> bool:
    upload = (await client.call("create_multipart_upload", None, Key=key))["UploadId"]
    part = await client.call("upload_part", None, Key=key, UploadId=upload, PartNumber=1, Body=b"4")
    parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    refused = True
    for condition in ({"IfNoneMatch": "*"}, {"IfMatch": _OTHER}):
        refused = refused and await _refuses(
            client, "complete_multipart_upload", key, UploadId=upload, MultipartUpload=parts, **condition
        )
    if refused:
        await client.call("abort_multipart_upload", None, Key=key, UploadId=upload)
    return refused


async def _refuses(client: Client, operation: str, key: str, **parameters: Any) -> bool:
    """Whether a call whose expectation cannot hold is refused for that reason."""
    try:
        await client.call(operation, None, Key=key, **parameters)
    except (Stale, NotFound):
        return True
    except (Unsupported, NoSuchUpload):
        pass
    return False


def _source(client: Client, key: str) -> dict[str, str]:
    return {"Bucket": client.bucket, "Key": key}
