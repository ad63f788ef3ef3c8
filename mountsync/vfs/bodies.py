"""Contents as bodies of uploads (they satisfy `mountsync.storage.api.Source`)."""

from __future__ import annotations

from typing import Self

import trio

from mountsync.content.store import Store
from mountsync.errors import Stale
from mountsync.state.tree import Node, Place
from mountsync.vfs.absent import ContentAbsent
from mountsync.vfs.files import Files


class Body:
    """A content at one generation. Use it as a context manager, or call `close`.

    Reading raises Stale once the content moved on; `still` tells it beforehand.
    """

    def __init__(self, volume: Files, node: Node) -> None:
        self._volume = volume
        self._node = node
        self._generation = node.generation
        self._closed = False
        self.size = node.size
        """Length in bytes; it does not change."""
        volume.hold(node)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets the node go. Safe to call twice."""
        if not self._closed:
            self._closed = True
            self._volume.let_go(self._node)

    def still(self) -> bool:
        """Whether nothing was written since the body was made."""
        if self._node.generation != self._generation:
            return False
        return not self._volume.is_busy(self._node.id)

    async def read(self, offset: int, length: int) -> bytes:
        """Exactly these bytes, fewer only at the end. Raises Stale when the content moved on."""
        raise NotImplementedError


class BlobBody(Body):
    """A small content; it was copied, so reading never fails."""

    def __init__(self, volume: Files, node: Node, data: bytes) -> None:
        super().__init__(volume, node)
        self._data = data

    async def read(self, offset: int, length: int) -> bytes:
        return self._data[offset : offset + length]


class FileBody(Body):
    """A content file, read as it lies there."""

    def __init__(self, volume: Files, node: Node, store: Store) -> None:
        self._fd = store.open(node.id)
        self._store = store
        super().__init__(volume, node)

    def close(self) -> None:
        if self._fd >= 0:
            self._store.disk.close(self._fd)
            self._fd = -1
        super().close()

    def fileno(self) -> int:
        """The descriptor, for a storage that can copy from it inside the kernel."""
        return self._fd

    async def read(self, offset: int, length: int) -> bytes:
        wanted = max(0, min(length, self.size - offset))
        data = await trio.to_thread.run_sync(self._store.disk.read_slowly, self._fd, wanted, offset)
        if len(data) != wanted or not self.still():
            raise Stale("the file was changed while it was read")
        return data


class CopyBody(Body):
    """A copy of a content file that never rests; the copy itself never changes."""

    def __init__(self, volume: Files, node: Node, store: Store, fd: int) -> None:
        super().__init__(volume, node)
        self._store = store
        self._fd = fd

    def close(self) -> None:
        if self._fd >= 0:
            self._store.disk.close(self._fd)
            self._fd = -1
        super().close()

    def still(self) -> bool:
        return True

    def fileno(self) -> int:
        """The descriptor of the copy."""
        return self._fd

    async def read(self, offset: int, length: int) -> bytes:
        wanted = max(0, min(length, self.size - offset))
        return await trio.to_thread.run_sync(self._store.disk.read_slowly, self._fd, wanted, offset)


class Bodies(Files):
    """Contents for uploads."""

    def body(self, node_id: int) -> BlobBody | FileBody:
        """The content as it is now; `quiesce` first. Raises Stale, or ContentAbsent for a cold file."""
        node = self.tree.node(node_id)
        if node.place == Place.FILE:
            return FileBody(self, node, self.store)
        opened = self._opened.get(node_id)
        if opened is not None and opened.data is not None:
            return BlobBody(self, node, bytes(opened.data))
        if node.place == Place.BLOB:
            return BlobBody(self, node, self._blob(node))
        if node.size == 0:
            return BlobBody(self, node, b"")
        raise ContentAbsent(node.id, 0, node.size)

    async def snapshot_body(self, node_id: int) -> BlobBody | CopyBody:
        """A copy of the content at this moment, for a file that never rests; blocks are shared if possible.

        Without shared blocks the copy is taken again until nothing was written during it, three times at
        most, then Stale is raised.
        """
        node = self.tree.node(node_id)
        if node.place != Place.FILE:
            found = self.body(node_id)
            assert isinstance(found, BlobBody)
            return found
        for _ in range(3):
            self.quiesce(node_id)
            with FileBody(self, node, self.store) as live:
                spare = self.store.spare()
                copy = CopyBody(self, node, self.store, spare)
                try:
                    await trio.to_thread.run_sync(self.store.disk.clone, live.fileno(), spare)
                except BaseException:
                    copy.close()
                    raise
                if live.still():
                    return copy
                copy.close()
        raise Stale("the file is written all the time")
