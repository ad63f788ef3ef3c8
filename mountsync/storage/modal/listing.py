"""Listings: what Modal tells, as a storage gives it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeAlias

import trio

from mountsync.errors import NameRefused, NotADirectory
from mountsync.model.entry import Problem
from mountsync.paths import OURS, RelPath, rel_path
from mountsync.storage.api import Listed
from mountsync.storage.modal.book import Book
from mountsync.storage.modal.refusals import TooManyFiles
from mountsync.storage.modal.transport import NativeEntry, NativeKind

_BATCH: Final = 500
_UNREADABLE: Final = {
    NativeKind.SYMLINK: "a link, whose target Modal does not tell; replace it by a file in a container",
    NativeKind.OTHER: "neither a file nor a folder (a FIFO or a socket); remove it in a container",
}


class Listing:
    """Gives what `load` finds in batches; it is asked when the first batch is wanted."""

    def __init__(self, load: Callable[[], Coroutine[Any, Any, Iterator[Listed]]]) -> None:
        self._load = load
        self._left: Iterator[Listed] | None = None

    def __aiter__(self) -> AsyncIterator[Sequence[Listed]]:
        return self

    async def __anext__(self) -> Sequence[Listed]:
        if self._left is None:
            self._left = await self._load()
        await trio.lowlevel.checkpoint()
        batch = list(islice(self._left, _BATCH))
        if not batch:
            raise StopAsyncIteration
        return batch


async def below(book: Book, folder: str, *, recursive: bool) -> Iterator[Listed]:
    """What is below `folder` of the volume, with paths relative to it. Raises NotFound, NotADirectory.

    Where Modal refuses to list so much: recursive, a Problem for each such directory, else TooManyFiles.
    """
    await book.open_folder(folder, recursive=recursive)
    if recursive:
        natives, refused = await everything(book, folder)
    else:
        natives, refused = await _entries(book, folder, recursive=False), {}
    problems: list[Listed] = [(_relative(path, folder), _too_many(error)) for path, error in refused.items()]
    natives = await _visible(book, folder, natives, recursive=recursive)
    return _chain(_shown(book, folder, natives), problems)


_Found: TypeAlias = tuple[Sequence[NativeEntry], dict[str, TooManyFiles]]


async def everything(book: Book, folder: str) -> _Found:
    """All that is below a directory, and below it those that Modal refuses to list. As `below` otherwise."""
    try:
        return await _entries(book, folder, recursive=True), {}
    except TooManyFiles:
        return await _walk(book, folder)


async def _directory(book: Book, folder: str) -> _Found:
    try:
        return await _entries(book, folder, recursive=False), {}
    except TooManyFiles as error:
        return (), {folder: error}


async def _entries(book: Book, folder: str, *, recursive: bool) -> Sequence[NativeEntry]:
    natives = await book.volume.list(folder, recursive=recursive)
    if len(natives) == 1 and natives[0].path == folder:
        raise NotADirectory("is not a directory", path=folder)
    return natives


async def _walk(book: Book, folder: str) -> _Found:
    """Directory by directory, where one listing of all is refused."""
    natives: list[NativeEntry] = []
    refused: dict[str, TooManyFiles] = {}
    left = [folder]
    while left:
        here = left.pop()
        found, too_large = await _directory(book, here)
        refused |= too_large
        natives.extend(found)
        folders = (native.path for native in found if native.kind is NativeKind.DIRECTORY)
        left.extend(path for path in folders if _is_below(path, here))
    return natives, refused


def _too_many(error: TooManyFiles) -> Problem:
    return Problem(f"{error.reason}; {error.hint}" if error.hint else error.reason, transient=False)


async def _visible(
    book: Book, folder: str, natives: Sequence[NativeEntry], *, recursive: bool
) -> list[NativeEntry]:
    """Without what is ours; the folder `.mountsync` shows only when something else is in it."""
    shown = [native for native in natives if not book.hides(native.path)]
    if folder or book.sidecar is None or not any(native.path == OURS for native in shown):
        return shown
    inside: Sequence[NativeEntry] = shown
    if not recursive:
        inside = await book.volume.list(OURS, recursive=False)
    if any(native.path.startswith(f"{OURS}/") and not book.hides(native.path) for native in inside):
        return shown
    return [native for native in shown if native.path != OURS]


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/") if folder else path != ""


def _relative(path: str, folder: str) -> RelPath:
    """Raises NameRefused for a path that is none, or that is not in the folder that was asked for."""
    if not _is_below(path, folder):
        raise NameRefused("it is not in the folder that was listed", path=path)
    return rel_path(path[len(folder) :].lstrip("/") if folder else path)


def _sayable(path: str, folder: str) -> RelPath:
    """Where a problem of a name is told that is none: beside it, so that it covers nothing else."""
    parts = (path[len(folder) :].lstrip("/") if folder else path).split("/")
    bad = [part in ("", ".", "..") or "\0" in part for part in parts]
    return RelPath("/".join(repr(part) if wrong else part for part, wrong in zip(parts, bad, strict=True)))


def _chain(entries: Iterator[Listed], problems: list[Listed]) -> Iterator[Listed]:
    yield from entries
    yield from problems


def _shown(book: Book, folder: str, natives: list[NativeEntry]) -> Iterator[Listed]:
    for native in natives:
        try:
            path = _relative(native.path, folder)
        except NameRefused as error:
            yield _sayable(native.path, folder), Problem(f"the name cannot be held: {error}", transient=False)
            continue
        if native.kind in _UNREADABLE:
            yield path, Problem(_UNREADABLE[native.kind], transient=False, error="Unsupported")
        else:
            yield path, book.entry(native)
