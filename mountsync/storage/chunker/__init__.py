"""Large files in chunks, over any storage: compatible with rclone's chunker, byte for byte.

A user can go from rclone to mountsync and back with no conversion. What mountsync does better: one
listing of a folder serves all of its files, chunks travel in parallel, a replacement is valid in one
step, interrupted uploads resume, and damaged files are shown and told, never hidden.
"""

from __future__ import annotations

from collections.abc import Mapping

import trio

from mountsync.errors import ConfigError
from mountsync.storage.api import Storage
from mountsync.storage.chunker.capabilities import open_overlay
from mountsync.storage.chunker.journal import Journal
from mountsync.storage.chunker.overlay import ChunkerStorage
from mountsync.storage.chunker.settings import OPTIONS, Settings, settings_of
from mountsync.storage.options import OpenContext

__all__ = ["OPTIONS", "ChunkerStorage", "open_chunker", "open_storage"]


async def open_storage(options: Mapping[str, object], path: str, context: OpenContext) -> Storage:
    """Opens the folder `path` of the remote that the option `remote` names. Raises ConfigError."""
    remote = str(options["remote"])
    if context.name is not None and remote.startswith(f"{context.name}:"):
        raise ConfigError("chunker: its remote is itself", hint="set the option `remote` to another remote")
    base = await context.open_remote(_joined(remote, path))
    try:
        settings = settings_of(options, base)
        identity = settings.identity(base.info.identity)
        journal = await trio.to_thread.run_sync(Journal, context.state_dir, identity, base.info.identity)
    except BaseException:
        with trio.CancelScope(shield=True):
            await base.aclose()
        raise
    return await open_chunker(base, settings, journal)


async def open_chunker(base: Storage, settings: Settings, journal: Journal) -> ChunkerStorage:
    """A chunker over an open storage, which it owns from now on."""
    storage = open_overlay(base, settings, journal)
    storage.attempts.add(await trio.to_thread.run_sync(journal.left))
    return storage


def _joined(remote: str, path: str) -> str:
    """The remote spec of a folder of a remote."""
    if not path:
        return remote
    return f"{remote}{path}" if remote.endswith((":", "/")) else f"{remote}/{path}"
