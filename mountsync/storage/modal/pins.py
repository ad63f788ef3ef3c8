"""Which volume a name stood for when this state saw it last, so that another one is never taken for it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import trio

from mountsync.errors import Halted, from_os_error
from mountsync.storage.kept import load, save
from mountsync.storage.modal.transport import VolumeFound

_NEW = "new"


class _Pin(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept. `volume` and `label` are for a storage of one volume, `volumes` for one of all."""

    volume: str | None = None
    label: str = ""
    volumes: dict[str, str] = {}
    """Ids by name."""


class Pins:
    """The ids of the volumes of one storage. `only`: the name of its volume, empty for all of them.

    What is kept here is on disk before anything is read from a volume or written to it: so a name
    that has no id here is one of which nothing was ever synced.
    """

    def __init__(self, place: Path, only: str, *, lasting: bool = True) -> None:
        """`lasting`: ids of all volumes hold for the next start too; a single one is always kept."""
        self._place = place
        self._only = only
        self._is_kept = lasting or bool(only)
        self._pin = _Pin()

    async def load(self) -> bool:
        """Reads what was kept; returns whether there was anything."""
        if not self._is_kept:
            return False
        found = await trio.to_thread.run_sync(self._load)
        self._pin = found or _Pin()
        return found is not None

    def _load(self) -> _Pin | None:
        try:
            return load(self._place, _Pin)
        except OSError as error:
            raise from_os_error(error, str(self._place)) from error

    @property
    def label(self) -> str:
        """What tells the one volume from another that takes its name."""
        return self._pin.label

    async def begin(self, volume: str | None) -> None:
        """Settles the label: the one volume has this id now, or is not there.

        The label stays while the volume does, also when it is made after the first start.
        """
        before = self._pin
        if not before.label:
            await self._keep(_Pin(volume, volume or _NEW))
        elif before.volume is None:
            await self._keep(_Pin(volume, before.label))
        elif volume is None:
            # not kept: when it is seen again it is the one that it was
            self._pin = _Pin(None, f"{_NEW}-after-{before.volume}")
        elif volume != before.volume:
            await self._keep(_Pin(volume, volume))

    async def admit(self, found: VolumeFound) -> None:
        """Before a volume is used: it must be the one that had this name. Raises Halted."""
        refusal = self.refusal(found)
        if refusal is not None:
            raise refusal
        if self._known(found.name) is None:
            await self._remember(found.name, found.id)

    def refusal(self, found: VolumeFound) -> Halted | None:
        """What `admit` would raise."""
        return self._halted(found.name) if self._known(found.name) not in (None, found.id) else None

    async def forget(self, name: str) -> None:
        """Before a missing volume is made anew by us. Raises Halted when it is the one of the label."""
        if self._known(name) is None:
            return
        if self._only:
            raise self._halted(name)
        left = {other: volume for other, volume in self._pin.volumes.items() if other != name}
        await self._keep(_Pin(volumes=left))

    def _known(self, name: str) -> str | None:
        return self._pin.volume if self._only else self._pin.volumes.get(name)

    async def _remember(self, name: str, volume: str) -> None:
        if self._only:
            await self._keep(_Pin(volume, self._pin.label))
        else:
            await self._keep(_Pin(volumes=self._pin.volumes | {name: volume}))

    async def _keep(self, pin: _Pin) -> None:
        if pin != self._pin:
            if self._is_kept:
                await trio.to_thread.run_sync(self._save, pin)
            self._pin = pin

    def _save(self, pin: _Pin) -> None:
        try:
            save(self._place, pin)
        except OSError as error:
            raise from_os_error(error, str(self._place)) from error

    def _halted(self, name: str) -> Halted:
        accept = "" if self._only else f", or remove {self._place} to accept all volumes as they are"
        hint = f"`mountsync export` saves what is here; mount with another --cache-dir{accept}"
        return Halted(
            f"the volume {name!r} is not the one that was used from here: it was deleted or renamed since",
            hint=hint if self._is_kept else "run the command again to take the volumes as they are now",
        )
