"""Objects that no file uses: chunks of uploads that were never finished, and of files that are gone.

Their age guards those of uploads that are under way, here or elsewhere. It is told by the id of the
transaction, which holds the second in which it began; objects carry the time of their source and say
nothing. Where there is no transaction the modification time must do.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import trio

from mountsync.errors import PathError
from mountsync.formats.chunk_names import transaction_age
from mountsync.model.entry import Problem, Token
from mountsync.paths import ROOT, RelPath, parent_of
from mountsync.storage.chunker.layout import COMMIT_WORD, MOVING_WORD, Layout, Piece
from mountsync.storage.chunker.objects import remove
from mountsync.storage.chunker.overlay import ChunkerStorage
from mountsync.storage.chunker.parallel import run_all
from mountsync.storage.chunker.view import Survey

DEFAULT_MINIMUM_AGE: Final = 7 * 86_400.0
"""Seconds; longer than any upload should take."""
MAXIMUM_AGE: Final = 18 * 86_400.0
"""Seconds; ids of transactions repeat after 19 days and tell no greater age."""
COMMIT_PAUSE: Final = 2.0
"""Seconds; longer than a program needs from its last rename to the metadata."""

Reason = Literal["temporary", "orphan", "unfinished"]


@dataclass(frozen=True, slots=True)
class Leftover:
    """One object that no file uses."""

    path: RelPath
    """Of the object on the base."""
    owner: RelPath
    """The file whose chunk it was or was to be."""
    size: int
    reason: Reason
    """`temporary`: of a transaction; `orphan`: in its final place, without a file; `unfinished`: of an
    upload of this machine that is under way, or can be taken up again."""
    age: float | None
    """Seconds; None when it cannot be told."""
    token: Token | None


@dataclass(frozen=True, slots=True)
class Search:
    """What a search found, and where it could not look."""

    leftovers: list[Leftover]
    problems: dict[RelPath, Problem]
    files: int
    """How many files were seen, leftovers not counted. Where there is none, orphans may be files that were
    written without metadata, and these settings the wrong ones."""


async def find_leftovers(
    storage: ChunkerStorage, folder: RelPath = ROOT, *, now: float | None = None
) -> list[Leftover]:
    """All leftovers below `folder`, by path. `now` is in seconds since 1970. Raises as `list` does."""
    return (await search(storage, folder, now=now)).leftovers


async def search(
    storage: ChunkerStorage,
    folder: RelPath = ROOT,
    *,
    now: float | None = None,
    journals: Iterable[Path] = (),
) -> Search:
    """As `find_leftovers`, and what could not be looked at.

    `journals` are folders in which other processes keep the state of storages: their uploads are
    `unfinished` too.
    """
    now = time.time() if now is None else now
    await trio.to_thread.run_sync(storage.attempts.look_elsewhere, journals)
    found: list[Leftover] = []
    problems: dict[RelPath, Problem] = {}
    files = 0
    waiting = [folder]
    while waiting:
        survey = await storage.survey(waiting.pop(), recursive=False)
        problems |= survey.problems
        for layout in survey.layouts.values():
            if layout.is_directory:
                waiting.append(layout.path)
            files += layout.exists and not layout.is_directory
            try:
                described = await storage.view.described(layout)
            except PathError as error:
                problems[layout.path] = Problem(error.reason, error=type(error).__name__)
            else:
                found += _leftovers(storage, described, now)
    return Search(sorted(found, key=lambda leftover: leftover.path), problems, files)


async def remove_settled(
    storage: ChunkerStorage, leftovers: Sequence[Leftover], *, minimum_age: float = DEFAULT_MINIMUM_AGE
) -> list[Leftover]:
    """As `remove_leftovers`, safe beside a commit of another program.

    Between its last rename and its metadata, rclone's new chunks look like orphans, and their times are
    the source's. So an orphan goes only when it is still one after a pause, and no upload of its file
    is younger than `minimum_age`.
    """
    orphaned = {each.owner for each in leftovers if each.reason == "orphan"}
    if orphaned:
        await trio.sleep(COMMIT_PAUSE)
        folders = {parent_of(owner) for owner in orphaned}
        again = [left for folder in sorted(folders) for left in await _here(storage, folder)]
        busy = {left.owner for left in again if left.reason != "orphan" and not _may_go(left, minimum_age)}
        still = {(left.path, left.token) for left in again if left.owner not in busy}
        leftovers = [
            left for left in leftovers if left.reason != "orphan" or (left.path, left.token) in still
        ]
    return await remove_leftovers(storage, leftovers, minimum_age=minimum_age)


async def _here(storage: ChunkerStorage, folder: RelPath) -> list[Leftover]:
    """The leftovers in one folder, those below it left out."""
    now = time.time()
    survey = await storage.survey(folder, recursive=False)
    described = [await storage.view.described(layout) for layout in survey.layouts.values()]
    return [left for layout in described for left in _leftovers(storage, layout, now)]


async def remove_leftovers(
    storage: ChunkerStorage, leftovers: Iterable[Leftover], *, minimum_age: float = DEFAULT_MINIMUM_AGE
) -> list[Leftover]:
    """Removes those that are at least `minimum_age` seconds old; gives them back.

    What is `unfinished` stays for the default age at least. An object that changed meanwhile stays.
    """
    old = [leftover for leftover in leftovers if _may_go(leftover, minimum_age)]

    async def one(leftover: Leftover) -> None:
        await remove(storage.base, leftover.path, leftover.token)
        storage.view.forget(leftover.owner)

    await run_all(one, old, limit=storage.base.info.concurrency)
    return old


async def sweep(storage: ChunkerStorage, folder: RelPath) -> bool:
    """Removes old leftovers from a folder in which nothing else is; whether it is empty now.

    What interrupted uploads of ours left there goes too: nobody takes them up again.
    """
    survey = await _bare(storage, folder)
    interrupted = storage.attempts.interrupted_in(folder)
    if survey is not None and interrupted:
        await _discard(storage, interrupted)
        survey = await _bare(storage, folder)
    if survey is None:
        return False
    now = time.time()
    found = [left for layout in survey.layouts.values() for left in _leftovers(storage, layout, now)]
    pieces = sum(len(layout.left_over) for layout in survey.layouts.values())
    # Orphans have no file and get none: the folder is to go. Temporary ones may be another's upload.
    safe = [left for left in found if left.reason == "orphan" or _may_go(left, DEFAULT_MINIMUM_AGE)]
    if len(safe) < pieces:
        return False
    await remove_leftovers(storage, safe, minimum_age=0)
    return True


async def _bare(storage: ChunkerStorage, folder: RelPath) -> Survey | None:
    """What is in a folder without files and problems; None for one that has some."""
    survey = await storage.survey(folder, recursive=False)
    is_bare = not survey.problems and not any(layout.exists for layout in survey.layouts.values())
    return survey if is_bare else None


async def _discard(storage: ChunkerStorage, paths: Iterable[RelPath]) -> None:
    for path in paths:
        async with storage.locks.hold(path):
            await storage.attempts.discard(await storage.attempts.ready(path))


def _may_go(leftover: Leftover, minimum_age: float) -> bool:
    least = max(minimum_age, DEFAULT_MINIMUM_AGE) if leftover.reason == "unfinished" else minimum_age
    return leftover.age is not None and leftover.age >= least


def _leftovers(storage: ChunkerStorage, layout: Layout, now: float) -> list[Leftover]:
    """The leftovers beside one file. Control objects of others are none of our business."""
    ours = [p for p in layout.left_over if p.name.control in (None, COMMIT_WORD, MOVING_WORD)]
    return [_leftover(storage, layout, piece, now) for piece in ours]


def _leftover(storage: ChunkerStorage, layout: Layout, piece: Piece, now: float) -> Leftover:
    transaction, mtime = piece.name.transaction, piece.entry.mtime_ns
    age = transaction_age(transaction, now) if transaction else None if mtime is None else now - mtime / 1e9
    reason: Reason = "temporary" if transaction else "orphan"
    uploads = {its for at, its in storage.attempts.transactions if at == layout.path}
    # A commit gives final names before the metadata comes.
    if transaction in uploads or (uploads and not transaction):
        reason = "unfinished"
    return Leftover(piece.path, layout.path, piece.entry.size, reason, age, piece.entry.token)
