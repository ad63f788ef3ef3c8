"""Where a storage keeps its own state: one folder for each server and environment."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import msgspec
import trio

from mountsync.errors import from_os_error
from mountsync.storage.kept import load, save
from mountsync.storage.modal.settings import Settings

_CLAIM: Final = "modal-place.json"


class _Claim(msgspec.Struct, frozen=True):
    """Whose the folder is: a digest of `place_of`."""

    place: str


def place_of(settings: Settings) -> str:
    """Names the server and the environment; the token may change, so it says nothing."""
    host = urlsplit(settings.servers[0]).hostname or "local"
    return "/".join(part for part in (f"modal:{host}", settings.environment) if part)


async def home_of(folder: Path, settings: Settings, *, claim: bool) -> Path:
    """The folder for what is kept of these volumes; `folder` is that of the remote's spec.

    One spec can mean several places, by variables and profiles. `folder` is the home of the place that
    claims it first: so what an earlier version kept is found again. Other places get one below it.
    """
    digest = hashlib.sha256(place_of(settings).encode()).hexdigest()[:16]
    return await trio.to_thread.run_sync(_home, folder, digest, claim)


def _home(folder: Path, digest: str, claim: bool) -> Path:
    try:
        known = load(folder / _CLAIM, _Claim)
        if known is None and claim:
            save(folder / _CLAIM, _Claim(digest))
    except OSError as error:
        raise from_os_error(error, str(folder)) from error
    return folder if known is None or known.place == digest else folder / f"at-{digest}"
