"""Safe access below one folder of the local disk, by descriptors and never through a link.

Each call opens the root again, so that a storage that is open does not keep a disk from being
unmounted, and walks down part by part. A part that is a symbolic link ends the walk with
NotADirectoryError: nothing outside the root is ever touched.

The root is known by its inode number. When another folder answers under its path (the disk was
unmounted and the bare mount point shows, or somebody replaced the folder) that is Unreachable, and
never an empty listing. The device number is not compared: it may change when a disk comes back.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Final

from mountsync.errors import (
    AlreadyExists,
    NotADirectory,
    NotFound,
    Stale,
    Unreachable,
    Unsupported,
    from_os_error,
)
from mountsync.model.entry import Entry, Kind, Token, sayable
from mountsync.paths import RelPath, to_bytes
from mountsync.storage.api import ABSENT, Expect
from mountsync.storage.local_disk import disk_facts

_WALK: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG, errno.ELOOP})
"""What a look-up meets when no object has that path; ENOTDIR: a parent is a file or a link."""


class LocalRoot:
    """The folder at which a local storage begins."""

    def __init__(self, folder: bytes) -> None:
        """Raises NotFound (make it first) or NotADirectory; links in `folder` itself are followed."""
        self.folder = os.path.realpath(folder)
        try:
            found = os.stat(self.folder)
        except FileNotFoundError as error:
            shown = os.fsdecode(folder)
            raise NotFound(
                "the folder does not exist", path=shown, hint=f"make it first: mkdir -p {shown!r}"
            ) from error
        except OSError as error:
            raise from_os_error(error, os.fsdecode(folder)) from error
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectory("it is not a folder", path=os.fsdecode(folder))
        self._inode = found.st_ino
        self.device = found.st_dev
        """The number of the file system on which the root lay when it was last opened."""
        self.facts = disk_facts(self.folder)

    def open(self, flags: int = os.O_PATH) -> int:
        """A descriptor of the root. Raises Unreachable when it is gone or another one."""
        try:
            fd = os.open(self.folder, flags | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno in NOT_THERE:
                raise self._gone("it does not exist any more") from error
            raise
        found = os.fstat(fd)
        if found.st_ino != self._inode:
            os.close(fd)
            raise self._gone("it is not the folder that was opened")
        self.device = found.st_dev
        return fd

    def _gone(self, reason: str) -> Unreachable:
        shown = os.fsdecode(self.folder)
        return Unreachable(
            f"the root {shown!r}: {reason}", hint="mount its disk again, or restart to accept it"
        )

    def open_directory(self, path: RelPath, *, make: bool = False, flags: int = os.O_PATH) -> int:
        """A descriptor of the directory `path`; missing ones are made when `make` says so.

        Raises OSError: FileNotFoundError, NotADirectoryError (a part is a file or link), …
        """
        fd = self.open() if path else self.open(flags)
        parts = to_bytes(path).split(b"/") if path else []
        last = len(parts) - 1
        for depth, part in enumerate(parts):
            try:
                below = _descend(fd, part, _WALK if depth < last else _WALK & ~os.O_PATH | flags, make=make)
            finally:
                os.close(fd)
            fd = below
        return fd

    @contextmanager
    def parent(self, path: RelPath, *, make: bool = False) -> Iterator[tuple[int, bytes]]:
        """The open directory that holds `path`, and the name in it; `.` for the root itself."""
        above, _, name = path.rpartition("/")
        fd = self.open_directory(RelPath(above), make=make)
        try:
            yield fd, to_bytes(name) or b"."
        finally:
            os.close(fd)


def _descend(fd: int, part: bytes, flags: int, *, make: bool) -> int:
    try:
        return os.open(part, flags, dir_fd=fd)
    except FileNotFoundError:
        if not make:
            raise
    with suppress(FileExistsError):  # somebody else made it: as good
        os.mkdir(part, dir_fd=fd)
    return os.open(part, flags, dir_fd=fd)


@contextmanager
def naming(path: RelPath, *, lookup: bool = False) -> Iterator[None]:
    """Turns an OSError into the error that stands for it; with `lookup`, "no such path" is NotFound."""
    try:
        yield
    except OSError as error:
        if lookup and error.errno in NOT_THERE:
            raise NotFound("nothing is there", path=path) from error
        raise from_os_error(error, path) from error


def token_of(found: os.stat_result) -> Token:
    """size:mtime_ns:inode.

    The change time is not part of it: it moves with chmod, rename and each new hard link, and a
    token that changes without the content costs a read of the whole file. The price: an edit in place
    that keeps the size and puts the old time back is not seen. A replacement by rename always is.
    """
    return Token(f"{found.st_size}:{found.st_mtime_ns}:{found.st_ino}")


def size_in(token: Token) -> int:
    """The size in bytes of the version that a token of ours names; 0 for a text that is none of ours."""
    text = token.partition(":")[0]
    return int(text) if text.isdecimal() else 0


def entry_of(found: os.stat_result, target: bytes | None = None) -> Entry | None:
    """The entry of a file, directory, or link with its text; None for anything else.

    A directory has no mtime here: it moves with every child and would say nothing to a sync.
    """
    mode = found.st_mode
    if stat.S_ISREG(mode):
        token = token_of(found)
        return Entry(Kind.FILE, found.st_size, sayable(found.st_mtime_ns), mode & 0o7777, token=token)
    if stat.S_ISDIR(mode):
        return Entry(Kind.DIRECTORY, mode=mode & 0o7777)
    if stat.S_ISLNK(mode) and target is not None:
        text = target.decode("utf-8", "surrogateescape")
        return Entry(Kind.SYMLINK, 0, sayable(found.st_mtime_ns), token=token_of(found), target=text)
    return None


def special(path: RelPath) -> Unsupported:
    """The error for devices, FIFOs and sockets."""
    return Unsupported("it is not a regular file, a folder or a link", path=path)


def look(fd: int, name: bytes) -> os.stat_result | None:
    """What has this name in the open directory; None when nothing has. Raises OSError."""
    try:
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError as error:
        if error.errno in NOT_THERE:
            return None
        raise


def entry_at(fd: int, name: bytes, path: RelPath) -> Entry | None:
    """The entry of this name in the open directory, None when nothing has it. Raises Unsupported."""
    found = look(fd, name)
    if found is None:
        return None
    entry = entry_of(found, os.readlink(name, dir_fd=fd) if stat.S_ISLNK(found.st_mode) else None)
    if entry is None:
        raise special(path)
    return entry


def existing(fd: int, name: bytes, path: RelPath, expect: Expect) -> os.stat_result:
    """What is at `path`. Raises NotFound, Stale (not what was expected) or Unsupported (special)."""
    found = look(fd, name)
    if found is None:
        raise NotFound("nothing is there", path=path)
    refuse_stale(found, expect, path)
    if not _ordinary(found.st_mode):
        raise special(path)
    return found


def _ordinary(mode: int) -> bool:
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)


def refuse_stale(
    found: os.stat_result | None,
    expect: Expect,
    path: RelPath,
    occupied: type[Stale] | type[AlreadyExists] = Stale,
) -> None:
    """Raises Stale unless `found` is what was expected; `occupied` when nothing was expected."""
    if expect is None:
        return
    if expect is ABSENT:
        if found is not None:
            raise occupied("something is there where nothing was expected", path=path)
        return
    token = token_of(found) if found is not None and not stat.S_ISDIR(found.st_mode) else None
    if token != expect:
        raise Stale("it is not the version that was expected", path=path)
