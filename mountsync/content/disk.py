"""The only seam to content files: every effect on them is one call here.

All methods block as the operating system does; whoever may not block calls them in a thread. They raise
only `mountsync.errors` (`NoSpace` when the disk is full).
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from typing import Final

from mountsync.errors import from_os_error

_FICLONE: Final = 0x40049409
"""ioctl of linux/fs.h: share all blocks of another file."""
_COPY_PIECE: Final = 8 << 20
_DIRECT: Final = os.RWF_NOWAIT


class Disk:
    """A folder of content files. Names are relative to it."""

    def __init__(self, folder: str) -> None:
        """Makes the folder, readable by its owner only, when it is not there."""
        self.folder = folder
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
        except OSError as error:
            raise from_os_error(error, folder) from error

    def _path(self, name: str) -> str:
        return f"{self.folder}/{name}"

    def create(self, name: str) -> int:
        """A descriptor of a new, empty file; whatever had the name is replaced."""
        path = self._path(name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        except FileExistsError:
            os.unlink(path)
        except OSError as error:
            raise from_os_error(error, path) from error
        try:
            return os.open(path, flags, 0o600)
        except OSError as error:
            raise from_os_error(error, path) from error

    def open(self, name: str) -> int:
        """A descriptor of an existing file, for reading and writing. Raises NotFound."""
        path = self._path(name)
        try:
            return os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise from_os_error(error, path) from error

    def read(self, fd: int, buffers: list[memoryview], offset: int) -> int:
        """Fills the buffers from memory of the operating system; how many bytes it found.

        Raises BlockingIOError when the bytes would have to come from the disk.
        """
        return os.preadv(fd, buffers, offset, _DIRECT)

    def read_slowly(self, fd: int, size: int, offset: int) -> bytes:
        """At most `size` bytes, fewer only at the end of the file; may wait for the disk."""
        try:
            return os.pread(fd, size, offset)
        except OSError as error:
            raise from_os_error(error) from error

    def write(self, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
        """Writes all of `data`."""
        try:
            done = os.pwrite(fd, data, offset)
            while done < len(data):
                done += os.pwrite(fd, memoryview(data)[done:], offset + done)
        except OSError as error:
            raise from_os_error(error) from error

    def resize(self, fd: int, size: int) -> None:
        """Cuts the file, or lengthens it by a hole."""
        try:
            os.ftruncate(fd, size)
        except OSError as error:
            raise from_os_error(error) from error

    def sync(self, fd: int) -> None:
        """Returns when the bytes of the file are safe from power loss."""
        try:
            os.fdatasync(fd)
        except OSError as error:
            raise from_os_error(error) from error

    def sync_names(self, folder: str) -> None:
        """Returns when the names in a folder below this one are safe from power loss."""
        fd = os.open(self._path(folder), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        except OSError as error:
            raise from_os_error(error, folder) from error
        finally:
            os.close(fd)

    def has_name(self, fd: int) -> bool:
        """Whether a file that is open was not removed."""
        return os.fstat(fd).st_nlink > 0

    def close(self, fd: int) -> None:
        """Gives a descriptor back."""
        os.close(fd)

    def remove(self, name: str) -> None:
        """Removes a file; no error when it is not there."""
        try:
            os.unlink(self._path(name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise from_os_error(error, name) from error

    def clone(self, source: int, target: int) -> None:
        """Makes the empty file `target` equal to `source`: shared blocks where possible, else a copy."""
        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.EPERM):
                raise from_os_error(error) from error
            self._copy(source, target)

    def _copy(self, source: int, target: int) -> None:
        offset = 0
        while data := self.read_slowly(source, _COPY_PIECE, offset):
            self.write(target, data, offset)
            offset += len(data)

    def size(self, name: str) -> int | None:
        """The length of a file in bytes, None when it is not there."""
        try:
            return os.stat(self._path(name)).st_size
        except FileNotFoundError:
            return None
        except OSError as error:
            raise from_os_error(error, name) from error

    def blocks(self, name: str) -> int:
        """Blocks of 512 bytes that a file takes; 0 when it is not there."""
        try:
            return os.stat(self._path(name)).st_blocks
        except FileNotFoundError:
            return 0

    def names(self) -> Iterator[str]:
        """Every file in the folders below this one."""
        for folder in sorted(os.listdir(self.folder)):
            inside = self._path(folder)
            if os.path.isdir(inside):
                yield from (f"{folder}/{name}" for name in sorted(os.listdir(inside)))
