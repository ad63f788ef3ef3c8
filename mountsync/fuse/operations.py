"""Requests of the kernel, answered by the volume. What is absent is fetched and the request asked again."""

from __future__ import annotations

import errno
import functools
import logging
import os
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, Concatenate, Final, ParamSpec, TypeVar

import pyfuse3
import trio

from mountsync.fuse.attributes import absent, prepare
from mountsync.fuse.errno import failure
from mountsync.fuse.fetcher import Fetcher
from mountsync.fuse.gate import Gate
from mountsync.fuse.herald import Herald, News
from mountsync.fuse.visitors import is_uninvited
from mountsync.state.tree import Node
from mountsync.vfs.absent import ChildrenAbsent, ContentAbsent
from mountsync.vfs.handles import DirHandle, Handle
from mountsync.vfs.volume import Volume
from mountsync.vfs.xattrs import SHA256

_ROUNDS: Final = 8
"""Fetches after which a request that still lacks something is given up."""
_NOT_KEPT: Final = pyfuse3.FUSEError(errno.ENOTSUP)
_log = logging.getLogger(__name__)
_Answer = TypeVar("_Answer")
_Asked = ParamSpec("_Asked")


def handler(
    answer: Callable[Concatenate[MountOperations, _Asked], _Answer],
) -> Callable[Concatenate[MountOperations, _Asked], Coroutine[Any, Any, _Answer]]:
    """Makes a handler of a method that does not wait: fetches what it lacks, maps what it raises."""

    @functools.wraps(answer)
    async def handle(self: MountOperations, /, *args: _Asked.args, **none: _Asked.kwargs) -> _Answer:
        try:
            return answer(self, *args, **none)
        except Exception as error:  # noqa: BLE001 - the kernel must get an errno whatever happens
            return await self.again(error, functools.partial(answer, self, *args))

    return handle


class MountOperations:
    """The handlers of one mount, under the names and signatures that pyfuse3 calls."""

    supports_dot_lookup = False
    enable_acl = False

    def __init__(
        self,
        volume: Volume,
        fetcher: Fetcher,
        gate: Gate,
        *,
        durable_close: bool = False,
        writeback: bool = True,
        herald: Herald | None = None,
        thumbnails: bool = True,
    ) -> None:
        """Without `thumbnails`, thumbnailers and indexers open no file whose content is not here."""
        self.enable_writeback_cache = writeback
        self._volume = volume
        self._fetcher = fetcher
        self._gate = gate
        self._durable_close = durable_close
        self._files: dict[int, Handle] = {}
        self._folders: dict[int, DirHandle] = {}
        self._absent = absent()
        self._unknown = absent()
        self._unknown.entry_timeout = 0
        self._herald = herald
        self._thumbnails = thumbnails

    def init(self) -> None:
        """The kernel is there; nothing is left to do."""

    # What happens when a request cannot be answered at once.

    async def again(self, error: Exception, answer: Callable[[], _Answer]) -> _Answer:
        """Fetches what `error` says is lacking and asks again, or turns it into an errno."""
        for _ in range(_ROUNDS):
            if not isinstance(error, (ContentAbsent, ChildrenAbsent)):
                break
            try:
                await self._fetch(error)
                return answer()
            except Exception as next_error:  # noqa: BLE001 - as above
                error = next_error
        raise failure(error)

    async def _fetch(self, lack: ContentAbsent | ChildrenAbsent) -> None:
        self._gate.hand_over()
        if isinstance(lack, ContentAbsent):
            await self._fetcher.content(lack.node, lack.start, lack.stop)
        else:
            await self._fetcher.children(lack.node)

    async def _waiting(self, call: Callable[..., Awaitable[_Answer]], *args: Any) -> _Answer:
        self._gate.hand_over()
        try:
            return await call(*args)
        except Exception as error:
            raise failure(error) from error

    def _entry(self, node: Node) -> pyfuse3.EntryAttributes:
        prepared: Any = node.prepared
        return prepare(self._volume, node) if prepared is None else prepared

    # Names.

    @handler
    def lookup(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        if self._is_acted(News.APPEARED, parent, name, ctx):
            return self._unknown
        node = self._volume.lookup(parent, name)
        return self._absent if node is None else self._entry(node)

    def _is_acted(self, news: News, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> bool:
        """Whether our own thread makes watchers hear of this name: see `herald`."""
        herald = self._herald
        return herald is not None and herald.is_mine(ctx.pid) and herald.is_acting(parent, name, news)

    def _heralded(self, parent: int, name: bytes) -> pyfuse3.EntryAttributes:
        """What is there already; ENOENT when it went meanwhile."""
        node = self._volume.lookup(parent, name)
        if node is None:
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._entry(node)

    async def forget(self, inode_list: Sequence[tuple[int, int]]) -> None:
        """Nothing is kept for what the kernel knows."""

    @handler
    def mknod(
        self, parent: int, name: bytes, mode: int, rdev: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if self._is_acted(News.APPEARED, parent, name, ctx):
            return self._heralded(parent, name)
        return self._entry(self._volume.mknod(parent, name, mode, rdev, ctx.uid, ctx.gid))

    @handler
    def mkdir(
        self, parent: int, name: bytes, mode: int, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if self._is_acted(News.APPEARED, parent, name, ctx):
            return self._heralded(parent, name)
        return self._entry(self._volume.mkdir(parent, name, mode, ctx.uid, ctx.gid))

    @handler
    def symlink(
        self, parent: int, name: bytes, target: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if self._is_acted(News.APPEARED, parent, name, ctx):
            return self._heralded(parent, name)
        return self._entry(self._volume.symlink(parent, name, target, ctx.uid, ctx.gid))

    @handler
    def readlink(self, inode: int, ctx: pyfuse3.RequestContext) -> bytes:
        return self._volume.readlink(inode)

    @handler
    def link(
        self, inode: int, parent: int, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._entry(self._volume.link(inode, parent, name))

    @handler
    def unlink(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        if self._is_acted(News.VANISHED, parent, name, ctx):
            self._gone(parent, name)
        else:
            self._volume.unlink(parent, name)

    def _gone(self, parent: int, name: bytes) -> None:
        """Nothing is done; ENOENT when something has the name again."""
        if self._volume.lookup(parent, name) is not None:
            raise pyfuse3.FUSEError(errno.ENOENT)

    @handler
    def rmdir(self, parent: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        if self._is_acted(News.VANISHED, parent, name, ctx):
            self._gone(parent, name)
        else:
            self._volume.rmdir(parent, name)

    @handler
    def rename(
        self,
        parent: int,
        name: bytes,
        new_parent: int,
        new_name: bytes,
        flags: int,
        ctx: pyfuse3.RequestContext,
    ) -> None:
        self._volume.rename(parent, name, new_parent, new_name, flags)

    # Attributes.

    @handler
    def getattr(self, inode: int, ctx: pyfuse3.RequestContext) -> pyfuse3.EntryAttributes:
        return self._entry(self._volume.getattr(inode))

    @handler
    def setattr(
        self,
        inode: int,
        attr: pyfuse3.EntryAttributes,
        fields: pyfuse3.SetattrFields,
        fh: int | None,
        ctx: pyfuse3.RequestContext,
    ) -> pyfuse3.EntryAttributes:
        node = self._volume.setattr(
            inode,
            mode=attr.st_mode if fields.update_mode else None,
            uid=attr.st_uid if fields.update_uid else None,
            gid=attr.st_gid if fields.update_gid else None,
            size=attr.st_size if fields.update_size else None,
            atime_ns=attr.st_atime_ns if fields.update_atime else None,
            mtime_ns=attr.st_mtime_ns if fields.update_mtime else None,
            ctime_ns=attr.st_ctime_ns if fields.update_ctime else None,
            handle=None if fh is None else self._files.get(fh),
            privileged=ctx.uid == 0,
        )
        return self._entry(node)

    async def poll(
        self, inode: int, fh: int, handle: pyfuse3.PollHandle | None, ctx: pyfuse3.RequestContext
    ) -> int:
        """Files are always ready; the kernel remembers this answer."""
        raise pyfuse3.FUSEError(errno.ENOSYS)

    def stacktrace(self) -> None:
        """For pyfuse3's debugging attribute; says nothing here."""

    async def access(self, inode: int, mode: int, ctx: pyfuse3.RequestContext) -> bool:
        """The kernel decides by the mode (`default_permissions`)."""
        return True

    @handler
    def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:
        space = self._volume.statfs()
        made = pyfuse3.StatvfsData()
        made.f_bsize = made.f_frsize = space.block
        made.f_blocks, made.f_bfree, made.f_bavail = space.blocks, space.free, space.available
        made.f_files, made.f_ffree, made.f_favail = space.files, space.files_free, space.files_free
        made.f_namemax = 255
        return made

    async def getxattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> bytes:
        if not name.startswith(b"user."):  # some are asked before every write
            raise _NOT_KEPT
        if name == SHA256:
            return await self._waiting(self._volume.getxattr_computed, inode, name)
        return await self._getxattr(inode, name)

    @handler
    def _getxattr(self, inode: int, name: bytes) -> bytes:
        return self._volume.getxattr(inode, name)

    @handler
    def setxattr(self, inode: int, name: bytes, value: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._volume.setxattr(inode, name, value)

    @handler
    def listxattr(self, inode: int, ctx: pyfuse3.RequestContext) -> Sequence[bytes]:
        return self._volume.listxattr(inode)

    @handler
    def removexattr(self, inode: int, name: bytes, ctx: pyfuse3.RequestContext) -> None:
        self._volume.removexattr(inode, name)

    # Open files.

    @handler
    def create(
        self, parent: int, name: bytes, mode: int, flags: int, ctx: pyfuse3.RequestContext
    ) -> tuple[pyfuse3.FileInfo, pyfuse3.EntryAttributes]:
        handle, node = self._volume.create(parent, name, mode, flags, ctx.uid, ctx.gid)
        self._files[handle.id] = handle
        return self._opened(handle), self._entry(node)

    async def open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        if self._volume.is_cold(inode) and not flags & os.O_TRUNC and flags & os.O_ACCMODE != os.O_WRONLY:
            if not self._thumbnails and not flags & os.O_ACCMODE:
                await self._refuse_uninvited(ctx.pid)
            # Where the remote has another version by now the kernel looks the name up again, and opens that.
            await self._waiting(self._fetcher.opening, inode)
        return await self._open(inode, flags, ctx)

    async def _refuse_uninvited(self, pid: int) -> None:
        """Raises EACCES for a program that would download everything for itself."""
        self._gate.hand_over()
        if await trio.to_thread.run_sync(is_uninvited, pid):
            _log.debug("process %d reads what nobody asked for: refused", pid)
            raise pyfuse3.FUSEError(errno.EACCES)

    @handler
    def _open(self, inode: int, flags: int, ctx: pyfuse3.RequestContext) -> pyfuse3.FileInfo:
        handle = self._volume.open(inode, flags, ctx.uid)
        self._files[handle.id] = handle
        return self._opened(handle)

    def _opened(self, handle: Handle) -> pyfuse3.FileInfo:
        """What the kernel is told of an open file.

        Where a write may be refused for the file's name it goes past the kernel's cache: from there it
        would come too late for the program, which would see EIO when it closes the file. The kernel does
        not count such writes as a change of time, so only new and emptied files are opened so: their
        time is that of the opening.
        """
        fh = pyfuse3.FileHandleT(handle.id)
        if handle.flags & (os.O_CREAT | os.O_TRUNC) and self._volume.is_limited(handle):
            return pyfuse3.FileInfo(fh=fh, direct_io=True)
        return pyfuse3.FileInfo(fh=fh)

    async def read(self, fh: int, off: int, size: int) -> bytes:
        try:
            # What `read_now` gives is copied to the kernel before anything else runs.
            return self._volume.read_now(self._files[fh], off, size)  # type: ignore[return-value]  # a buffer
        except Exception as error:  # noqa: BLE001 - as above
            return await self._read_later(error, fh, off, size)

    async def _read_later(self, error: Exception, fh: int, off: int, size: int) -> bytes:
        for _ in range(_ROUNDS):
            if not isinstance(error, (BlockingIOError, ContentAbsent)):
                break
            try:
                if isinstance(error, ContentAbsent):
                    await self._fetch(error)
                self._gate.hand_over()
                return await self._volume.read_waiting(self._files[fh], off, size)
            except Exception as next_error:  # noqa: BLE001 - as above
                error = next_error
        raise failure(error)

    @handler
    def write(self, fh: int, off: int, buf: bytes) -> int:
        return self._volume.write(self._files[fh], off, buf)

    async def flush(self, fh: int) -> None:
        if self._durable_close:
            await self.fsync(fh, False)
        else:
            await self._flush(fh)

    @handler
    def _flush(self, fh: int) -> None:
        self._volume.flush(self._files[fh])

    @handler
    def release(self, fh: int) -> None:
        self._volume.release(self._files.pop(fh))

    async def fsync(self, fh: int, datasync: bool) -> None:
        await self._waiting(self._sync, fh)

    async def _sync(self, fh: int) -> None:
        await self._volume.fsync(self._files[fh])

    # Open directories.

    @handler
    def opendir(self, inode: int, ctx: pyfuse3.RequestContext) -> int:
        handle = self._volume.opendir(inode)
        self._folders[handle.id] = handle
        return handle.id

    @handler
    def readdir(self, fh: int, start_id: int, token: pyfuse3.ReaddirToken) -> None:
        handle = self._folders[fh]
        while page := self._volume.readdir(handle, start_id):
            for name, node, next_id in page:
                if not pyfuse3.readdir_reply(token, name, self._entry(node), next_id):
                    return
                start_id = next_id

    @handler
    def releasedir(self, fh: int) -> None:
        self._volume.releasedir(self._folders.pop(fh))

    async def fsyncdir(self, fh: int, datasync: bool) -> None:
        await self._waiting(self._volume.fsyncdir)
