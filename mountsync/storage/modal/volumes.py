"""Volumes by name. Each name is looked up once; from then on its id holds."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

import trio

from mountsync.errors import NameRefused, NotFound, Unsupported
from mountsync.storage.modal.book import Book
from mountsync.storage.modal.pins import Pins
from mountsync.storage.modal.transport import Transport, VolumeFound

_NAME: Final = re.compile(r"(?!ap-[a-zA-Z0-9]{22}$)[a-zA-Z0-9_.-]{1,64}")
_GOOD_NAMES: Final = "names of volumes are of letters, digits, `-`, `_` and `.`, 64 at most"


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

        Raises NotFound when it may not, Unsupported for one of version 1.
        """
        found = await self._look_up(name)
        if found is None and not self._create:
            raise self._absent(name)
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
        """The volume, made if that is allowed. Raises NotFound when it is not, NameRefused for a bad name."""
        book = await self._find(name, create=self._create)
        if book is None:
            raise self._absent(name)
        return book

    def _absent(self, name: str) -> NotFound:
        hint = f"make it with `modal volume create --version 2 {name}`, or set create_volumes"
        if not _NAME.fullmatch(name):
            hint = _GOOD_NAMES
        return NotFound("there is no such volume", path=name, hint=hint)

    async def _find(self, name: str, *, create: bool) -> Book | None:
        if name in self._known:
            return self._known[name]
        if not _NAME.fullmatch(name):
            if create:
                raise NameRefused("a volume cannot have this name", path=name, hint=_GOOD_NAMES)
            return None
        async with self._lock:
            if name not in self._known:
                found = await self._look_up(name) or (await self._make(name) if create else None)
                if found is None:
                    return None
                await self._pins.admit(found)
                self._known[name] = self._open_book(found)
            return self._known[name]

    async def _look_up(self, name: str) -> VolumeFound | None:
        if not _NAME.fullmatch(name):
            return None
        found = await self._transport.find_volume(name, create=False)
        return _usable(found) if found is not None else None

    async def _make(self, name: str) -> VolumeFound:
        await self._pins.forget(name)
        found = await self._transport.find_volume(name, create=True)
        assert found is not None
        return _usable(found)

    async def names(self) -> list[str]:
        """All volumes by name."""
        return sorted(volume.name for volume in await self._transport.list_volumes())


def _usable(found: VolumeFound) -> VolumeFound:
    if found.version != 2:
        raise Unsupported(
            f"the volume is of version {found.version}; mountsync needs version 2",
            path=found.name,
            hint="make one with `modal volume create --version 2` and copy the files over",
        )
    return found
