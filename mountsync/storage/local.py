"""A storage on the local disk: one folder and what is below it.

Nothing outside the folder is touched and no link is followed: a link is an entry of its own. Names
are any bytes. The root must exist; when it goes away later, or another folder takes its place,
every call raises Unreachable, so that an unmounted disk never looks like an emptied one. What was
acknowledged survives the death of the process at once, and power loss when `barrier` returned.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Protocol, TypeVar, runtime_checkable

import trio

from mountsync.errors import AlreadyExists, Stale
from mountsync.model.entry import Entry, Kind
from mountsync.paths import RelPath, from_bytes
from mountsync.storage import local_changes, syscalls
from mountsync.storage.api import ABSENT, Expect, Into, Listed, Source, Storage, StorageInfo, Usage
from mountsync.storage.barrier import SharedBarrier
from mountsync.storage.crowd import Crowd
from mountsync.storage.local_draft import BEHIND, Draft, Occupied, make_whole
from mountsync.storage.local_read import PIECE, Opened, OpenedSource, Pieces, Pouring, SmallSource, whole_of
from mountsync.storage.local_root import LocalRoot, naming, size_in
from mountsync.storage.local_temporary import Temporaries
from mountsync.storage.local_walk import walk
from mountsync.storage.local_watch import watch_tree
from mountsync.storage.options import OpenContext, Option, OptionKind
from mountsync.storage.sources import BytesSource, Flows, PieceReader, Pours

OPTIONS: tuple[Option, ...] = (
    Option("root", OptionKind.TEXT, "", help="folder to which paths of this remote are relative"),
)

SMALL: Final = 1 << 20
"""Bodies up to this size in bytes are written in one thread hop, and synced by `barrier` only."""
_SLICE: Final = 64 << 20
"""Bytes that the kernel copies at most between two looks at cancellation."""
_THREADS: Final = 8
_LITTLE: Final = 1 << 16
"""Bodies up to this size in bytes share hops to threads with others."""
_CROWDS: Final = 2
"""So many such hops at once: more would only wait for each other's interpreter lock."""

T = TypeVar("T")


@runtime_checkable
class HasDescriptor(Protocol):
    """A source whose body is a local file, from its first byte on."""

    def fileno(self) -> int:
        """The open descriptor."""
        ...


async def open_storage(options: Mapping[str, object], path: str, context: OpenContext) -> Storage:
    """Opens the folder `path`, relative to the option `root` and then to the current directory."""
    folder = os.path.join(str(options.get("root") or ""), path) or "."
    return await trio.to_thread.run_sync(_open, folder, context.state_dir)


def _open(folder: str, state_dir: Path) -> Storage:
    return LocalStorage(os.path.expanduser(folder), state_dir=state_dir)


class LocalStorage:
    """One folder of the local disk."""

    def __init__(self, folder: str | bytes, *, state_dir: Path | None = None) -> None:
        """Raises NotFound or NotADirectory. `state_dir` is where unfinished files are remembered."""
        raw = folder if isinstance(folder, bytes) else folder.encode("utf-8", "surrogateescape")
        self._root = LocalRoot(raw)
        self._temporaries = Temporaries(self._root.folder, state_dir)
        self._threads = trio.CapacityLimiter(_THREADS)
        self._crowd = Crowd(self._threads, _CROWDS)
        self._lookers = Crowd(self._threads, _CROWDS)
        self._barrier = SharedBarrier(self._sync)
        facts = self._root.facts
        self._info = StorageInfo(
            type="local",
            identity=f"local:{from_bytes(self._root.folder)}",
            mtime_precision_ns=facts.mtime_precision_ns,
            case_sensitive=facts.case_sensitive,
            names=facts.names,
            concurrency=4,
            small_at_once=64,
            stable_tokens=True,
            moves_directories=True,
        )

    @property
    def info(self) -> StorageInfo:
        return self._info

    async def _in_thread(self, work: Callable[..., T], *args: object) -> T:
        return await trio.to_thread.run_sync(work, *args, limiter=self._threads)

    def _accept(self, path: RelPath) -> None:
        self._info.names.insist(path)

    @asynccontextmanager
    async def list(self, path: RelPath, *, recursive: bool) -> AsyncIterator[AsyncIterator[Sequence[Listed]]]:
        batches = walk(self._root, path, recursive=recursive)
        try:
            yield _Batches(batches, self._threads)
        finally:
            batches.close()

    async def stat(self, path: RelPath) -> Entry | None:
        return await self._lookers.run(partial(local_changes.stat_entry, self._root, path))

    @asynccontextmanager
    async def read(
        self, path: RelPath, offset: int = 0, length: int | None = None, *, expect: Expect = None
    ) -> AsyncIterator[AsyncIterator[bytes]]:
        opened = await self._in_thread(Opened, self._root, path, expect)
        try:
            yield Pieces(opened, offset, opened.end(offset, length), self._threads)
        finally:
            opened.close()

    @asynccontextmanager
    async def pour(
        self, path: RelPath, into: Into, offset: int = 0, length: int | None = None, *, expect: Expect = None
    ) -> AsyncIterator[AsyncIterator[int]]:
        opened = await self._in_thread(Opened, self._root, path, expect)
        try:
            yield Pouring(opened, into, offset, opened.end(offset, length), self._threads)
        finally:
            opened.close()

    @asynccontextmanager
    async def body(self, path: RelPath, *, expect: Expect = None) -> AsyncIterator[Source]:
        """As `SupportsBody.body`. A small body is read with the step that needs it, or else at once."""
        if isinstance(expect, str) and 0 < size_in(expect) <= _LITTLE:
            yield SmallSource(self._root, path, expect, self._threads)
            return
        opened = await self._in_thread(self._open_body, path, expect)
        if isinstance(opened, bytes):
            yield BytesSource(opened)
            return
        try:
            yield OpenedSource(opened, self._threads)
        finally:
            opened.close()

    def _open_body(self, path: RelPath, expect: Expect) -> Opened | bytes:
        opened = Opened(self._root, path, expect)
        return opened if opened.size > SMALL else whole_of(opened, path)

    async def write(
        self, path: RelPath, source: Source, *, mtime_ns: int | None = None, expect: Expect = None
    ) -> Entry:
        """As `Storage.write`. A file that is replaced hands down its mode and owner, not its hard links."""
        self._accept(path)
        if source.size > SMALL:
            return await self._write_large(path, source, mtime_ns, expect)
        load: Callable[[], bytes] | None = getattr(source, "load", None)  # isinstance would take as long
        if load is not None:
            return await self._crowd.run(partial(self._take_over, path, load, mtime_ns, expect))
        data = await source.read(0, source.size)
        if len(data) != source.size or not source.still():
            raise Stale("the source changed while it was uploaded", path=path)
        put = partial(self._put, path, data, mtime_ns, expect)
        return await (self._crowd.run(put) if len(data) <= _LITTLE else self._in_thread(put))

    def _take_over(
        self, path: RelPath, load: Callable[[], bytes], mtime_ns: int | None, expect: Expect
    ) -> Entry:
        """As `_put`, of a source that has `load` (see `sources.LoadsAtOnce`)."""
        return self._put(path, load(), mtime_ns, expect)

    def _draft(
        self, path: RelPath, replace: Expect, occupied: Occupied = Stale, *, look_first: bool = True
    ) -> Draft:
        with naming(path):
            return Draft(
                self._root,
                self._temporaries,
                path,
                replace=replace,
                occupied=occupied,
                look_first=look_first,
            )

    def _put(self, path: RelPath, data: bytes, mtime_ns: int | None, expect: Expect) -> Entry:
        def fill(draft: Draft) -> None:
            draft.begin()
            draft.append(data)

        finish = partial(Draft.commit, size=len(data), mtime_ns=mtime_ns, sync=False)
        return make_whole(self._draft(path, expect, look_first=False), fill, finish)

    async def _write_large(
        self, path: RelPath, source: Source, mtime_ns: int | None, expect: Expect
    ) -> Entry:
        draft = await self._in_thread(self._draft, path, expect)
        try:
            await self._step(draft, draft.begin)
            await self._fill(draft, source)
            if not source.still():
                raise Stale("the source changed while it was uploaded", path=path)
            commit = partial(draft.commit, size=source.size, mtime_ns=mtime_ns, sync=True)
            return await self._step(draft, commit)
        finally:
            await self._discard(draft)

    async def _fill(self, draft: Draft, source: Source) -> None:
        if isinstance(source, HasDescriptor):
            await self._fill_from(draft, source.fileno(), source.size)
            return
        if isinstance(source, Pours):
            await self._pour(draft, source)
        elif isinstance(source, Flows):
            async with source.flow() as pieces:
                await self._append_all(draft, pieces, source.size)
        else:
            await self._append_all(draft, PieceReader(source, PIECE), source.size)

    async def _pour(self, draft: Draft, source: Pours) -> None:
        done = told = 0
        async with source.pour(draft) as counts:
            async for count in counts:
                done += count
                if done - told >= BEHIND:
                    await self._step(draft, draft.grew, done - told)
                    told = done
        self._insist_whole(draft, done, source.size)

    async def _append_all(self, draft: Draft, pieces: AsyncIterator[bytes], size: int) -> None:
        done = 0
        async for data in pieces:
            await self._step(draft, draft.append, data)
            done += len(data)
        self._insist_whole(draft, done, size)

    def _insist_whole(self, draft: Draft, done: int, size: int) -> None:
        if done != size:
            raise Stale("the source ended early", path=draft.path)

    async def _fill_from(self, draft: Draft, fd: int, size: int) -> None:
        if await self._step(draft, draft.clone, fd):
            return
        done = 0
        while done < size:
            count = await self._step(draft, draft.append_from, fd, done, min(_SLICE, size - done))
            if not count:
                raise Stale("the source ended early", path=draft.path)
            done += count

    async def _step(self, draft: Draft, work: Callable[..., T], *args: object) -> T:
        with naming(draft.path):
            return await self._in_thread(work, *args)

    async def _discard(self, draft: Draft) -> None:
        with trio.CancelScope(shield=True):
            await self._step(draft, draft.discard)

    async def delete(self, path: RelPath, *, expect: Expect = None) -> None:
        await self._in_thread(local_changes.delete, self._root, path, expect)

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()
        self._temporaries.close()

    async def move(
        self, source: RelPath, target: RelPath, *, expect: Expect = None, replace: Expect = ABSENT
    ) -> Entry:
        self._accept(target)
        return await self._in_thread(local_changes.move, self._root, source, target, expect, replace)

    async def copy(
        self, source: RelPath, target: RelPath, *, expect: Expect = None, replace: Expect = ABSENT
    ) -> Entry:
        """As `SupportsCopy.copy`; the copy has the mtime and mode of its source."""
        self._accept(target)
        entry = await self.stat(source)
        if entry is not None and entry.kind is Kind.SYMLINK and expect in (None, entry.token):
            return await self._in_thread(self._link, target, entry.target or "", replace, AlreadyExists)
        opened = await self._in_thread(Opened, self._root, source, expect)
        try:
            return await self._copy_opened(opened, target, replace)
        finally:
            opened.close()

    async def _copy_opened(self, opened: Opened, target: RelPath, replace: Expect) -> Entry:
        draft = await self._in_thread(self._draft, target, replace, AlreadyExists)
        try:
            await self._step(draft, draft.begin, opened.mode)
            await self._fill_from(draft, opened.fd, opened.size)
            await self._in_thread(opened.insist)
            large = opened.size > SMALL
            commit = partial(draft.commit, size=opened.size, mtime_ns=opened.mtime_ns, sync=large)
            return await self._step(draft, commit)
        finally:
            await self._discard(draft)

    async def set_mtime(self, path: RelPath, mtime_ns: int, *, expect: Expect = None) -> Entry:
        return await self._in_thread(local_changes.set_mtime, self._root, path, mtime_ns, expect)

    async def make_directory(self, path: RelPath) -> Entry:
        self._accept(path)
        return await self._in_thread(local_changes.make_directory, self._root, path)

    async def remove_directory(self, path: RelPath) -> None:
        await self._in_thread(local_changes.remove_directory, self._root, path, self._temporaries)

    async def make_symlink(self, path: RelPath, target: str, *, expect: Expect = None) -> Entry:
        self._accept(path)
        return await self._in_thread(self._link, path, target, expect, Stale)

    def _link(self, path: RelPath, target: str, replace: Expect, occupied: Occupied) -> Entry:
        raw = target.encode("utf-8", "surrogateescape")
        draft = self._draft(path, replace, occupied)
        return make_whole(draft, lambda draft: draft.symlink(raw), Draft.commit_symlink)

    async def set_mode(self, path: RelPath, mode: int) -> Entry:
        return await self._in_thread(local_changes.set_mode, self._root, path, mode)

    @asynccontextmanager
    async def watch(self) -> AsyncIterator[AsyncIterator[frozenset[RelPath]]]:
        """As `SupportsWatch.watch`; sees what programs on this machine change."""
        async with watch_tree(self._root, self._threads) as hints:
            yield hints

    async def usage(self) -> Usage:
        return await self._in_thread(self._usage)

    def _usage(self) -> Usage:
        with naming(RelPath("")):
            fd = self._root.open()
            try:
                found = os.statvfs(fd)
            finally:
                os.close(fd)
        unit = found.f_frsize
        used = (found.f_blocks - found.f_bfree) * unit
        return Usage(total=found.f_blocks * unit, used=used, free=found.f_bavail * unit)

    async def barrier(self) -> None:
        await self._barrier.wait()

    async def _sync(self) -> None:
        await self._in_thread(self._sync_now)

    def _sync_now(self) -> None:
        with naming(RelPath("")):
            fd = self._root.open(os.O_RDONLY)
            try:
                syscalls.sync_filesystem(fd)
            finally:
                os.close(fd)

    async def recover_attempts(self) -> None:
        """Removes unfinished files that an earlier process with the same state folder left."""
        await self._in_thread(self._recover)

    def _recover(self) -> None:
        for folder in self._temporaries.left:
            with naming(folder):
                local_changes.sweep(self._root, folder, self._temporaries)
        self._temporaries.forget_left()


class _Batches:
    """Takes batches of a walk in a thread."""

    def __init__(self, batches: Iterator[list[Listed]], threads: trio.CapacityLimiter) -> None:
        self._batches = batches
        self._threads = threads

    def __aiter__(self) -> _Batches:
        return self

    async def __anext__(self) -> Sequence[Listed]:
        batch = await trio.to_thread.run_sync(self._next, limiter=self._threads)
        if batch is None:
            raise StopAsyncIteration
        return batch

    def _next(self) -> Sequence[Listed] | None:
        return next(self._batches, None)
