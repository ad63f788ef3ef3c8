"""`mountsync prune-metadata`: sidecar entries that no longer describe anything."""

from __future__ import annotations

import click
import trio

from mountsync.cli.output import counted
from mountsync.cli.remotes import BackendOptions, opened, remote_command
from mountsync.errors import UsageError


@remote_command()
@click.argument("remote")
def prune_metadata(*, remote: str, backend_options: BackendOptions) -> int:
    """Drop the recorded times and modes of files below REMOTE that are gone or were replaced since.

    REMOTE is a Modal volume or a path in one. Files themselves are not touched.
    """

    async def work() -> int:
        from mountsync.storage.modal.storage import ModalSidecarStorage  # noqa: PLC0415 - the extra is optional

        async with opened(remote, backend_options) as storage:
            if not isinstance(storage, ModalSidecarStorage):
                kind = storage.info.type
                raise UsageError(
                    f"{remote}: a remote of type {kind} keeps no sidecar here",
                    hint="name a Modal volume, without sidecar_metadata=false",
                )
            return await storage.prune_metadata()

    dropped = trio.run(work)
    click.echo(f"{counted(dropped, 'stale entry')} dropped")
    return 0
