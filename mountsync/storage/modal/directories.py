"""Directories, for which Modal has no call: one comes into being with a file below it.

Where a directory stays when its last file goes, that is all. Where it goes too, an empty file called
`.mountsync-keep` holds it open; such a file is never listed.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Final

import trio

from mountsync.errors import AlreadyExists, DirectoryNotEmpty, NotADirectory, NotFound
from mountsync.storage.modal.book import Book
from mountsync.storage.modal.names import KEEPER
from mountsync.storage.modal.transport import NativeEntry, NativeKind
from mountsync.storage.modal.upload import Plainly, Uploader
from mountsync.storage.sources import BytesSource

_EMPTY: Final = BytesSource(b"")


async def make_directory(book: Book, uploader: Uploader, path: str) -> None:
    """Makes a directory and those above it; nothing when it is there. NotADirectory when a file is."""
    native = await book.volume.look(path)
    if native is not None:
        if native.kind is not NativeKind.DIRECTORY:
            raise NotADirectory("a file is there", path=path)
        return
    await _hold(book, uploader, path)
    if book.keeps_directories is False:
        return
    with suppress(NotFound):  # somebody else who makes it too was quicker
        keeper = NativeEntry(f"{path}/{KEEPER}", NativeKind.FILE, 0, 0)
        await book.volume.remove(keeper.path, _require_keeper, seen=keeper)
    if book.keeps_directories is None:
        book.keeps_directories = await book.volume.look(path) is not None
        if not book.keeps_directories:
            await _hold(book, uploader, path)


async def _hold(book: Book, uploader: Uploader, path: str) -> None:
    keeper = f"{path}/{KEEPER}"
    try:
        await uploader.put(book.volume, keeper, _EMPTY, Plainly(create_only=True))
    except AlreadyExists:
        return


async def remove_directory(book: Book, uploader: Uploader, path: str) -> None:
    """Removes a directory without visible entries. Raises NotFound, NotADirectory, DirectoryNotEmpty."""
    native = await book.volume.look(path)
    if native is None:
        raise NotFound("nothing is there", path=path)
    _require_directory(native)
    children = await book.volume.list(path, recursive=False)
    if any(child.path != f"{path}/{KEEPER}" for child in children):
        raise DirectoryNotEmpty("the directory is not empty", path=path)
    with trio.CancelScope(shield=True):
        for keeper in children:
            with suppress(NotFound):
                await book.volume.remove(keeper.path, _require_keeper, seen=keeper)
        try:
            await book.volume.remove(path, _require_directory, seen=native)
        except NotFound:
            book.keeps_directories = False
        book.forget(path)
        await keep_parent(book, uploader, path)


def _require_keeper(native: NativeEntry) -> None:
    if native.kind is not NativeKind.FILE:
        raise DirectoryNotEmpty("the directory is not empty", path=native.path)


def _require_directory(native: NativeEntry) -> None:
    if native.kind is not NativeKind.DIRECTORY:
        raise NotADirectory("is not a directory", path=native.path)


async def keep_parent(book: Book, uploader: Uploader, path: str) -> None:
    """After something was removed: its directory must still be there."""
    above = path.rpartition("/")[0]
    if not above or book.keeps_directories:
        return
    if await book.volume.look(above) is None:
        book.keeps_directories = False
        await _hold(book, uploader, above)
