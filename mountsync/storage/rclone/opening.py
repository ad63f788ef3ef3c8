"""From options to an open storage over rclone."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, cast

import msgspec
import trio

from mountsync.errors import ConfigError, Unreachable
from mountsync.storage.kept import load, save
from mountsync.storage.rclone.capabilities import with_capabilities
from mountsync.storage.rclone.listing import Place
from mountsync.storage.rclone.objects import Remote
from mountsync.storage.rclone.refusals import Unclear
from mountsync.storage.rclone.rpc import Rpc
from mountsync.storage.rclone.server import Server, find_binary
from mountsync.storage.rclone.staging import Staging
from mountsync.storage.rclone.storage import RcloneStorage

_FACTS: Final = "rclone-facts.json"


async def open_rclone(options: Mapping[str, object], path: str, state_dir: Path) -> RcloneStorage:
    """Opens what rclone calls `remote`, with `path` below it.

    Raises ConfigError when rclone is missing or does not know the remote, and Unreachable when the
    remote does not answer and was never asked from this state folder.
    """
    remote = join_remote(cast("str | None", options.get("remote")), path)
    binary = find_binary(cast("str | None", options.get("binary")))
    rpc = Rpc(Server(binary, cast("str | None", options.get("config"))))
    try:
        facts = await _facts(rpc, remote, state_dir)
    except BaseException:
        await rpc.aclose()
        raise
    staging = Staging(state_dir / "staging")
    await trio.to_thread.run_sync(staging.prepare)
    place = Place(rpc, remote, facts)
    return with_capabilities(place, staging, concurrency=cast("int", options["concurrency"]))


def join_remote(remote: str | None, path: str) -> str:
    """rclone's name of the place. Raises ConfigError when there is none."""
    if not remote and not path:
        raise ConfigError(
            "a remote of type rclone needs the name of one of rclone's",
            hint='for example :rclone:gdrive:photos, or remote = "gdrive:photos"',
        )
    whole = path if not remote else f"{remote}{_between(remote, path)}{path}"
    if "]" in whole:
        raise ConfigError(f"rclone cannot serve {whole!r}, for there is a ']' in it")
    return whole


def _between(remote: str, path: str) -> str:
    return "" if not path or remote.endswith((":", "/")) else "/"


async def _facts(rpc: Rpc, remote: str, state_dir: Path) -> Remote:
    """What the backend is. It does not change, so that of the last time serves when nobody answers."""
    place = state_dir / _FACTS
    try:
        answer = await rpc.call("operations/fsinfo", fs=remote)
    except (Unreachable, Unclear) as error:
        kept = await trio.to_thread.run_sync(_load, place, remote)
        if kept is not None:
            return kept
        raise Unreachable(f"{remote}: {error.reason}") from error
    facts = msgspec.json.decode(answer, type=Remote)
    await trio.to_thread.run_sync(save, place, _Kept(_name(remote), facts))
    return facts


class _Kept(msgspec.Struct):
    remote: str
    facts: Remote


def _name(remote: str) -> str:
    """A remote may hold secrets; the file only says whether it is the same."""
    return hashlib.sha256(remote.encode("utf-8", "surrogateescape")).hexdigest()


def _load(place: Path, remote: str) -> Remote | None:
    try:
        kept = load(place, _Kept)
    except OSError:
        return None  # then nothing can be said but that the remote does not answer
    return kept.facts if kept is not None and kept.remote == _name(remote) else None
