"""Looks at and changes names and attributes on the local disk. Synchronous: for threads."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from mountsync.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    IsADirectory,
    NameRefused,
    NotADirectory,
    NotFound,
    PermissionDenied,
    Unsupported,
    from_os_error,
)
from mountsync.model.entry import Entry
from mountsync.paths import RelPath, is_within, name_of, to_bytes
from mountsync.storage.api import Expect
from mountsync.storage.local_draft import open_folder, refuse_temporary, rename_absent, sync_directory
from mountsync.storage.local_root import (
    NOT_THERE,
    LocalRoot,
    entry_at,
    existing,
    look,
    naming,
    refuse_stale,
)
from mountsync.storage.local_temporary import Temporaries


def stat_entry(root: LocalRoot, path: RelPath) -> Entry | None:
    """The entry of `path`, None when nothing is there."""
    try:
        with root.parent(path) as (fd, name):
            return entry_at(fd, name, path)
    except OSError as error:
        if error.errno in NOT_THERE:
            return None
        raise from_os_error(error, path) from error


@contextmanager
def _settled(root: LocalRoot, fd: int) -> Iterator[None]:
    """Makes a change of names durable where `barrier` does not reach: on another file system."""
    yield
    if os.fstat(fd).st_dev != root.device:
        sync_directory(fd)


def delete(root: LocalRoot, path: RelPath, expect: Expect) -> None:
    """Removes one file or link."""
    with naming(path, lookup=True), root.parent(path) as (fd, name), _settled(root, fd):
        found = existing(fd, name, path, expect)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectory("it is a directory", path=path)
        os.unlink(name, dir_fd=fd)


def set_mtime(root: LocalRoot, path: RelPath, mtime_ns: int, expect: Expect) -> Entry:
    """Sets the time of a file or link; its access time stays."""
    with naming(path, lookup=True), root.parent(path) as (fd, name):
        found = existing(fd, name, path, expect)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectory("it is a directory", path=path)
        os.utime(name, ns=(found.st_atime_ns, mtime_ns), dir_fd=fd, follow_symlinks=False)
        return _entry(fd, name, path)


def set_mode(root: LocalRoot, path: RelPath, mode: int) -> Entry:
    """Sets the permission bits of a file or directory."""
    with naming(path, lookup=True), root.parent(path) as (fd, name):
        found = existing(fd, name, path, None)
        if stat.S_ISLNK(found.st_mode):
            raise Unsupported("a symbolic link has no mode", path=path)
        handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        try:  # by its number: the name could have become a link that leads outside
            os.chmod(f"/proc/self/fd/{handle}", mode & 0o7777)
        finally:
            os.close(handle)
        return _entry(fd, name, path)


def _entry(fd: int, name: bytes, path: RelPath) -> Entry:
    entry = entry_at(fd, name, path)
    if entry is None:
        raise NotFound("it was removed meanwhile", path=path)
    return entry


def make_directory(root: LocalRoot, path: RelPath) -> Entry:
    """Makes a directory and its parents."""
    refuse_temporary(path)
    try:
        fd = root.open_directory(path, make=True)
    except NotADirectoryError as error:
        raise NotADirectory("something that is not a directory is there", path=path) from error
    except OSError as error:
        raise from_os_error(error, path) from error
    try:
        with naming(path), _settled(root, fd):
            return _entry(fd, b".", path)
    finally:
        os.close(fd)


def remove_directory(root: LocalRoot, path: RelPath, temporaries: Temporaries) -> None:
    """Removes an empty directory; unfinished files that an earlier process of ours left go first."""
    if not path:
        raise PermissionDenied("the root of a storage cannot be removed")
    with naming(path, lookup=True), root.parent(path) as (fd, name), _settled(root, fd):
        if not stat.S_ISDIR(existing(fd, name, path, None).st_mode):
            raise NotADirectory("it is not a directory", path=path)
        try:
            os.rmdir(name, dir_fd=fd)
        except OSError as error:
            if not isinstance(from_os_error(error), AlreadyExists | DirectoryNotEmpty):
                raise
            if not sweep(root, path, temporaries):
                raise DirectoryNotEmpty("the directory is not empty", path=path) from error
            os.rmdir(name, dir_fd=fd)


def sweep(root: LocalRoot, folder: RelPath, temporaries: Temporaries) -> int:
    """Removes what an earlier process of ours left unfinished in `folder`; returns how many."""
    try:
        fd = root.open_directory(folder, flags=os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        return 0
    try:
        with os.scandir(fd) as items:
            left = [os.fsencode(item.name) for item in items if temporaries.is_abandoned(item.name)]
        for name in left:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=fd)
        return len(left)
    finally:
        os.close(fd)


def move(root: LocalRoot, source: RelPath, target: RelPath, expect: Expect, replace: Expect) -> Entry:
    """Renames a file, link or directory."""
    if not source:
        raise PermissionDenied("the root of a storage cannot be moved")
    with naming(source, lookup=True), root.parent(source) as (fd, name), _settled(root, fd):
        found = existing(fd, name, source, expect)
        if stat.S_ISDIR(found.st_mode) and target != source and is_within(target, source):
            raise NameRefused("a directory cannot be moved into itself", path=target)
        target_fd = open_folder(root, target, make=True)
        try:
            with naming(target), _settled(root, target_fd):
                return _move(
                    found, (fd, name), (target_fd, to_bytes(name_of(target)) or b"."), target, replace
                )
        finally:
            os.close(target_fd)


def _move(
    found: os.stat_result, source: tuple[int, bytes], at: tuple[int, bytes], target: RelPath, replace: Expect
) -> Entry:
    there = look(*at)
    refuse_stale(there, replace, target, AlreadyExists)
    if there is not None:
        _refuse_kinds(found, there, target)
        os.rename(source[1], at[1], src_dir_fd=source[0], dst_dir_fd=at[0])
    else:
        try:
            rename_absent(*source, *at)
        except FileExistsError as error:
            raise AlreadyExists("something is there already", path=target) from error
    return _entry(*at, target)


def _refuse_kinds(found: os.stat_result, there: os.stat_result, target: RelPath) -> None:
    if stat.S_ISDIR(there.st_mode) and not stat.S_ISDIR(found.st_mode):
        raise IsADirectory("a directory is there", path=target)
    if stat.S_ISDIR(found.st_mode) and not stat.S_ISDIR(there.st_mode):
        raise NotADirectory("something that is not a directory is there", path=target)
    if os.path.samestat(found, there) and found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
        # rename() does nothing for two names of one file, and says that it did.
        raise Unsupported("both names are hard links to one file", path=target)
