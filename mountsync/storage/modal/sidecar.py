"""Keeps the sidecar of one volume: loads shards when they are needed, writes changes in batches.

Before a shard is written, what another writer did to it since we read it is merged in. Modal has no
compare-and-swap: a writer in the moment between that look and our put loses its change. What is put is
read back, so that nobody's later change is taken for ours. Size and mtime tell whether a shard is what
was read, but not when its second was not over by then: such a one is read once more.

A shard that is missing or damaged counts as empty. One that is refused, whose bytes do not come although
Modal answers, or that a newer version wrote, is left as it is: its files show Modal's times, and
everything else goes on. Only when Modal itself does not answer that is an error.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import Final

import trio

from mountsync.errors import (
    AlreadyExists,
    Busy,
    Corrupt,
    MountsyncError,
    NotADirectory,
    NotFound,
    PathError,
    Stale,
    Unreachable,
    Unsupported,
)
from mountsync.formats.modal_sidecar import (
    FOLDER,
    RCLONE_NAME,
    Remembered,
    decode,
    decode_rclone,
    encode,
    is_newer,
    merge,
    shard_at,
    shard_of,
    shard_path,
)
from mountsync.storage.modal.transport import NativeEntry
from mountsync.storage.modal.upload import Plainly, Uploader
from mountsync.storage.modal.volume import Volume
from mountsync.storage.sources import BytesSource
from mountsync.storage.together import each

_log = logging.getLogger(__name__)

DEBOUNCE: Final = 2.0
"""Seconds from a change to the flush that takes it and all others of that time along."""
_RETRY: Final = 30.0
_REST: Final = 900.0
"""Seconds until what was refused is tried again."""
_UNREAD: Final = 60.0
"""Seconds until what could not be read is tried again."""
_ENOUGH: Final = 16
"""So many shards in a row that cannot be read say that no other one can be."""
_TRIES: Final = 4
_BETWEEN_TRIES: Final = 0.1
_CANNOT_KEEP: Final = (
    "times and modes of files on the volume %s cannot be kept for now, their contents are safe: %s"
)
_FRESH: Final = 5.0
"""Seconds for which the list of shards is believed."""
_AT_ONCE: Final = 16
_RCLONE_MOST: Final = 256 << 20


class _Unseen(Plainly):
    """The put of a shard that was just looked at; Stale when it changed before a further attempt."""

    def __init__(self, volume: Volume, path: str, seen: NativeEntry | None) -> None:
        super().__init__(create_only=seen is None)
        self._look = partial(volume.look, path)
        self._seen = seen
        self._is_asked = False

    async def check(self) -> None:
        again, self._is_asked = self._is_asked, True
        if again and self._seen is not None and await self._look() != self._seen:
            raise Stale("somebody wrote the shard meanwhile", path=self._seen.path)


class _Unreadable(PathError):
    """The bytes of a shard do not come, though Modal answers; what is in it is not known."""


class _Shard:
    """One shard: what the remote has, and what it is to get."""

    def __init__(self) -> None:
        self.stamp: tuple[int, int] | None = None
        """Modal's size and mtime of what was loaded; None: nothing was."""
        self.is_young = False
        """It was loaded before its second was over, so that it may have been rewritten unseen."""
        self.entries: dict[str, Remembered] = {}
        self.changes: dict[str, Remembered | None] = {}
        self.is_newer = False
        """A later version of mountsync wrote it."""
        self.rests_until: float | None = None
        """It could not be written, and will not be before that time."""
        self.unread_until: float | None = None
        """It could not be read; the same."""
        self.lock = trio.Lock()


class Sidecar:
    """What is remembered of one volume's files."""

    def __init__(self, volume: Volume, uploader: Uploader, clock: Callable[[], float]) -> None:
        """`clock`: seconds, monotonic."""
        self._volume = volume
        self._uploader = uploader
        self._clock = clock
        self._shards: dict[str, _Shard] = {}
        self._index: dict[str, tuple[int, int]] = {}
        self._index_at: float | None = None
        self._rclone: dict[str, Remembered] | None = None
        self._rclone_unread_until: float | None = None
        self._unread = 0
        """So many shards in a row could not be read ..."""
        self._unread_at = 0.0
        """... the last of them then."""
        self._is_told = False
        self._flusher: trio.CancelScope | None = None
        self._lock = trio.Lock()

    # reading

    async def load(self, folder: str | None) -> None:
        """Makes `get` right for the files of one directory, of all for None.

        As far as shards can be read. Raises Unreachable when Modal does not answer.
        """
        await self._refresh_index()
        names = self._index if folder is None else {shard_of(f"{folder}/x" if folder else "x")}
        await each([name for name in names if self._is_old(name)], self._load, at_once=_AT_ONCE)

    def get(self, path: str) -> Remembered | None:
        """The entry of a path whose directory is loaded. Whether it fits is for the caller to see."""
        shard = self._shards.get(shard_of(path))
        if shard is not None and path in shard.changes:
            return shard.changes[path]
        found = shard.entries.get(path) if shard is not None else None
        return found if found is not None or self._rclone is None else self._rclone.get(path)

    def paths(self) -> Iterable[str]:
        """All paths that have an entry of ours, of the loaded shards."""
        for shard in self._shards.values():
            yield from merge(shard.entries, shard.changes)

    def _is_old(self, name: str) -> bool:
        shard = self._shards.get(name)
        if shard is None or name not in self._index:
            return name in self._index
        if self._is_before(shard.unread_until):
            return False
        return shard.stamp != self._index[name] or self._wants_another_look(shard)

    def _is_before(self, until: float | None) -> bool:
        return until is not None and self._clock() < until

    def _wants_another_look(self, shard: _Shard) -> bool:
        return shard.is_young and shard.stamp is not None and self._is_over(shard.stamp[1])

    def _is_over(self, mtime: float) -> bool:
        return self._volume.clock.is_over(mtime, time.time())

    async def _refresh_index(self) -> None:
        async with self._lock:
            if self._index_at is not None and self._clock() < self._index_at + _FRESH:
                return
            began = self._clock()
            entries = await self._list_shards()
            self._index = {
                name: (entry.size, entry.mtime) for entry in entries if (name := shard_at(entry.path))
            }
            await self._refresh_rclone()
            self._index_at = began

    async def _list_shards(self) -> Iterable[NativeEntry]:
        try:
            return await self._volume.list(FOLDER, recursive=False)
        except (NotFound, NotADirectory):
            return ()
        except PathError as error:
            self._tell(error)
            return ()

    async def _refresh_rclone(self) -> None:
        """Reads what rclone-modal knows, once; again later where that does not come."""
        if self._rclone is None or self._rclone_unread_until is not None:
            if self._is_before(self._rclone_unread_until):
                return
            self._rclone, self._rclone_unread_until = {}, None
            try:
                self._rclone = await self._load_rclone()
            except PathError:
                return
            except Unreachable:
                await self._volume.look(RCLONE_NAME)
                self._rclone_unread_until = self._clock() + _UNREAD

    async def _load_rclone(self) -> dict[str, Remembered]:
        native = await self._volume.look(RCLONE_NAME)
        if native is None or native.size > _RCLONE_MOST:
            return {}
        content = await self._volume.content(RCLONE_NAME)
        return await trio.to_thread.run_sync(decode_rclone, content[1]) if content is not None else {}

    async def _load(self, name: str) -> None:
        """Reads a shard; what cannot be had of it counts as empty until it is written over or mended."""
        shard = self._shards.setdefault(name, _Shard())
        async with shard.lock:
            if not self._is_old(name):
                return  # who waited for the same has it now
            try:
                await self._read_or_not(name, shard)
                if shard.is_newer:
                    self._tell(_newer(name))
            except Stale:
                pass
            except PathError as error:
                shard.unread_until = self._clock() + _UNREAD
                self._tell(error)

    async def _read_or_not(self, name: str, shard: _Shard) -> None:
        """As `_read`; Unreachable only when Modal does not answer either."""
        if self._unread >= _ENOUGH and self._is_before(self._unread_at + _UNREAD):
            raise _unreadable(name, "others could not be read either")
        try:
            await self._read(name, shard)
        except (Corrupt, Unreachable) as error:
            await self._volume.look(shard_path(name))
            self._unread, self._unread_at = self._unread + 1, self._clock()
            raise _unreadable(name, error.reason) from error
        self._unread, shard.unread_until = 0, None

    async def _read(self, name: str, shard: _Shard) -> None:
        began = trio.current_time()
        content = await self._volume.content(shard_path(name))
        if content is None:
            shard.entries, shard.stamp = {}, self._index.get(name)
            return
        native, data = content
        shard.is_newer = is_newer(data)
        entries = decode(data) if len(data) < 1 << 16 else await trio.to_thread.run_sync(decode, data)
        shard.entries, shard.stamp = entries or {}, (native.size, native.mtime)
        shard.is_young = not self._is_over(native.mtime + trio.current_time() - began)
        self._index[name] = (native.size, native.mtime)

    # writing

    def set(self, path: str, entry: Remembered | None) -> None:
        """Remembers an entry, or with None forgets it. A flush follows within `DEBOUNCE` seconds."""
        shard = self._shards.setdefault(shard_of(path), _Shard())
        shard.changes[path] = entry
        if self._flusher is None:
            self._flusher = trio.CancelScope()
            trio.lowlevel.spawn_system_task(self._flush_soon, self._flusher)

    async def _flush_soon(self, scope: trio.CancelScope) -> None:
        with scope:
            await trio.sleep(DEBOUNCE)
            while True:
                if await self._flush_quietly() and not self._any_rests():
                    break
                await trio.sleep(_RETRY)
        if self._flusher is scope:
            self._flusher = None
            self._go_on()

    async def _flush_quietly(self) -> bool:
        """Whether all is written that can be. The changes are kept; `flush` tells errors to who asks."""
        try:
            await self._flush_all()
        except MountsyncError:
            return False
        except Exception:  # noqa: BLE001 - a task of the system: a bug about times must not end the process
            _log.exception("internal error")
            return False
        return True

    def _go_on(self) -> None:
        for shard in self._shards.values():
            for path, entry in shard.changes.items():
                self.set(path, entry)
                return

    async def flush(self, *, strict: bool = False) -> None:
        """Writes all changes; they are on the volume when this returns, but for what Modal refuses.

        Files whose times and modes cannot be kept are no worse for it: the refusal is logged once, and
        tried again much later. With `strict` it is raised. Raises Unreachable, Halted.
        """
        try:
            await self._flush_all(strict=strict)
        except MountsyncError as error:
            if (error.path or "").startswith(FOLDER):
                error.path = self._volume.name  # nobody asked for a shard
            raise

    async def aclose(self) -> None:
        """Stops the debounced flush and writes what is left, if that can be done."""
        scope, self._flusher = self._flusher, trio.CancelScope()
        if scope is not None:
            scope.cancel()
        self._unread = 0
        for shard in self._shards.values():
            shard.rests_until = None
        await self._flush_quietly()  # `flush` is for those who must know

    async def _flush_all(self, *, strict: bool = False) -> None:
        changed = [name for name, shard in self._shards.items() if shard.changes]
        if not strict:
            changed = [name for name in changed if not self._rests(self._shards[name])]
        await each(changed, partial(self._flush_shard, strict=strict), at_once=_AT_ONCE)

    def _any_rests(self) -> bool:
        return any(shard.changes and self._rests(shard) for shard in self._shards.values())

    def _rests(self, shard: _Shard) -> bool:
        return shard.rests_until is not None and self._clock() < shard.rests_until

    async def _flush_shard(self, name: str, *, strict: bool) -> None:
        shard = self._shards[name]
        async with shard.lock:
            try:
                await self._merge_in(name, shard)
                shard.rests_until = None
            except PathError as error:
                if strict or error.transient:
                    raise
                rest = _UNREAD if isinstance(error, _Unreadable) else _REST
                shard.rests_until = self._clock() + rest
                self._tell(error)

    def _tell(self, error: PathError) -> None:
        if not self._is_told:
            _log.warning(_CANNOT_KEEP, self._volume.name, error)
            self._is_told = True

    async def _merge_in(self, name: str, shard: _Shard) -> None:
        """Writes the shard until all changes are in it. Raises Busy when others do so all the time."""
        for tries in range(_TRIES):
            if not shard.changes:
                return
            with suppress(AlreadyExists, Stale):
                if await self._write(name, shard, trusting=tries == _TRIES - 1):
                    return
            await trio.sleep(_BETWEEN_TRIES * tries)
        raise Busy(
            "others keep writing this shard of the sidecar", path=shard_path(name), hint="it is tried again"
        )

    async def _write(self, name: str, shard: _Shard, *, trusting: bool) -> bool:
        """Returns whether it was seen to be there; the put is enough when `trusting`.

        Raises AlreadyExists or Stale when another one came meanwhile, Unsupported for a newer one.
        """
        path = shard_path(name)
        seen = await self._volume.look(path)
        if seen is not None and (shard.is_young or shard.stamp != (seen.size, seen.mtime)):
            await self._read_or_not(name, shard)
        if seen is None:
            shard.entries, shard.is_newer = {}, False
        if shard.is_newer:
            raise _newer(name)
        taken = dict(shard.changes)
        entries = merge(shard.entries, taken)
        if seen is not None and entries == shard.entries:
            _settle(shard, taken)
            return True
        data = await trio.to_thread.run_sync(encode, entries)
        began = trio.current_time()
        await self._uploader.put(self._volume, path, BytesSource(data), _Unseen(self._volume, path, seen))
        found = await self._read_back(path)
        same = found is not None and found[1] == data
        shard.entries = entries
        shard.stamp = None
        if same and found is not None:
            shard.stamp, shard.is_young = (found[0].size, found[0].mtime), True
            self._volume.clock.learn(found[0].mtime, began)
        if found is not None and not same and not trusting:
            return False  # somebody wrote it since: ours may be in it, or not
        if shard.stamp is not None:
            self._index[name] = shard.stamp
        _settle(shard, taken)
        return True

    async def _read_back(self, path: str) -> tuple[NativeEntry, bytes] | None:
        """What is there after a put; None when that cannot be seen now."""
        with suppress(Corrupt, Stale, Unreachable):
            return await self._volume.content(path)
        return None


def _unreadable(name: str, reason: str) -> _Unreadable:
    return _Unreadable(f"its bytes do not come: {reason}", path=shard_path(name), hint="it is tried again")


def _newer(name: str) -> Unsupported:
    return Unsupported(
        "was written by a newer version of mountsync, and is left as it is",
        path=shard_path(name),
        hint="update mountsync on this machine",
    )


def _settle(shard: _Shard, taken: dict[str, Remembered | None]) -> None:
    """Drops the changes that were written, not those that came since."""
    shard.changes = {
        path: entry for path, entry in shard.changes.items() if path not in taken or taken[path] is not entry
    }
