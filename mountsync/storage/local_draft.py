"""An unfinished version of one file, and the step that makes it stand. Synchronous: for threads."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from mountsync.errors import AlreadyExists, IsADirectory, NameRefused, NotADirectory, Stale, from_os_error
from mountsync.model.entry import Entry
from mountsync.paths import RelPath, name_of, parent_of, to_bytes
from mountsync.storage import syscalls
from mountsync.storage.api import ABSENT, Expect
from mountsync.storage.local_root import LocalRoot, entry_at, entry_of, look, refuse_stale, special
from mountsync.storage.local_temporary import Temporaries, is_temporary

_FICLONE: Final = 0x40049409
_NO_KERNEL_COPY: Final = frozenset(
    {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.ETXTBSY, errno.ENOTTY}
)
BEHIND: Final = 8 << 20
"""Bytes that gather before the disk is told of them."""
_NO_NOREPLACE: Final = frozenset({errno.ENOSYS, errno.EINVAL})
_NO_LINKS: Final = frozenset({errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class Draft:
    """Where a new version of `path` is made, under a temporary name in the same folder.

    Call `commit` or `discard`, then it is done with. One thread at a time may use it.
    """

    def __init__(
        self,
        root: LocalRoot,
        temporaries: Temporaries,
        path: RelPath,
        *,
        replace: Expect,
        occupied: Occupied,
        look_first: bool = True,
    ) -> None:
        """Raises what a write raises that cannot succeed: Stale (or `occupied`), IsADirectory, …

        Without `look_first`, and with nothing expected, `commit` raises that: a look costs as much as
        a small body.
        """
        self.path = path
        self._replace = replace
        self._occupied = occupied
        self._name = to_bytes(name_of(path)) or b"."
        self._temporary: bytes | None = None
        self._fd = -1
        self._grown = 0
        """As far as all bytes are there."""
        self._begun = 0
        """As far as the disk was told of them."""
        self._folder_fd = open_folder(root, path, make=replace is None or replace is ABSENT)
        try:
            self._old = self._replaceable() if look_first or replace is not ABSENT else None
            self._root = root
            self._temporaries = temporaries
        except BaseException:
            os.close(self._folder_fd)
            raise

    def _replaceable(self) -> os.stat_result | None:
        found = look(self._folder_fd, self._name)
        is_directory = found is not None and stat.S_ISDIR(found.st_mode)
        if not is_directory or self._occupied is AlreadyExists:
            refuse_stale(found, self._replace, self.path, self._occupied)
        if is_directory:
            raise IsADirectory("a directory is there", path=self.path)
        if found is not None and not stat.S_ISREG(found.st_mode) and not stat.S_ISLNK(found.st_mode):
            raise special(self.path)
        return found

    def _next_name(self) -> bytes:
        self._temporary = self._temporaries.name(parent_of(self.path))
        return self._temporary

    def begin(self, mode: int | None = None) -> None:
        """Makes the empty file. `mode` None: that of the file it will replace, else the default."""
        if mode is None and self._old is not None and stat.S_ISREG(self._old.st_mode):
            mode = self._old.st_mode & 0o7777
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        first = 0o666 if mode is None else mode & 0o777 | 0o200
        self._fd = os.open(self._next_name(), flags, first, dir_fd=self._folder_fd)
        self._adopt(mode)

    def _adopt(self, mode: int | None) -> None:
        """Takes over owner and mode."""
        old = self._old
        if old is not None and (old.st_uid, old.st_gid) != (os.geteuid(), os.getegid()):
            with suppress(PermissionError):  # only root may give a file away; then it becomes ours
                os.fchown(self._fd, old.st_uid, old.st_gid)
        if mode is not None:
            os.fchmod(self._fd, mode)

    def append(self, data: bytes) -> None:
        """Adds bytes at the end."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]
        self.grew(len(data))

    def put_at(self, data: memoryview, offset: int) -> None:
        """Puts bytes where they belong, in any order; tell `grew` of those that came. Raises NoSpace, …"""
        try:
            while data:
                count = os.pwrite(self._fd, data, offset)
                data, offset = data[count:], offset + count
        except OSError as error:
            raise from_os_error(error, self.path) from error

    def get_at(self, buffer: memoryview, offset: int) -> None:
        """Fills `buffer` with bytes that were put. Raises Stale when somebody cut them off."""
        try:
            while buffer:
                count = os.preadv(self._fd, [buffer], offset)
                if not count:
                    raise Stale("the unfinished file was changed by somebody else", path=self.path)
                buffer, offset = buffer[count:], offset + count
        except OSError as error:
            raise from_os_error(error, self.path) from error

    def clone(self, source_fd: int) -> bool:
        """Shares the whole content of a file, without copying; False where that cannot be done."""
        try:
            fcntl.ioctl(self._fd, _FICLONE, source_fd)
        except OSError as error:
            if error.errno in _NO_KERNEL_COPY:
                return False
            raise
        return True

    def append_from(self, source_fd: int, offset: int, length: int) -> int:
        """Adds at most `length` bytes of a file from `offset`, inside the kernel; returns how many."""
        try:
            count = os.copy_file_range(source_fd, self._fd, length, offset)
        except OSError as error:
            if error.errno not in _NO_KERNEL_COPY:
                raise
            count = os.sendfile(self._fd, source_fd, offset, length)
        self.grew(count)
        return count

    def grew(self, count: int) -> None:
        """Has the disk begin with what is there, so that `commit` has not to wait for all of it."""
        self._grown += count
        if self._grown - self._begun >= BEHIND:
            syscalls.start_writeback(self._fd, self._begun, self._grown - self._begun)
            self._begun = self._grown

    def symlink(self, target: bytes) -> None:
        """Makes a symbolic link instead of a file."""
        os.symlink(target, self._next_name(), dir_fd=self._folder_fd)

    def commit(self, *, size: int, mtime_ns: int | None, sync: bool) -> Entry:
        """Puts the file in its place and returns its entry; `sync`: its data are on the disk first.

        A file that replaces another is synced too, so that a power cut leaves the old or the new one,
        unless the file system sees to that by itself. On another file system than the root's (a mount
        point below it, which `barrier` does not reach) file and folder are synced. Raises Stale when
        the size is not `size` or the expectation fails.
        """
        if mtime_ns is not None:
            os.utime(self._fd, ns=(mtime_ns, mtime_ns))
        found = os.fstat(self._fd)
        if found.st_size != size:
            raise Stale("the source changed its size while it was uploaded", path=self.path)
        foreign = found.st_dev != self._root.device
        if sync or foreign or (self._old is not None and not self._root.facts.orders_replacing):
            os.fsync(self._fd)
        # The entry tells of what was written; what stands there a moment later may be somebody else's.
        entry = entry_of(found)
        assert entry is not None
        self._stand(sync_folder=foreign)
        return entry

    def commit_symlink(self) -> Entry:
        """Puts the link in its place and returns its entry."""
        assert self._temporary is not None
        entry = entry_at(self._folder_fd, self._temporary, self.path)
        assert entry is not None
        self._stand(sync_folder=False)
        return entry

    def _stand(self, *, sync_folder: bool) -> None:
        assert self._temporary is not None
        if self._replace is ABSENT:
            self._rename_absent(self._temporary)
        else:
            self._replaceable()
            here = self._folder_fd
            os.rename(self._temporary, self._name, src_dir_fd=here, dst_dir_fd=here)
        self._temporary = None
        if sync_folder:
            sync_directory(self._folder_fd)
        self._close()

    def _rename_absent(self, temporary: bytes) -> None:
        """The step tells by itself whether something is there; only then is looked what it is."""
        try:
            rename_absent(self._folder_fd, temporary, self._folder_fd, self._name)
        except FileExistsError as error:
            self._replaceable()
            # It went away since.
            raise self._occupied("something is there where nothing was expected", path=self.path) from error

    def discard(self) -> None:
        """Removes what was made. Safe after `commit` and to call twice."""
        if self._temporary is not None:
            with suppress(FileNotFoundError):  # somebody swept it away
                os.unlink(self._temporary, dir_fd=self._folder_fd)
            self._temporary = None
        self._close()

    def _close(self) -> None:
        for fd in (self._fd, self._folder_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._folder_fd = -1


Occupied = type[Stale] | type[AlreadyExists]
"""The error that says that something is there where nothing was expected."""


def open_folder(root: LocalRoot, path: RelPath, *, make: bool) -> int:
    """The open folder in which `path` will be made. Raises NameRefused, NotADirectory, Stale."""
    refuse_temporary(path)
    try:
        return root.open_directory(parent_of(path), make=make)
    except FileNotFoundError as error:
        raise Stale("it is not the version that was expected", path=path) from error
    except NotADirectoryError as error:
        raise NotADirectory("one of its parents is not a directory", path=path) from error
    except OSError as error:
        raise from_os_error(error, path) from error


def refuse_temporary(path: RelPath) -> None:
    """Raises NameRefused for a name that no listing would show."""
    if is_temporary(name_of(path)):
        raise NameRefused("mountsync gives such names to unfinished files", path=path)


def rename_absent(source_fd: int, source: bytes, target_fd: int, target: bytes) -> None:
    """Renames where nothing is, in one step; raises FileExistsError.

    File systems without such a step get link and unlink, and those without links a look and a rename.
    """
    try:
        syscalls.rename_noreplace(source_fd, source, target_fd, target)
    except OSError as error:
        if error.errno not in _NO_NOREPLACE:
            raise
        _link_absent(source_fd, source, target_fd, target)


def _link_absent(source_fd: int, source: bytes, target_fd: int, target: bytes) -> None:
    try:
        os.link(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd, follow_symlinks=False)
        os.unlink(source, dir_fd=source_fd)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if look(target_fd, target) is not None:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST)) from error
        os.rename(source, target, src_dir_fd=source_fd, dst_dir_fd=target_fd)


def sync_directory(folder_fd: int) -> None:
    """Makes the names in an open folder (also one that was opened as a path only) durable."""
    fd = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder_fd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


Step = Callable[[Draft], None]


def make_whole(draft: Draft, fill: Step, finish: Callable[[Draft], Entry]) -> Entry:
    """Fills a draft and makes it stand, all in this thread; on any error nothing is left of it."""
    try:
        fill(draft)
        return finish(draft)
    except OSError as error:
        raise from_os_error(error, draft.path) from error
    finally:
        draft.discard()
