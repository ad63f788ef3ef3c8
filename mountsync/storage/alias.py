"""Another name for a remote, or for a folder in one: `photos:2026` is `work:pictures/2026`."""

from __future__ import annotations

from collections.abc import Mapping

from mountsync.formats.remote_spec import format_spec, parse_spec
from mountsync.storage.api import Storage
from mountsync.storage.options import OpenContext, Option

OPTIONS: tuple[Option, ...] = (
    Option("remote", required=True, help="the remote or folder that the name stands for, as work:pictures"),
)


async def open_storage(options: Mapping[str, object], path: str, context: OpenContext) -> Storage:
    """Opens what lies at `path` below the remote. Raises what opening that raises."""
    target = parse_spec(str(options["remote"])).below(path.strip("/"))
    return await context.open_remote(format_spec(target))
