"""Lists folders of the local disk, in batches. Synchronous: for a thread.

Only names of waiting directories are held, never the tree. What vanishes while we look is left
out. Devices, FIFOs and sockets give a Problem that does not pass by itself, for their own path only:
they are not ours to carry, and a sync must not take the name for free or deleted.
"""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Generator, Iterator
from typing import Final

from mountsync.errors import MountsyncError, Unreachable, from_os_error
from mountsync.model.entry import Entry, Kind, Problem, Token, sayable
from mountsync.paths import RelPath, from_bytes
from mountsync.storage.api import Listed
from mountsync.storage.local_root import LocalRoot, entry_of, special
from mountsync.storage.local_temporary import MARK, is_temporary

BATCH: Final = 1000
_UTF8: Final = sys.getfilesystemencoding().lower() == "utf-8"


def walk(root: LocalRoot, start: RelPath, *, recursive: bool) -> Generator[list[Listed], None, None]:
    """Batches of at most `BATCH` of what is below `start`.

    Raises NotFound or NotADirectory for `start`, Unreachable when the root is gone.
    """
    waiting = [start]
    batch: list[Listed] = []
    while waiting:
        folder = waiting.pop()
        for listed in _folder(root, folder, start):
            batch.append(listed)
            if recursive and listed[1].__class__ is Entry and listed[1].kind is Kind.DIRECTORY:
                waiting.append(listed[0])
            if len(batch) >= BATCH:
                yield batch
                batch = []
    if batch:
        yield batch


def _folder(root: LocalRoot, folder: RelPath, start: RelPath) -> Iterator[Listed]:
    try:
        fd = root.open_directory(folder, flags=os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError) as error:
        if folder == start:
            raise from_os_error(error, folder) from error
        return  # it went away since its name was read
    except OSError as error:
        yield folder, problem(from_os_error(error, folder))
        return
    try:
        yield from _children(fd, folder)
    except OSError as error:
        yield folder, problem(from_os_error(error, folder))
    finally:
        os.close(fd)


def _children(fd: int, folder: RelPath) -> Iterator[Listed]:
    prefix = f"{folder}/" if folder else ""
    with os.scandir(fd) as items:
        for item in items:
            name = item.name if _UTF8 else from_bytes(os.fsencode(item.name))
            if MARK in name and is_temporary(name):
                continue
            path = RelPath(prefix + name)
            try:
                yield path, _look(item, fd, path)
            except FileNotFoundError:
                continue  # it went away since its name was read
            except OSError as error:
                yield path, problem(from_os_error(error, path))


def _look(item: os.DirEntry[str], fd: int, path: RelPath) -> Entry | Problem:
    found = item.stat(follow_symlinks=False)
    mode = found.st_mode
    if stat.S_ISREG(mode):  # spelt out: most entries are files, and a tree may hold a million
        size, mtime_ns = found.st_size, found.st_mtime_ns
        token = Token(f"{size}:{mtime_ns}:{found.st_ino}")
        return Entry(Kind.FILE, size, sayable(mtime_ns), mode & 0o7777, None, token)
    target = os.readlink(os.fsencode(item.name), dir_fd=fd) if stat.S_ISLNK(mode) else None
    return entry_of(found, target) or problem(special(path))


def problem(error: MountsyncError) -> Problem:
    """The Problem that tells of `error`. A root that is gone is not one: that is raised on."""
    if isinstance(error, Unreachable):
        raise error
    return Problem(error.reason, transient=error.transient, error=type(error).__name__)
