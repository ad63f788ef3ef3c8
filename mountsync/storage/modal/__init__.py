"""Modal v2 Volumes: `modal:volume/path`; the list of volumes at `modal:`.

Files travel in blocks of 8 MiB, of which only missing ones are sent; ranges are read as ranges. What
Modal cannot keep (the source's mtime, the mode) is kept in a sidecar on the volume. Needs the extra
`mountsync[modal]`, whose packages are imported when a volume is opened and not before.

Credentials come from `MODAL_TOKEN_ID` and `MODAL_TOKEN_SECRET` or from `.modal.toml`, never from options.
"""

from __future__ import annotations

from collections.abc import Mapping

from mountsync.storage.api import Storage
from mountsync.storage.extras import extra
from mountsync.storage.options import OpenContext, Option, OptionKind

OPTIONS: tuple[Option, ...] = (
    Option(
        "profile",
        help="profile of .modal.toml, default: MODAL_PROFILE, then the active one; "
        "its token wins over MODAL_TOKEN_ID and MODAL_TOKEN_SECRET",
    ),
    Option("environment", help="Modal environment, default: MODAL_ENVIRONMENT, then the profile's"),
    Option(
        "sidecar_metadata",
        OptionKind.BOOL,
        default=True,
        help="keep mtimes and modes in .mountsync/metadata on the volume",
    ),
    Option(
        "create_volumes",
        OptionKind.BOOL,
        default=False,
        help="make a missing volume when it is written to",
    ),
)

_EXTRA = ("modal_proto", "grpclib", "h2", "hpack", "httptools", "aiohappyeyeballs", "google")


async def open_storage(options: Mapping[str, object], path: str, context: OpenContext) -> Storage:
    """Opens `volume/folder` (all volumes for an empty path). Raises what `opening.open_modal` says."""
    with extra("modal", _EXTRA):
        from mountsync.storage.modal.opening import open_modal  # noqa: PLC0415 - heavy, and an extra
    return await open_modal(options, path, context.state_dir, lasting=context.lasting)
