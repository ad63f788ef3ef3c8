"""Opens a Modal storage: settings, connection, and the identity of what is mounted."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import trio

from mountsync.errors import NameRefused, Unreachable
from mountsync.paths import RelPath, is_text, rel_path
from mountsync.storage.modal.book import Book
from mountsync.storage.modal.download import Slots
from mountsync.storage.modal.home import home_of, place_of
from mountsync.storage.modal.moves import Journal
from mountsync.storage.modal.patience import Limits
from mountsync.storage.modal.pins import Pins
from mountsync.storage.modal.rpc import ModalRpc
from mountsync.storage.modal.settings import Settings, config_path, load_profiles, settings_from
from mountsync.storage.modal.sidecar import Sidecar
from mountsync.storage.modal.storage import ModalSidecarStorage, ModalStorage
from mountsync.storage.modal.transport import Transport, VolumeFound
from mountsync.storage.modal.upload import Uploader
from mountsync.storage.modal.volume import Volume
from mountsync.storage.modal.volumes import Volumes


async def read_settings(options: Mapping[str, object], environ: Mapping[str, str]) -> Settings:
    """The settings that hold for these options. Raises ConfigError or AccessRefused."""
    profiles = await trio.to_thread.run_sync(load_profiles, config_path(environ))
    return settings_from(
        environ, profiles, profile=_text(options, "profile"), environment=_text(options, "environment")
    )


def _text(options: Mapping[str, object], name: str) -> str | None:
    value = options.get(name)
    return str(value) if value else None


async def open_modal(
    options: Mapping[str, object],
    path: str,
    state_dir: Path,
    *,
    environ: Mapping[str, str] | None = None,
    now: Callable[[], float] = time.time,
    limits: Limits | None = None,
    lasting: bool = True,
) -> ModalStorage:
    """Opens `volume/folder`, or all volumes for an empty path; `lasting` as in `OpenContext`.

    Raises NameRefused for a path that no volume can hold,
    NotFound when there is no such volume and none may be made, Unsupported for a v1 volume,
    Unreachable when Modal does not answer and the volume was never seen from this state folder,
    ConfigError when there is no such environment.
    """
    settings = await read_settings(options, os.environ if environ is None else environ)
    base = rel_path(path.strip("/"))
    if not is_text(base):
        raise NameRefused("Modal holds only names that are valid UTF-8", path=base, hint="rename it")
    transport = ModalRpc(settings, limits)
    try:
        name = base.partition("/")[0]
        home = await home_of(state_dir, settings, claim=lasting or bool(name))
        pins = Pins(home / "modal-volume.json", name, lasting=lasting)
        return await _open(transport, settings, options, base, home, pins, now)
    except BaseException:
        with trio.CancelScope(shield=True):
            await transport.aclose()
        raise


async def _open(
    transport: Transport,
    settings: Settings,
    options: Mapping[str, object],
    base: RelPath,
    home: Path,
    pins: Pins,
    now: Callable[[], float],
) -> ModalStorage:
    uploader = Uploader(transport)
    with_sidecar = options.get("sidecar_metadata", True) is True
    slots = Slots()

    def open_book(found: VolumeFound) -> Book:
        volume = Volume(found, transport, slots)
        sidecar = Sidecar(volume, uploader, trio.current_time) if with_sidecar else None
        return Book(volume, sidecar, now)

    volumes = Volumes(transport, open_book, pins, create=options.get("create_volumes", False) is True)
    label = await _label(volumes, base, pins)
    identity = "/".join(part for part in (place_of(settings), label, base) if part)
    kind = ModalSidecarStorage if with_sidecar else ModalStorage
    journal = Journal(home / "modal-moves")
    return kind(transport, volumes, uploader, journal, base=base, identity=identity, now=now)


async def _label(volumes: Volumes, base: RelPath, pins: Pins) -> str:
    """What tells this volume from another that takes its name: the id that it had when it was first seen."""
    was_here = await pins.load()
    name = base.partition("/")[0]
    if not name:
        return ""
    try:
        await pins.begin(await volumes.identify(name))
    except Unreachable:
        if not was_here:
            raise
    return pins.label
