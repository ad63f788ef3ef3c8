"""From options to an open S3 storage."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import trio

from mountsync.errors import AccessRefused, NotFound, PermissionDenied, Unreachable
from mountsync.storage.kept import load
from mountsync.storage.s3.attempts import Attempts
from mountsync.storage.s3.buckets import BucketList
from mountsync.storage.s3.client import DEFAULT_REGION, Client
from mountsync.storage.s3.guards import ALL, Guards, known_guards
from mountsync.storage.s3.keys import Keys
from mountsync.storage.s3.refusals import NoBucket
from mountsync.storage.s3.settings import Settings, read_settings
from mountsync.storage.s3.storage import S3Storage


async def open_s3(options: Mapping[str, object], path: str, state_dir: Path) -> S3Storage | BucketList:
    """Opens `bucket/prefix`, or the list of buckets.

    Raises ConfigError, NotFound when there is no such bucket and none may be made, AccessRefused, and
    Unreachable when the server does not answer and was never asked from this state folder.
    """
    settings = read_settings(options, path)
    client = Client(settings)
    try:
        await client.start()
        if not settings.bucket:
            return BucketList(client, settings)
        guards = await _guards(client, settings, state_dir / "s3-guards.json")
    except BaseException:
        with trio.CancelScope(shield=True):
            await client.aclose()
        raise
    return S3Storage(client, settings, guards, Attempts(state_dir / "s3-uploads"))


async def _guards(client: Client, settings: Settings, place: Path) -> Guards:
    keys = Keys(settings.prefix)
    try:
        await _meet(client, settings, keys)
        return await known_guards(client, keys, place)
    except NoBucket:
        raise
    except Unreachable:
        kept = ALL if client.knows_amazon else await trio.to_thread.run_sync(load, place, Guards)
        if kept is None:
            raise
        return kept


async def _meet(client: Client, settings: Settings, keys: Keys) -> None:
    """Sees that the bucket is there and that we may look into it."""
    try:
        await client.call("list_objects_v2", None, Prefix=keys.prefix, MaxKeys=1)
    except NoBucket:
        if not settings.create_bucket:
            raise NotFound(
                f"there is no bucket {settings.bucket!r}", hint="check its name, or set create_bucket"
            ) from None
        await _make(client)
    except PermissionDenied as error:
        raise AccessRefused(
            f"the server refuses to list bucket {settings.bucket!r}", hint=error.hint
        ) from None


async def _make(client: Client) -> None:
    place = {"LocationConstraint": client.region} if client.region != DEFAULT_REGION else None
    await client.call("create_bucket", None, CreateBucketConfiguration=place)
