"""What a sync overwrites or deletes, kept on the same side.

Layout: `.mountsync/backups/<job>/<stamp>/<path>`; a stamp is the UTC time at which a run began, as in
`2026-11-20T113000Z`, with `-2`, `-3`, … where a path was replaced more than once in a run.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from mountsync.engine.pair.options import BackupRules
from mountsync.errors import AlreadyExists, NotADirectory, NotFound, PathError, Stale
from mountsync.model.entry import Entry, Kind
from mountsync.paths import OURS, RelPath, join, name_of, parts_of, refuse_part
from mountsync.storage.api import (
    ABSENT,
    Storage,
    SupportsCopy,
    SupportsDirectories,
    SupportsMove,
)
from mountsync.storage.sources import StorageSource

FOLDER: Final = RelPath(f"{OURS}/backups")
_STAMP: Final = re.compile(r"(\d{4}-\d\d-\d\dT\d{6}Z)(-\d+)?")
_TRIES: Final = 100


def stamp_of(clock_ns: int) -> str:
    """The stamp of a run that began then."""
    return datetime.fromtimestamp(clock_ns / 1e9, UTC).strftime("%Y-%m-%dT%H%M%SZ")


def folder_of(job: str) -> RelPath:
    """Where the backups of a job are."""
    refuse_part(job, job)
    return join(FOLDER, job.replace("/", "-"))


class Backups:
    """Keeps what one run takes away from one side."""

    def __init__(self, storage: Storage, job: str, stamp: str) -> None:
        self._storage = storage
        self._folder = folder_of(job)
        self._stamp = stamp
        self.kept = 0

    async def put_away(self, path: RelPath, entry: Entry) -> RelPath | None:
        """Moves the object at `path`, which must be `entry`, into the backups; tells where it is now.

        None where the storage cannot move: then it was copied and still stands. Raises Stale, NotFound.
        """
        storage = self._storage
        if not isinstance(storage, SupportsMove):
            await self.copy(path, entry)
            return None
        for target in self._targets(path):
            try:
                await storage.move(path, target, expect=entry.token, replace=ABSENT)
            except AlreadyExists:
                continue
            self.kept += 1
            return target
        raise _no_room(path)

    async def copy(self, path: RelPath, entry: Entry) -> None:
        """Copies the object at `path`, which must be `entry`, into the backups. Raises Stale, NotFound."""
        storage = self._storage
        for target in self._targets(path):
            try:
                if isinstance(storage, SupportsCopy):
                    await storage.copy(path, target, expect=entry.token, replace=ABSENT)
                else:
                    await self._carry(path, entry, target)
            except AlreadyExists:
                continue
            self.kept += 1
            return
        raise _no_room(path)

    async def _carry(self, path: RelPath, entry: Entry, target: RelPath) -> None:
        if await self._storage.stat(target) is not None:
            raise AlreadyExists("something is there already", path=target)
        body = StorageSource(self._storage, path, entry)
        await self._storage.write(target, body, mtime_ns=entry.mtime_ns, expect=ABSENT)

    def _targets(self, path: RelPath) -> list[RelPath]:
        stamps = [self._stamp, *(f"{self._stamp}-{number}" for number in range(2, _TRIES))]
        return [RelPath(f"{self._folder}/{stamp}/{path}") for stamp in stamps]

    async def bring_back(self, kept: RelPath, path: RelPath) -> None:
        """Undoes `put_away` after what should have replaced the object could not be done."""
        if isinstance(self._storage, SupportsMove):
            await self._storage.move(kept, path, replace=ABSENT)
            self.kept -= 1


def _no_room(path: RelPath) -> PathError:
    return PathError("no name for its backup is free", path=path, hint="prune the backups")


@dataclass(frozen=True, slots=True)
class Kept:
    """One object in the backups of a storage."""

    job: str
    stamp: str
    path: RelPath
    entry: Entry

    @property
    def place(self) -> RelPath:
        """Where the object is."""
        return RelPath(f"{FOLDER}/{self.job}/{self.stamp}/{self.path}")


async def kept_in(storage: Storage, *, job: str | None = None) -> list[Kept]:
    """Everything in the backups of a storage, oldest first. Raises what a listing raises."""
    found = []
    for path, entry in await _below(storage, FOLDER if job is None else folder_of(job)):
        parts = parts_of(path)[2:]
        if len(parts) > 2 and entry.kind is not Kind.DIRECTORY:
            found.append(Kept(parts[0], parts[1], RelPath("/".join(parts[2:])), entry))
    return sorted(found, key=lambda kept: (kept.job, kept.stamp, kept.path))


async def _below(storage: Storage, folder: RelPath) -> list[tuple[RelPath, Entry]]:
    found: list[tuple[RelPath, Entry]] = []
    try:
        async with storage.list(folder, recursive=True) as batches:
            async for batch in batches:
                found += [(path, item) for path, item in batch if isinstance(item, Entry)]
    except (NotFound, NotADirectory):
        return []
    return found


async def restore(storage: Storage, kept: Kept, *, now_ns: int, job: str) -> RelPath | None:
    """Brings a kept object back to its path; what stands there now goes to the backups itself.

    Returns the path, None when it holds the same version already. Raises IsADirectory, AlreadyExists,
    and Stale when the path changes meanwhile.
    """
    there = await storage.stat(kept.path)
    if there is not None and there.kind is Kind.DIRECTORY:
        raise AlreadyExists("a directory is there now", path=kept.path, hint="move it away first")
    if there is not None:
        await _keep_present(kept, there, Backups(storage, job, stamp_of(now_ns)))
        there = await storage.stat(kept.path)
    expect = ABSENT if there is None or there.token is None else there.token
    if isinstance(storage, SupportsCopy):
        await storage.copy(kept.place, kept.path, replace=expect)
    else:
        body = StorageSource(storage, kept.place, kept.entry)
        await storage.write(kept.path, body, mtime_ns=kept.entry.mtime_ns, expect=expect)
    return kept.path


async def _keep_present(kept: Kept, there: Entry, backups: Backups) -> None:
    if there.token is None:
        raise Stale("the version that stands there is not known", path=kept.path)
    await backups.put_away(kept.path, there)


async def prune(storage: Storage, job: str, rules: BackupRules, *, now_ns: int) -> int:
    """Removes the backups of runs that are too old or too many; returns how many objects went.

    A run that cannot be removed is left for the next time.
    """
    gone = 0
    for stamp in _doomed(await _stamps(storage, folder_of(job)), rules, now_ns):
        gone += await _remove(storage, join(folder_of(job), stamp))
    return gone


def _doomed(stamps: list[str], rules: BackupRules, now_ns: int) -> list[str]:
    """Which of these runs, oldest first, the rules do not keep."""
    many = set(stamps[: max(0, len(stamps) - rules.keep_runs)])
    oldest = stamp_of(now_ns - int(rules.keep_days * 86_400e9))
    return sorted(many | {stamp for stamp in stamps if stamp < oldest})


def expired(found: Iterable[Kept], rules: BackupRules, *, now_ns: int) -> list[Kept]:
    """What of these the rules do not keep, job by job."""
    by_job: dict[str, list[Kept]] = {}
    for kept in found:
        if _STAMP.fullmatch(kept.stamp):
            by_job.setdefault(kept.job, []).append(kept)
    gone: list[Kept] = []
    for each in by_job.values():
        doomed = set(_doomed(sorted({kept.stamp for kept in each}), rules, now_ns))
        gone += [kept for kept in each if kept.stamp in doomed]
    return gone


async def remove_runs(storage: Storage, gone: Iterable[Kept]) -> None:
    """Removes the runs to which these versions belong. One that cannot be removed whole stays in part."""
    for job, stamp in sorted({(kept.job, kept.stamp) for kept in gone}):
        await _remove(storage, join(folder_of(job), stamp))


async def _stamps(storage: Storage, folder: RelPath) -> list[str]:
    """The runs that have backups, oldest first."""
    found: set[str] = set()
    try:
        async with storage.list(folder, recursive=False) as batches:
            async for batch in batches:
                found.update(name_of(path) for path, _ in batch)
    except (NotFound, NotADirectory):
        return []
    return sorted(name for name in found if _STAMP.fullmatch(name))


async def _remove(storage: Storage, folder: RelPath) -> int:
    entries = await _below(storage, folder)
    gone = 0
    try:
        for path, entry in entries:
            if entry.kind is not Kind.DIRECTORY:
                await storage.delete(path)
                gone += 1
        if isinstance(storage, SupportsDirectories):
            folders = [path for path, entry in entries if entry.kind is Kind.DIRECTORY]
            for path in sorted([*folders, folder], key=lambda path: -len(parts_of(path))):
                await storage.remove_directory(path)
    except PathError:
        return gone
    return gone


async def sweep(storage: Storage, folder: RelPath, backups: Backups | None) -> None:
    """Puts away what a run that died left in the folder where cycles of renames wait."""
    try:
        entries = await _below(storage, folder)
        for path, entry in entries:
            if entry.kind is Kind.DIRECTORY:
                continue
            if backups is None:
                await storage.delete(path)
            else:
                await _put_away_as(storage, path, entry, backups)
        if isinstance(storage, SupportsDirectories):
            folders = [path for path, entry in entries if entry.kind is Kind.DIRECTORY]
            for path in sorted(folders, key=lambda path: -len(parts_of(path))):
                await storage.remove_directory(path)
    except PathError:
        return  # it is hidden, and the next run tries again


async def _put_away_as(storage: Storage, path: RelPath, entry: Entry, backups: Backups) -> None:
    await backups.put_away(path, entry)
    if not isinstance(storage, SupportsMove):
        await storage.delete(path)
