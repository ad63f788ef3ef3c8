"""Content files by content id: `content/<last byte of the id>/<id>`, both in hexadecimal."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Final

from mountsync.content.disk import Disk

_SPARE: Final = "spare"
"""Folder of copies that belong to nobody after a restart."""


def content_name(content_id: int) -> str:
    """The name of a content file below the folder of the store."""
    return f"{content_id & 0xFF:02x}/{content_id:x}"


class Store:
    """The content files of one state folder."""

    def __init__(self, folder: str) -> None:
        self.disk = Disk(folder)
        self._new_names: set[str] = set()
        self._naming = threading.Lock()
        self._spares = 0

    def create(self, content_id: int) -> int:
        """A descriptor of a new, empty content file."""
        fd = self.disk.create(content_name(content_id))
        # Only now: a sync in another thread would not find the folder before.
        self._new_names.add(f"{content_id & 0xFF:02x}")
        return fd

    def open(self, content_id: int) -> int:
        """A descriptor of a content file. Raises NotFound."""
        return self.disk.open(content_name(content_id))

    def open_or_create(self, content_id: int) -> int:
        """A descriptor of a content file, made when it is not there."""
        if self.size(content_id) is None:
            return self.create(content_id)
        return self.open(content_id)

    def remove(self, content_id: int) -> None:
        """Removes a content file; no error when it is not there."""
        self.disk.remove(content_name(content_id))

    def size(self, content_id: int) -> int | None:
        """The length of a content file in bytes, None when it is not there."""
        return self.disk.size(content_name(content_id))

    def blocks(self, content_id: int) -> int:
        """Blocks of 512 bytes that a content file takes on the disk."""
        return self.disk.blocks(content_name(content_id))

    def spare(self) -> int:
        """A descriptor of a new file without a name, for a copy that dies with its descriptor."""
        self._spares += 1
        name = f"{_SPARE}/{os.getpid()}.{self._spares}"
        fd = self.disk.create(name)
        self.disk.remove(name)
        return fd

    def sync(self, fd: int) -> None:
        """Returns when a content file, and the names of all new ones, are safe from power loss. Blocks."""
        self.disk.sync(fd)
        self.sync_names()

    def sync_names(self) -> None:
        """Returns when the names of all new content files are safe from power loss. Blocks."""
        with self._naming:  # whoever finds nothing to do must still wait for whoever took it
            while self._new_names:
                folder = self._new_names.pop()
                try:
                    self.disk.sync_names(folder)
                except BaseException:
                    self._new_names.add(folder)
                    raise

    def ids(self) -> Iterator[int]:
        """Every content id that has a file; files of another kind are removed on the way."""
        for name in list(self.disk.names()):
            folder, _, last = name.partition("/")
            try:
                found = int(last, 16)
            except ValueError:
                found = -1
            if folder != _SPARE and found > 0 and content_name(found) == name:
                yield found
            else:
                self.disk.remove(name)

    def free_bytes(self) -> os.statvfs_result:
        """What the operating system says about the disk."""
        return os.statvfs(self.disk.folder)
