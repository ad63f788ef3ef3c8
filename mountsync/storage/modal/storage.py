"""Modal v2 Volumes as a storage."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, suppress
from typing import ClassVar, Final, NamedTuple

import trio

from mountsync.errors import (
    AlreadyExists,
    Halted,
    IsADirectory,
    MountsyncError,
    NotADirectory,
    NotFound,
    PathError,
    Stale,
    TooLarge,
    Unreachable,
    Unsupported,
    UsageError,
    printable,
)
from mountsync.model.entry import DIRECTORY, Entry, Problem
from mountsync.paths import OURS, ROOT, RelPath, is_within, join, rel_path
from mountsync.storage.api import ABSENT, Enforcement, Expect, Into, Listed, Source, StorageInfo
from mountsync.storage.modal import directories, moves
from mountsync.storage.modal.book import Book
from mountsync.storage.modal.listing import Listing, below, everything
from mountsync.storage.modal.names import GOOD_VOLUMES, KEEPER, ModalNames, beside, is_volume_name
from mountsync.storage.modal.refusals import LATER
from mountsync.storage.modal.transport import NativeEntry, NativeKind, Transport, VolumeFound
from mountsync.storage.modal.upload import Hashed, Uploader
from mountsync.storage.modal.volume import require_file
from mountsync.storage.modal.volumes import Volumes

_log = logging.getLogger(__name__)

MAX_SIZE: Final = (1 << 40) - 1
_BLOCK: Final = 4 << 20
_LAST_FLUSH: Final = 10.0
"""Seconds that closing spends on the sidecar."""


class _Place(NamedTuple):
    """A path of this storage in its volume; `path` is empty for the volume itself."""

    book: Book
    path: str


class ModalStorage:
    """The volumes of one account and environment, from `base` on (`volume/folder`, or empty for all).

    mtimes are Modal's own and cannot be set: see `ModalSidecarStorage`.
    """

    _has_sidecar: ClassVar[bool] = False

    def __init__(
        self,
        transport: Transport,
        volumes: Volumes,
        uploader: Uploader,
        journal: moves.Journal,
        *,
        base: RelPath,
        identity: str,
        now: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._volumes = volumes
        self._uploader = uploader
        self._journal = journal
        self._names = ModalNames(base=base, with_sidecar=self._has_sidecar)
        self._now = now
        self._info = StorageInfo(
            type="modal",
            identity=identity,
            mtime_precision_ns=1 if self._has_sidecar else None,
            times_outside_tokens=self._has_sidecar,
            enforcement=Enforcement.CHECKED,
            names=self._names,
            max_size=MAX_SIZE,
            read_block=_BLOCK,
            concurrency=16,
            small_at_once=256,
            flat=True,
        )

    @property
    def info(self) -> StorageInfo:
        return self._info

    # places

    def _split(self, path: RelPath) -> tuple[str, str]:
        """The volume's name (empty at the root of all volumes) and the path inside it."""
        return self._names.split(path)

    async def _place(self, path: RelPath) -> _Place:
        """Where an existing object is. Raises NotFound without such a volume, and for what is hidden."""
        if self._names.unseen(path):
            raise NotFound("nothing is there", path=path)
        name, inner = self._split(path)
        if not name:
            raise IsADirectory("the remote is the list of volumes", hint="name a volume in it")
        return _Place(await self._volumes.get(name), inner)

    async def _old_place(self, path: RelPath) -> _Place:
        """As `_place`, of what is to be changed: raises NameRefused for what is hidden."""
        refusal = self._names.unseen(path)
        if refusal is not None:
            raise refusal
        return await self._place(path)

    async def _new_place(self, path: RelPath) -> _Place:
        """Where a new object goes; makes the volume where that is allowed."""
        self._names.insist(path)
        name, inner = self._split(path)
        if not inner:
            raise await self._no_file_here(path, name)
        return _Place(await self._volumes.make(name), inner)

    async def _no_file_here(self, path: RelPath, name: str) -> PathError:
        if not name or await self._volumes.find(name) is not None:
            return IsADirectory("is a volume", path=path)
        return Unsupported("only volumes can be here, not files", path=path)

    @contextmanager
    def _naming(self, path: RelPath) -> Iterator[None]:
        """Errors name the path as the caller knows it."""
        try:
            yield
        except PathError as error:
            inner = self._split(path)[1]
            if error.path in (inner, f"{inner}/{KEEPER}".lstrip("/")):
                error.path = path or self._names.base or None
            raise

    # the core

    @asynccontextmanager
    async def list(self, path: RelPath, *, recursive: bool) -> AsyncIterator[AsyncIterator[Sequence[Listed]]]:
        yield Listing(lambda: self._list(path, recursive=recursive))

    async def _list(self, path: RelPath, *, recursive: bool) -> Iterator[Listed]:
        if not self._split(path)[0]:
            return iter(await self._list_volumes(recursive=recursive))
        with self._naming(path):
            try:
                book, inner = await self._place(path)
                return await _prefixed(book, inner, path, recursive=recursive)
            except NotFound:
                if path == ROOT and await self._may_begin():
                    return iter(())
                raise

    async def _may_begin(self) -> bool:
        """Whether this storage's folder is merely not there yet: it comes into being with its first file."""
        name, inner = self._split(ROOT)
        return bool(inner and await self._volumes.find(name)) or self._volumes.creates

    async def _list_volumes(self, *, recursive: bool) -> Sequence[Listed]:
        found: list[Listed] = []
        for volume in await self._volumes.all():
            found.extend(await self._shown(volume, recursive=recursive))
        return found

    async def _shown(self, volume: VolumeFound, *, recursive: bool) -> Sequence[Listed]:
        """A volume in the list of all: a folder, with what is in it, or a problem."""
        if not is_volume_name(volume.name):
            return (_misnamed(volume.name),)
        path = rel_path(volume.name)
        refusal = self._volumes.refusal(volume)
        if refusal is not None:
            return (_problem(path, refusal),)
        return ((path, DIRECTORY), *(await self._whole_volume(path) if recursive else ()))

    async def _whole_volume(self, path: RelPath) -> Sequence[Listed]:
        try:
            return tuple(await _prefixed(await self._volumes.get(path), "", path, recursive=True))
        except (PathError, Halted) as error:  # the other volumes are still to be seen
            return (_problem(path, error),)

    async def stat(self, path: RelPath) -> Entry | None:
        name, inner = self._split(path)
        if not name:
            return DIRECTORY
        if self._names.unseen(path):
            return None
        book = await self._volumes.find(name)
        if path == ROOT and not inner and book is not None:
            return DIRECTORY
        if book is None:
            return None
        with self._naming(path):
            await book.open(inner)
            native = await book.volume.look(inner)
            if native is None:
                return None
            return book.entry(native if native.kind is NativeKind.DIRECTORY else require_file(native, inner))

    @asynccontextmanager
    async def read(
        self, path: RelPath, offset: int = 0, length: int | None = None, *, expect: Expect = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        with self._naming(path):
            book, inner, insist = await self._readable(path, expect)
            async with book.volume.reading(inner, insist, offset=offset, length=length) as reader:
                yield reader

    @asynccontextmanager
    async def pour(
        self, path: RelPath, into: Into, offset: int = 0, length: int | None = None, *, expect: Expect = None
    ) -> AsyncIterator[AsyncIterator[int]]:
        """As `SupportsPour.pour`."""
        with self._naming(path):
            book, inner, insist = await self._readable(path, expect)
            async with book.volume.pouring(inner, into, insist, offset=offset, length=length) as reader:
                yield reader

    async def _readable(
        self, path: RelPath, expect: Expect
    ) -> tuple[Book, str, Callable[[NativeEntry], None]]:
        """Where to read, and what raises when that is not what is expected.

        Raises UsageError for what a two-way sync keeps on its sides: the list of volumes has no room for it.
        """
        if not self._names.base and is_within(path, RelPath(f"{OURS}/pairs")):
            raise UsageError("the list of volumes cannot be kept in sync", hint="name a volume in it")
        book, inner = await self._place(path)
        await _open_for(book, inner, expect)
        return book, inner, lambda native: book.insist(expect, native, path)

    async def write(
        self, path: RelPath, source: Source, *, mtime_ns: int | None = None, expect: Expect = None
    ) -> Entry:
        """As `Storage.write`; durable on return, but for what the sidecar keeps: see `barrier` there."""
        if source.size > MAX_SIZE:
            raise TooLarge(
                "a file on a volume must be smaller than 1 TiB",
                path=path,
                hint="use a chunker over the volume",
            )
        with self._naming(path):
            book, inner = await self._new_place(path)
            return await self._write(book, inner, source, mtime_ns=mtime_ns, expect=expect)

    async def _write(
        self, book: Book, path: str, source: Source, *, mtime_ns: int | None, expect: Expect
    ) -> Entry:
        await _open_for(book, path, expect)
        commit = _Commit(book, path, expect, mtime_ns=mtime_ns, now=self._now)
        try:
            return await self._uploader.put(book.volume, path, source, commit)
        except AlreadyExists as error:
            found = await book.volume.look(path)
            if found is not None and found.kind is not NativeKind.DIRECTORY:
                require_file(found, path)  # what we cannot see is no other version of a file
            raise Stale("something is there already", path=path) from error

    async def delete(self, path: RelPath, *, expect: Expect = None) -> None:
        with self._naming(path):
            book, inner = await self._old_place(path)
            await _open_for(book, inner, expect)
            async with book.alone_with(inner):
                await self._delete(book, inner, expect)

    async def _delete(self, book: Book, path: str, expect: Expect) -> None:
        await book.volume.remove(path, _Doomed(book, expect))
        with trio.CancelScope(shield=True):
            book.forget(path)
            await directories.keep_parent(book, self._uploader, path)

    async def aclose(self) -> None:
        await self._transport.aclose()

    # capabilities

    async def move(
        self, source: RelPath, target: RelPath, *, expect: Expect = None, replace: Expect = ABSENT
    ) -> Entry:
        """As `SupportsMove.move`, for files within one volume."""
        book, one, other = await self._ends(source, target)
        with self._naming(source), self._naming(target):
            entry = await moves.move(book, self._journal, one, other, expect, replace)
            await directories.keep_parent(book, self._uploader, one)
            return entry

    async def copy(
        self, source: RelPath, target: RelPath, *, expect: Expect = None, replace: Expect = ABSENT
    ) -> Entry:
        """As `SupportsCopy.copy`, for files within one volume."""
        book, one, other = await self._ends(source, target)
        with self._naming(source), self._naming(target):
            return await moves.copy(book, one, other, expect, replace)

    async def _ends(self, source: RelPath, target: RelPath) -> tuple[Book, str, str]:
        book, one = await self._old_place(source)
        other_book, other = await self._new_place(target)
        if other_book is not book:
            raise Unsupported("Modal does not copy between volumes", path=source)
        if not one:
            raise IsADirectory("is a volume", path=source)
        return book, one, other

    async def make_directory(self, path: RelPath) -> Entry:
        """As `SupportsDirectories.make_directory`; a volume at the top, where that is allowed."""
        name, inner = self._split(path)
        if not name:
            return DIRECTORY
        if inner:
            book, inner = await self._new_place(path)
            with self._naming(path):
                await directories.make_directory(book, self._uploader, inner)
        else:
            await self._volumes.make(name)
        return DIRECTORY

    async def remove_directory(self, path: RelPath) -> None:
        """As `SupportsDirectories.remove_directory`; volumes themselves are never deleted."""
        with self._naming(path):
            book, inner = await self._old_place(path)
            if not inner:
                hint = f"use `modal volume delete {book.volume.name}`"
                raise Unsupported("mountsync never deletes a volume", path=path, hint=hint)
            await directories.remove_directory(book, self._uploader, inner)

    async def recover_attempts(self) -> None:
        """Settles renames that an earlier process left between copy and removal.

        One that cannot be settled now is logged, and its note kept for the next start.
        """
        for path, note in await self._journal.notes():
            try:
                await self._recover(note)
            except (PathError, Halted) as error:
                _log.warning("a rename that was broken off cannot be settled yet: %s", error)
            else:
                await self._journal.drop(path)

    async def _recover(self, note: moves.Note) -> None:
        book = await self._volumes.find(note.name)
        if book is not None and book.volume.id == note.volume:
            await moves.recover(book, note)


class ModalSidecarStorage(ModalStorage):
    """Volumes with mtimes and modes, which a sidecar on the volume keeps."""

    _has_sidecar = True

    async def set_mtime(self, path: RelPath, mtime_ns: int, *, expect: Expect = None) -> Entry:
        """As `SupportsSetMtime.set_mtime`; durable when `barrier` returns."""
        with self._naming(path):
            book, inner = await self._old_place(path)
            await book.open(inner)
            native = await book.volume.file(inner)
            book.insist(expect, native, path)
            book.remember(native, mtime_ns=mtime_ns)
            return book.entry(native)

    async def set_mode(self, path: RelPath, mode: int) -> Entry:
        """As `SupportsAttributes.set_mode`; durable when `barrier` returns."""
        with self._naming(path):
            book, inner = await self._old_place(path)
            await book.open(inner)
            native = await book.volume.look(inner)
            if native is None:
                raise NotFound("nothing is there", path=path)
            book.remember(native, mode=mode)
            return book.entry(native)

    async def barrier(self) -> None:
        """As `SupportsBarrier.barrier`: writes what the sidecar has not written yet.

        Where Modal refuses that, contents are safe all the same, but times and modes are Modal's: that
        is logged once, and no error.
        """
        for book in self._volumes.opened:
            if book.sidecar is not None:
                await book.sidecar.flush()

    async def prune_metadata(self, path: RelPath = ROOT) -> int:
        """Drops entries of the sidecar under `path` whose file is gone or was changed by others.

        Returns how many. Those in a folder that Modal refuses to list are kept. The volume must be named:
        there is nothing to prune in the list of volumes.
        """
        with self._naming(path):
            book, inner = await self._place(path)
            sidecar = book.sidecar
            assert sidecar is not None
            await book.open_folder("", recursive=True)
            natives, unseen = await _all_below(book, inner)
            stale = [
                known
                for known in map(RelPath, sidecar.paths())
                if is_within(known, RelPath(inner))
                and not any(is_within(known, RelPath(folder)) for folder in unseen)
                and not book.is_remembered(known, natives.get(known))
            ]
            for known in stale:
                sidecar.set(known, None)
            await sidecar.flush(strict=bool(stale))
            return len(stale)

    async def aclose(self) -> None:
        """As `Storage.aclose`: writes what the sidecar has not written, then ends all traffic.

        What cannot be written within a few seconds is given up: those files show Modal's mtime from
        then on. Who must know calls `barrier` before.
        """
        try:
            with trio.move_on_after(_LAST_FLUSH):
                for book in self._volumes.opened:
                    if book.sidecar is not None:
                        await book.sidecar.aclose()
        finally:
            await self._transport.aclose()


class _Doomed:
    """Insists that what is to be deleted is what was expected, and stays what was seen first."""

    def __init__(self, book: Book, expect: Expect) -> None:
        self._book = book
        self._expect = expect
        self._first: NativeEntry | None = None

    def __call__(self, native: NativeEntry) -> None:
        if native.kind is NativeKind.DIRECTORY:
            raise IsADirectory("is a directory", path=native.path)
        self._book.insist(self._expect, native, native.path)
        if self._first not in (None, native):
            raise Stale("it changed while it was deleted", path=native.path)
        self._first = native


class _Commit:
    """The step that makes an upload visible: what it expects to find, and what is noted of it."""

    def __init__(
        self, book: Book, path: str, expect: Expect, *, mtime_ns: int | None, now: Callable[[], float]
    ) -> None:
        self._book = book
        self._path = path
        self._expect = expect
        self._mtime_ns = mtime_ns
        self._now = now
        self._before: NativeEntry | None = None

    @property
    def create_only(self) -> bool:
        return self._expect is ABSENT

    def alone(self) -> AbstractAsyncContextManager[None]:
        return self._book.alone_with(self._path)

    async def check(self) -> None:
        """Raises Stale when what is there is not what was expected."""
        if self._expect is None or self._expect is ABSENT:
            return
        found = await self._book.volume.look(self._path)
        if found is not None and found.kind is NativeKind.DIRECTORY:
            raise IsADirectory("is a directory", path=self._path)
        self._book.insist(self._expect, found, self._path)
        self._before = found

    async def settle(self, hashed: Hashed, seen: NativeEntry | None) -> Entry:
        """Notes what was put, once it can be seen. Raises Unreachable when that takes too long."""
        for delay in (0.05, 0.1, 0.3, 0.8, 2.0, None):
            native = seen if seen is not None else await self._book.volume.look(self._path)
            seen = None
            if native is not None and self._is_ours(
                native, hashed.size, patient=delay is None or delay > 0.5
            ):
                return self._book.note(
                    native,
                    hashed.fingerprint,
                    before=self._before,
                    mtime_ns=self._mtime_ns,
                    mode=self._book.mode_at(self._path),
                )
            if delay is not None:
                await trio.sleep(delay)
        raise Unreachable("Modal took the file but does not show it yet", path=self._path, hint=LATER)

    def _is_ours(self, native: NativeEntry, size: int, *, patient: bool) -> bool:
        """Whether what is seen can be what was put.

        A put of equal content may leave the old entry as it was: `patient` says that it was waited for.
        """
        if native.kind is not NativeKind.FILE or native.size != size:
            return False
        return patient or native != self._before or self._now() <= native.mtime + 5


def _problem(path: RelPath, error: MountsyncError) -> Listed:
    return path, Problem(str(error), transient=error.transient, error=type(error).__name__)


def _misnamed(name: str) -> Listed:
    """A volume whose name we do not take for a path, told beside it."""
    reason = f"the volume {name!r} is left alone because of its name; {GOOD_VOLUMES}"
    return beside(name), Problem(printable(reason), transient=False, error="NameRefused")


async def _open_for(book: Book, path: str, expect: Expect) -> None:
    """Loads what is needed to tell whether `expect` holds: only tokens with a variant need the sidecar."""
    if isinstance(expect, str) and expect.count(":") > 1:
        await book.open(path)


async def _prefixed(book: Book, inner: str, path: RelPath, *, recursive: bool) -> Iterator[Listed]:
    """A listing below `inner` of the volume, with paths of the storage below `path`."""
    entries = await below(book, inner, recursive=recursive)
    return ((join(path, name) if name else path, entry) for name, entry in entries)


async def _all_below(book: Book, inner: str) -> tuple[dict[str, NativeEntry], Collection[str]]:
    """What is at `inner` and below it, by path, and the directories that Modal refuses to list."""
    try:
        natives, refused = await everything(book, inner)
    except NotFound:
        return {}, ()
    except NotADirectory:
        with suppress(NotADirectory):
            native = await book.volume.look(inner)
            return ({} if native is None else {inner: native}), ()
        return {}, ()
    return {native.path: native for native in natives}, refused.keys()
