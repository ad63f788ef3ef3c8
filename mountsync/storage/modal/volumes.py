"""Volumes by name. Each name is looked up once; from then on its id holds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Final

import trio

from mountsync.errors import Halted, MountsyncError, NameRefused, NotFound, Unsupported
from mountsync.storage.modal.book import Book
from mountsync.storage.modal.names import GOOD_VOLUMES, is_volume_name
from mountsync.storage.modal.pins import Pins
from mountsync.storage.modal.transport import Transport, VolumeFound

_LAST_FLUSH: Final = 5.0
"""Seconds for what is still to be noted on a volume whose name is gone."""


class Volumes:
    """The volumes of one account and environment. `create`: a missing one is made when it is written to."""

    def __init__(
        self, transport: Transport, open_book: Callable[[VolumeFound], Book], pins: Pins, *, create: bool
    ) -> None:
        self._transport = transport
        self._open_book = open_book
        self._pins = pins
        self._create = create
        self._known: dict[str, Book] = {}
        self._doubted: set[str] = set()
        """Known ones that were not listed under their names: these are looked up once more."""
        self._lock = trio.Lock()

    @property
    def creates(self) -> bool:
        """Whether a missing volume is made by the first write."""
        return self._create

    @property
    def opened(self) -> list[Book]:
        """Those that were used."""
        return list(self._known.values())

    async def identify(self, name: str) -> str | None:
        """The id of the volume before it is used; None when it is missing and may be made.

        Raises NotFound when it may not, NameRefused for a name that no volume has, Unsupported for one of
        version 1.
        """
        found = await self._look_up(name)
        if found is None:
            if not self._create:
                raise self._absent(name)
            _insist_on_name(name)
        return found.id if found is not None else None

    async def find(self, name: str) -> Book | None:
        """The volume, None when there is none.

        Raises Unsupported for one of version 1, Halted for another one than the name stood for before.
        """
        return await self._find(name, create=False)

    async def get(self, name: str) -> Book:
        """The volume. Raises NotFound when there is none."""
        book = await self._find(name, create=False)
        if book is None:
            raise self._absent(name)
        return book

    async def make(self, name: str) -> Book:
        """The volume, made if that is allowed. Raises Unsupported when it is not, NameRefused for a bad name.

        Not NotFound: who writes would look again, and find that nothing has changed.
        """
        _insist_on_name(name)
        book = await self._find(name, create=self._create)
        if book is None:
            absent = self._absent(name)
            raise Unsupported(absent.reason, path=name, hint=absent.hint)
        return book

    def _absent(self, name: str) -> NotFound:
        hint = f"make it with `modal volume create --version 2 {name}`, or set create_volumes"
        if not is_volume_name(name):
            hint = GOOD_VOLUMES
        return NotFound("there is no such volume", path=name, hint=hint)

    async def _find(self, name: str, *, create: bool) -> Book | None:
        if name in self._known and name not in self._doubted:
            return self._known[name]
        async with self._lock:
            if name not in self._known or name in self._doubted:
                found = await self._look_up(name) or (await self._make(name) if create else None)
                await self._settle(name, found)
            return self._known.get(name)

    async def _settle(self, name: str, found: VolumeFound | None) -> None:
        """Has the name stand for what was found. Raises Halted when it stood for another volume before."""
        self._doubted.discard(name)
        known = self._known.get(name)
        if known is not None and (found is None or found.id != known.volume.id):
            del self._known[name]
            await _end(known)
        if found is not None:
            await self._pins.admit(found)
            if name not in self._known:
                self._known[name] = self._open_book(found)

    async def _look_up(self, name: str) -> VolumeFound | None:
        if not is_volume_name(name):
            return None
        found = await self._transport.find_volume(name, create=False)
        return _usable(found) if found is not None else None

    async def _make(self, name: str) -> VolumeFound | None:
        await self._pins.forget(name)
        found = await self._transport.find_volume(name, create=True)
        return _usable(found) if found is not None else None

    async def all(self) -> list[VolumeFound]:
        """All volumes by name, whatever their names are.

        A known one that has another name now, or none, is not used under the old one any more.
        """
        found = sorted(await self._transport.list_volumes(), key=lambda each: each.name)
        self._compare({each.name: each.id for each in found})
        return found

    def _compare(self, listed: Mapping[str, str]) -> None:
        for name, book in self._known.items():
            if listed.get(name) != book.volume.id:
                self._doubted.add(name)

    def refusal(self, found: VolumeFound) -> Halted | None:
        """Why a listed volume is not used: its name stood for another one before."""
        return self._pins.refusal(found)


def _insist_on_name(name: str) -> None:
    if not is_volume_name(name):
        raise NameRefused("a volume cannot have this name", path=name, hint=GOOD_VOLUMES)


async def _end(book: Book) -> None:
    """Of a volume that is not used any more: what is still to be noted goes there, if it exists."""
    if book.sidecar is not None:
        with trio.move_on_after(_LAST_FLUSH), suppress(MountsyncError):
            await book.sidecar.aclose()


def _usable(found: VolumeFound) -> VolumeFound:
    if found.version != 2:
        raise Unsupported(
            f"the volume is of version {found.version}; mountsync needs version 2",
            path=found.name,
            hint="make one with `modal volume create --version 2` and copy the files over",
        )
    return found
