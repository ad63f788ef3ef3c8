"""System calls that Python does not offer: renameat2, syncfs, inotify. Raise OSError. Linux only."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_RENAME_NOREPLACE: Final = 1
_SYNC_WRITE: Final = 2
"""SYNC_FILE_RANGE_WRITE of sync_file_range(2): starts, and does not wait."""

_renameat2 = getattr(_LIBC, "renameat2", None)
if _renameat2 is not None:
    _renameat2.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
_sync_file_range = getattr(_LIBC, "sync_file_range", None)
if _sync_file_range is not None:
    _sync_file_range.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
_LIBC.syncfs.argtypes = (ctypes.c_int,)
_LIBC.inotify_init1.argtypes = (ctypes.c_int,)
_LIBC.inotify_add_watch.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_uint32)
_LIBC.inotify_rm_watch.argtypes = (ctypes.c_int, ctypes.c_int)


def _checked(result: int, what: bytes | None = None) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)
    return result


def rename_noreplace(source_fd: int, source: bytes, target_fd: int, target: bytes) -> None:
    """Renames in one step, or raises FileExistsError. ENOSYS or EINVAL where that cannot be done."""
    if _renameat2 is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    _checked(_renameat2(source_fd, source, target_fd, target, _RENAME_NOREPLACE), target)


def sync_filesystem(fd: int) -> None:
    """Returns when all that was written to the file system of `fd` is on the disk."""
    _checked(_LIBC.syncfs(fd))


def start_writeback(fd: int, offset: int, length: int) -> None:
    """Has the disk begin with what was written in a range. A hint: errors are for `fsync` to tell."""
    if _sync_file_range is not None:
        _sync_file_range(fd, offset, length, _SYNC_WRITE)


def inotify_open() -> int:
    """A descriptor that gives events of the watches that are added to it; it does not block."""
    return _checked(_LIBC.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))


def inotify_add(fd: int, path: bytes, mask: int) -> int:
    """Watches `path` and returns the number that its events carry."""
    return _checked(_LIBC.inotify_add_watch(fd, path, mask), path)


def inotify_remove(fd: int, watch: int) -> None:
    """Ends one watch."""
    _checked(_LIBC.inotify_rm_watch(fd, watch))
