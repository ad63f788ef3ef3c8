"""Renames and copies on the server's side. A rename is a copy, then a removal, with a note in between.

The note is a file in the storage's state folder. What an interrupted rename left is settled by
`recover`: either the source goes, when the target is its copy, or everything stays as it is.
"""

from __future__ import annotations

import hashlib
import uuid
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

import msgspec
import trio
from msgspec import structs

from mountsync.errors import AlreadyExists, Corrupt, NotFound, PathError, Stale
from mountsync.model.entry import Entry
from mountsync.storage.api import ABSENT, Expect
from mountsync.storage.kept import save
from mountsync.storage.modal.attempts import Attempts
from mountsync.storage.modal.book import Book
from mountsync.storage.modal.refusals import TryAgain
from mountsync.storage.modal.tokens import fingerprint, mtime_in
from mountsync.storage.modal.transport import NativeEntry, NativeKind
from mountsync.storage.modal.volume import require_file

_WORTH_A_NOTE: Final = 1 << 20
"""From this size in bytes a second writing of the note is cheaper than to read both files after a crash."""


class Note(msgspec.Struct, frozen=True):
    """A rename that began; size and mtime are those that Modal showed of the source."""

    volume: str
    """The volume's id."""
    name: str
    """The volume's name."""
    source: str
    target: str
    size: int
    mtime: int
    copied_at: int | None = None
    """Modal's mtime of the copy, once it was seen; kept of large files only."""


class Journal:
    """Notes on disk, one file each, durable when `write` returns. `folder` is made when it is needed."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, Note] | None = None
        """All notes; None until the folder was read."""

    async def write(self, note: Note) -> Path:
        """Keeps the note; returns its file."""
        path = self._folder / f"{uuid.uuid4().hex}.json"
        await self.replace(path, note)
        return path

    async def replace(self, path: Path, note: Note) -> None:
        """Keeps the note in this file from now on."""
        known = await self._load()
        await trio.to_thread.run_sync(save, path, note)
        known[path] = note

    async def drop(self, path: Path) -> None:
        """Forgets a note."""
        await trio.to_thread.run_sync(lambda: path.unlink(missing_ok=True))
        (await self._load()).pop(path, None)

    async def notes(self) -> list[tuple[Path, Note]]:
        """All notes, those of renames that are under way among them."""
        return list((await self._load()).items())

    async def _load(self) -> dict[Path, Note]:
        if self._known is None:
            found = await trio.to_thread.run_sync(self._read)
            self._known = found if self._known is None else self._known
        return self._known

    def _read(self) -> dict[Path, Note]:
        """What is in the folder. A note that is damaged is of a rename that had not begun, and goes."""
        found = {}
        for path in sorted(self._folder.glob("*.json")) if self._folder.is_dir() else ():
            try:
                found[path] = msgspec.json.decode(path.read_bytes(), type=Note)
            except FileNotFoundError:
                continue  # another process ended its rename
            except msgspec.MsgspecError:
                path.unlink(missing_ok=True)
        return found


async def copy(book: Book, source: str, target: str, expect: Expect, replace: Expect) -> Entry:
    """Copies a file; the copy has the mtime and mode of its source."""
    async with book.alone_with(target):
        native, before = await _both(book, source, target, expect, replace)
        with trio.CancelScope(shield=True):
            began = trio.current_time()
            await _send_copy(book, native, target, before, replace)
            entry = await _copied(book, native, target, before, began)
    return entry


async def move(
    book: Book, journal: Journal, source: str, target: str, expect: Expect, replace: Expect
) -> Entry:
    """Renames a file. When this raises, the source is still there."""
    async with book.alone_with(source, target):
        if await _settled_before(book, journal, source, target):
            await book.open(target)
            return book.entry(await book.volume.file(target))
        native, before = await _both(book, source, target, expect, replace)
        return await _move(book, journal, native, target, before, replace)


async def _move(
    book: Book,
    journal: Journal,
    native: NativeEntry,
    target: str,
    before: NativeEntry | None,
    replace: Expect,
) -> Entry:
    if native.path == target:
        return book.entry(native)
    note = Note(book.volume.id, book.volume.name, native.path, target, native.size, native.mtime)
    with trio.CancelScope(shield=True):
        path = await journal.write(note)
        began = trio.current_time()
        try:
            await _send_copy(book, native, target, before, replace)
        except PathError:
            await journal.drop(path)  # refused: nothing was copied
            raise
        entry = await _copied(book, native, target, before, began)
        if native.size > _WORTH_A_NOTE:
            # What tells the copy from a later version: then nothing has to be read to settle it.
            await journal.replace(path, structs.replace(note, copied_at=mtime_in(entry.token)))
        await _remove_source(book, native, target, entry, fresh=before is None)
        await journal.drop(path)
    return entry


async def _settled_before(book: Book, journal: Journal, source: str, target: str) -> bool:
    """Whether an earlier attempt at this very rename had only its last step missing; then it is done now."""
    for path, note in await journal.notes():
        if (note.volume, note.source, note.target) == (book.volume.id, source, target):
            present = await book.volume.look(source) is not None
            finished = await recover(book, note)
            await journal.drop(path)
            if finished and present:
                return True
    return False


async def _both(
    book: Book, source: str, target: str, expect: Expect, replace: Expect
) -> tuple[NativeEntry, NativeEntry | None]:
    """What is at both ends, as it was expected."""
    await book.open(source)
    await book.open(target)
    native = await book.volume.file(source)
    book.insist(expect, native, source)
    return native, await _replaceable(book, target, replace)


async def _replaceable(book: Book, target: str, replace: Expect) -> NativeEntry | None:
    """What is at the target, as it was expected."""
    before = await book.volume.look(target)
    if before is not None and replace is ABSENT:
        raise AlreadyExists("something is there already", path=target)
    if before is not None:
        require_file(before, target)
    book.insist(replace, before, target)
    return before


async def _send_copy(
    book: Book, native: NativeEntry, target: str, before: NativeEntry | None, replace: Expect
) -> None:
    """Copies `native` over `before`, both of which were just seen and are looked at before a further attempt.

    Raises AlreadyExists or Stale when something else is there by then.
    """
    attempts = Attempts(book.volume.transport.limits)
    while True:
        try:
            async with book.volume.speaking_of(native.path):
                await book.volume.transport.copy(book.volume.id, native.path, target, within=attempts.left)
        except TryAgain as failed:
            await attempts.pause(failed)
        else:
            return
        _insist_same(native, await book.volume.file(native.path))
        if attempts.doubtful and await _is_copied(book, native, target, before):
            return
        if await _replaceable(book, target, replace) != before:
            raise Stale("it changed while another was to take its place", path=target)


async def _is_copied(book: Book, native: NativeEntry, target: str, before: NativeEntry | None) -> bool:
    """Whether a copy whose answer was lost took effect."""
    found = await book.volume.look(target)
    if found is None or found == before or (found.kind, found.size) != (NativeKind.FILE, native.size):
        return False
    return await _equal(book, native.path, target)


def _insist_same(native: NativeEntry, now: NativeEntry) -> None:
    if (now.size, now.mtime) != (native.size, native.mtime):
        raise Stale("the file changed while it was renamed or copied", path=native.path)


async def _copied(
    book: Book, native: NativeEntry, target: str, before: NativeEntry | None, began: float
) -> Entry:
    """The entry of the copy, which takes over what is remembered of its source.

    Raises Stale when somebody else has written there since: files are read only where its time is later
    than that of the copy can be.
    """
    answered = trio.current_time()
    shown = book.entry(native)
    made = await _appeared(book, target, native.size)
    if not book.volume.clock.can_be_of(made.mtime, answered) and not await _equal(book, native.path, target):
        raise Stale("somebody else wrote it just after us", path=target)
    if made != before:
        book.volume.clock.learn(made.mtime, began)
    mark = fingerprint(native.path, shown.token or "")
    return book.note(made, mark, before=before, mtime_ns=shown.mtime_ns, mode=shown.mode)


async def _appeared(book: Book, target: str, size: int) -> NativeEntry:
    """The copy, once it can be seen."""
    for delay in (0.1, 0.3, 1.0, 2.0, None):
        found = await book.volume.look(target)
        if found is not None and found.kind is NativeKind.FILE and found.size == size:
            return found
        if delay is not None:
            await trio.sleep(delay)
    raise Stale("the copy is not what was copied", path=target)


async def _remove_source(book: Book, native: NativeEntry, target: str, entry: Entry, *, fresh: bool) -> None:
    """Removes the source when it is still what was copied; else the copy goes, where nothing was before."""
    try:
        await book.volume.remove(native.path, partial(_insist_same, native))
    except NotFound:
        return
    except Stale:
        if fresh:
            await _take_back(book, target, entry)
        raise
    book.forget(native.path)


async def _take_back(book: Book, target: str, entry: Entry) -> None:
    """Removes a copy that is not wanted any more. Raises Stale when something else is there."""
    with suppress(NotFound):
        await book.volume.remove(target, lambda copy: book.insist(entry.token, copy, target))
    book.forget(target)


async def recover(book: Book, note: Note) -> bool:
    """Settles an interrupted rename. Returns whether it is complete: the target there, the source not."""
    source = await book.volume.look(note.source)
    target = await book.volume.look(note.target)
    if target is None or target.kind is not NativeKind.FILE:
        return False
    if source is None:
        return True
    if (source.size, source.mtime) != (note.size, note.mtime) or target.size != note.size:
        return False
    if note.copied_at != target.mtime and not await _equal(book, note.source, note.target):
        return False
    await book.open(note.source)
    await book.open(note.target)
    _inherit(book, source, target)
    try:
        await book.volume.remove(note.source, partial(_insist_same, source))
    except Stale:
        return False
    book.forget(note.source)
    return True


def _inherit(book: Book, source: NativeEntry, target: NativeEntry) -> None:
    shown = book.entry(source)
    mark = fingerprint(source.path, shown.token or "")
    book.note(target, mark, before=None, mtime_ns=shown.mtime_ns, mode=shown.mode)


async def _equal(book: Book, one: str, other: str) -> bool:
    """Whether two files of one size hold the same bytes. Reads both: this is worth certainty."""
    try:
        return await _digest(book, one) == await _digest(book, other)
    except (NotFound, Stale, Corrupt):
        return False


async def _digest(book: Book, path: str) -> bytes:
    hashed = hashlib.sha256()
    async with book.volume.reading(path) as reader:
        async for piece in reader:
            await trio.to_thread.run_sync(hashed.update, piece)
    return hashed.digest()
