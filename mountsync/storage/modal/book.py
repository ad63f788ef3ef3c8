"""What we know of a volume's files beyond what Modal tells: from our own writes and from the sidecar."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import trio

from mountsync.errors import MountsyncError, Stale
from mountsync.formats.modal_sidecar import DIRECTORY_SIZE, Remembered
from mountsync.model.entry import Entry, Kind, sayable
from mountsync.paths import OURS
from mountsync.storage.api import ABSENT, Expect
from mountsync.storage.modal.names import is_hidden
from mountsync.storage.modal.recent import Recent
from mountsync.storage.modal.seconds import Sightings
from mountsync.storage.modal.sidecar import Sidecar
from mountsync.storage.modal.tokens import accepts, token_of
from mountsync.storage.modal.transport import NativeEntry, NativeKind
from mountsync.storage.modal.volume import Volume


class Book:
    """A volume and what is known of its files. `now`: seconds since 1970."""

    def __init__(self, volume: Volume, sidecar: Sidecar | None, now: Callable[[], float]) -> None:
        self.volume = volume
        self.sidecar = sidecar
        self._recent = Recent(now)
        self._sightings = Sightings(volume.clock, now)
        self._locks: dict[str, trio.Lock] = {}
        self.keeps_directories: bool | None = None
        """Whether a directory stays when its last file goes; None until it was seen."""

    @asynccontextmanager
    async def alone_with(self, *paths: str) -> AsyncIterator[None]:
        """Keeps other tasks of ours from committing at these paths meanwhile."""
        held: list[str] = []
        try:
            for path in sorted(set(paths)):
                await self._locks.setdefault(path, trio.Lock()).acquire()
                held.append(path)
            yield
        finally:
            for path in held:
                self._let_go(path)

    def _let_go(self, path: str) -> None:
        lock = self._locks[path]
        lock.release()
        if not lock.locked():
            del self._locks[path]

    def hides(self, path: str) -> bool:
        """Whether the path is no file of the user's."""
        return is_hidden(path, with_sidecar=self.sidecar is not None)

    async def open(self, path: str) -> None:
        """Makes `entry` right for this path. Raises Unreachable."""
        if not path.startswith(f"{OURS}/"):
            await self._load(path.rpartition("/")[0], path)

    async def open_folder(self, path: str, *, recursive: bool) -> None:
        """Makes `entry` right for everything in (or below) a directory."""
        await self._load(None if recursive else path, path)

    async def _load(self, folder: str | None, path: str) -> None:
        """Has the sidecar of a directory loaded, or all of it; errors name the path that was asked for."""
        if self.sidecar is None:
            return
        try:
            await self.sidecar.load(folder)
        except MountsyncError as error:
            if (error.path or "").startswith(OURS):
                error.path = path or self.volume.name
            raise

    def entry(self, native: NativeEntry) -> Entry:
        """The entry of what Modal shows, as a storage gives it."""
        memory = self._memory(native)
        mode = memory.mode if memory is not None else None
        if native.kind is NativeKind.DIRECTORY:
            return Entry(Kind.DIRECTORY, mode=mode)
        mtime_ns = memory.mtime_ns if memory is not None else None
        return Entry(
            Kind.FILE,
            size=native.size,
            mtime_ns=sayable(native.mtime * 10**9) if mtime_ns is None else mtime_ns,
            mode=mode,
            token=token_of(native, self._variant(native, memory), young=self._may_change(native, memory)),
        )

    def _memory(self, native: NativeEntry) -> Remembered | None:
        found = self.sidecar.get(native.path) if self.sidecar is not None else None
        if found is None:
            return None
        if native.kind is NativeKind.DIRECTORY:
            return found if found.size == DIRECTORY_SIZE else None
        return found if found.fits(native.size, native.mtime) else None

    def _variant(self, native: NativeEntry, memory: Remembered | None) -> str:
        recent = self._recent.variant_of(native)
        if recent is not None:
            return recent
        return memory.variant if memory is not None else ""

    def _may_change(self, native: NativeEntry, memory: Remembered | None) -> bool:
        """Whether the token may become another one while the content stays."""
        if self.sidecar is None and self._variant(native, memory):
            return True  # after us nobody knows the variant
        foreign = memory is None and self._recent.variant_of(native) is None
        return foreign and self._sightings.is_young(native)

    def insist(self, expect: Expect, native: NativeEntry | None, path: str) -> None:
        """Raises Stale when what is there is not what was expected."""
        if expect is None:
            return
        if expect is ABSENT:
            if native is not None:
                raise Stale("something is there already", path=path)
        elif native is None:
            raise Stale("it is not there any more", path=path)
        elif native.kind is not NativeKind.FILE or not accepts(
            expect, native, self._variant(native, self._memory(native))
        ):
            raise Stale("it is not what was expected", path=path)

    def note(
        self,
        native: NativeEntry,
        fingerprint: str,
        *,
        before: NativeEntry | None,
        mtime_ns: int | None,
        mode: int | None = None,
    ) -> Entry:
        """Remembers that we made what Modal shows as `native`, and returns its entry."""
        variant = self._recent.note(native.path, native, fingerprint, before)
        if self.sidecar is not None and not native.path.startswith(f"{OURS}/"):
            told = None if mtime_ns is None else sayable(mtime_ns)
            memory = Remembered(native.size, native.mtime, told, mode, variant)
            self.sidecar.set(native.path, memory)
        return self.entry(native)

    def remember(self, native: NativeEntry, *, mtime_ns: int | None = None, mode: int | None = None) -> None:
        """Changes what the sidecar tells of an object, without touching the object."""
        if self.sidecar is None:
            return
        old = self._memory(native)
        kept = None if old is None else old.mtime_ns
        is_directory = native.kind is NativeKind.DIRECTORY
        entry = Remembered(
            size=DIRECTORY_SIZE if is_directory else native.size,
            mtime=native.mtime,
            mtime_ns=kept if mtime_ns is None else sayable(mtime_ns),
            mode=mode if mode is not None or old is None else old.mode,
            variant=self._variant(native, old),
        )
        self.sidecar.set(native.path, entry)

    def is_remembered(self, path: str, native: NativeEntry | None) -> bool:
        """Whether the sidecar's entry of `path` is about what is there now."""
        return native is not None and native.path == path and self._memory(native) is not None

    def forget(self, path: str) -> None:
        """Remembers that nothing is there any more."""
        if self.sidecar is not None and self.sidecar.get(path) is not None:
            self.sidecar.set(path, None)

    def mode_at(self, path: str) -> int | None:
        """The mode that was remembered of whatever was at the path: a new content inherits it."""
        memory = self.sidecar.get(path) if self.sidecar is not None else None
        return memory.mode if memory is not None else None
