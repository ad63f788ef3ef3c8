"""One volume, pinned by its id. When it is deleted, or another takes its name, it is halted."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import trio

from mountsync.errors import Halted, IsADirectory, NotADirectory, NotFound, Unsupported
from mountsync.paths import RelPath
from mountsync.storage.api import Into
from mountsync.storage.modal.attempts import Attempts
from mountsync.storage.modal.download import AsBytes, AsCounts, Landing, RangeReader, Slots
from mountsync.storage.modal.refusals import TryAgain, UnclearAbsence
from mountsync.storage.modal.seconds import ModalClock
from mountsync.storage.modal.transport import NativeEntry, NativeKind, Transport, VolumeFound

T = TypeVar("T")


class Volume:
    """A volume as it was found. All paths are from its root."""

    def __init__(self, found: VolumeFound, transport: Transport, slots: Slots) -> None:
        self.id = found.id
        self.name = found.name
        self.transport = transport
        self.clock = ModalClock(trio.current_time)
        self._slots = slots
        self._gone = False

    @asynccontextmanager
    async def speaking_of(self, path: str) -> AsyncIterator[None]:
        """Tells an absent path from an absent volume. Raises Halted from then on when it is the latter."""
        if self._gone:
            raise self._halted()
        try:
            yield
        except UnclearAbsence as error:
            if await self.transport.volume_exists(self.id):
                raise NotFound("nothing is there", path=path) from error
            self._gone = True
            raise self._halted() from error

    def _halted(self) -> Halted:
        return Halted(
            f"the volume {self.name!r} was deleted, or deleted and made anew",
            hint="nothing was sent to it; `mountsync export` saves what is here, "
            "then mount with another --cache-dir",
        )

    async def look(self, path: str) -> NativeEntry | None:
        """What is at the path; None when nothing is."""
        if not path:
            return NativeEntry("", NativeKind.DIRECTORY, 0, 0)
        try:
            async with self.speaking_of(path):
                return await self.transport.look(self.id, path)
        except NotFound:
            return None

    async def file(self, path: str) -> NativeEntry:
        """The file at the path. Raises NotFound, IsADirectory, or Unsupported for a link."""
        return require_file(await self.look(path), path)

    async def list(self, path: str, *, recursive: bool) -> Sequence[NativeEntry]:
        """What is below a directory."""
        async with self.speaking_of(path):
            return await self.transport.list_files(self.id, path, recursive=recursive)

    async def remove(
        self, path: str, insist: Callable[[NativeEntry], None], *, seen: NativeEntry | None = None
    ) -> None:
        """Removes a file or an empty directory. Raises NotFound, and what `insist` raises.

        `insist` raises when what it is given must not be removed. It is asked before each attempt with
        what is there then; `seen` spares the look before the first one.
        """
        attempts = Attempts(self.transport.limits)
        while True:
            found = seen if seen is not None else await self.look(path)
            if found is None and attempts.doubtful:
                return
            insist(_require(found, path))
            try:
                await self._remove(path, attempts.left)
            except NotFound:
                if not attempts.doubtful:
                    raise
                return
            except TryAgain as failed:
                await attempts.pause(failed)
                seen = None
            else:
                return

    async def _remove(self, path: str, within: float) -> None:
        """One attempt, which nothing breaks off: its outcome would not be known."""
        with trio.CancelScope(shield=True):
            async with self.speaking_of(path):
                await self.transport.remove(self.id, path, within=within)

    @asynccontextmanager
    async def reading(
        self,
        path: str,
        insist: Callable[[NativeEntry], None] | None = None,
        *,
        offset: int = 0,
        length: int | None = None,
    ) -> AsyncIterator[RangeReader[bytes]]:
        """The bytes of a range of the version about which `insist` does not raise."""
        async with self._landing(AsBytes(self.transport), path, insist, offset, length) as reader:
            yield reader

    @asynccontextmanager
    async def pouring(
        self,
        path: str,
        into: Into,
        insist: Callable[[NativeEntry], None],
        *,
        offset: int = 0,
        length: int | None = None,
    ) -> AsyncIterator[RangeReader[int]]:
        """As `reading`; the bytes go to `into`, as `SupportsPour.pour` has it."""
        async with self._landing(AsCounts(self.transport, into), path, insist, offset, length) as reader:
            yield reader

    @asynccontextmanager
    async def _landing(
        self,
        landing: Landing[T],
        path: str,
        insist: Callable[[NativeEntry], None] | None,
        offset: int,
        length: int | None,
    ) -> AsyncIterator[RangeReader[T]]:

        def accept(found: NativeEntry | None) -> NativeEntry:
            native = require_file(found, path)
            if insist is not None:
                insist(native)
            return native

        reader = RangeReader(
            self.transport,
            self.id,
            path,
            lambda: self.look(path),
            accept,
            self._slots,
            landing,
            offset,
            length,
        )
        try:
            try:
                async with self.speaking_of(path):
                    await reader.start()
            except NotADirectory as error:
                raise NotFound("nothing is there", path=path) from error
            yield reader
        finally:
            await reader.stop()

    async def content(self, path: str) -> tuple[NativeEntry, bytes] | None:
        """A small file as a whole, and the entry that it belongs to; None when there is no such file."""
        seen: list[NativeEntry] = []
        try:
            async with self.reading(path, seen.append) as reader:
                return seen[-1], b"".join([piece async for piece in reader])
        except (NotFound, IsADirectory):
            return None


def _require(native: NativeEntry | None, path: str) -> NativeEntry:
    if native is None:
        raise NotFound("nothing is there", path=path)
    return native


def require_file(native: NativeEntry | None, path: str) -> NativeEntry:
    """`native`, found at `path`, when it is a file. Raises NotFound, IsADirectory or Unsupported."""
    native = _require(native, path)
    if native.kind is NativeKind.DIRECTORY:
        raise IsADirectory("is a directory", path=RelPath(native.path))
    if native.kind is not NativeKind.FILE:
        raise Unsupported(
            "is a link or a special file, which Modal does not let others read",
            path=RelPath(native.path),
            hint="replace it by a file in a container",
        )
    return native
