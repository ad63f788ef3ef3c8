"""One mount, from the check of its mount point to its end."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, cast

import pyfuse3
import trio

from mountsync.collector import calm
from mountsync.fuse import mountpoint as mounting
from mountsync.fuse.descriptors import apart
from mountsync.fuse.fetcher import Fetcher
from mountsync.fuse.gate import Gate, install, is_known
from mountsync.fuse.handshake import Handshake
from mountsync.fuse.herald import Herald
from mountsync.fuse.notifier import FuseNotifier
from mountsync.fuse.operations import MountOperations
from mountsync.fuse.reader_care import look_after
from mountsync.vfs.volume import Volume

WORKERS: Final = 160
"""Requests that can wait for something at the same time; more than the kernel reads ahead by itself."""
MAX_READ: Final = 1 << 20
_END_S: Final = 20.0
"""How long an orderly end may take to let the kernel write what it has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to mount. `name` is what mount tables show; `read_ahead` is in KiB, None leaves it alone."""

    name: str = "mountsync"
    allow_other: bool = False
    read_only: bool = False
    executable: bool = True
    """Programs in it can be run."""
    durable_close: bool = False
    """Close does what fsync does."""
    writeback: bool = True
    """The kernel gathers small writes."""
    read_ahead: int | None = 1024
    herald: bool = True
    """Watchers of the folder hear of what came from the remote."""
    thumbnails: bool = True
    """Thumbnailers and indexers may read what has to be downloaded for them."""


async def serve(
    volume: Volume,
    fetcher: Fetcher,
    mountpoint: str,
    options: Options,
    notifier: FuseNotifier,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Mounts, calls `task_status.started()`, and serves until somebody unmounts or it is cancelled.

    Cancelled, it lets the kernel write what it has and unmounts; a mount point that is in use goes lazily.
    The volume is the caller's to close. One mount per process. Raises MountError.
    """
    mountpoint = os.path.abspath(mountpoint)  # noqa: ASYNC240 - asks the disk for nothing but the cwd
    await trio.to_thread.run_sync(mounting.make_ready, mountpoint)
    link = await trio.to_thread.run_sync(_mount, mountpoint, options)
    gate = Gate(link.fd, volume.traffic, link.handshake)
    herald = Herald(mountpoint, volume.tree.path) if options.herald and not options.read_only else None
    operations = MountOperations(
        volume,
        fetcher,
        gate,
        durable_close=options.durable_close,
        writeback=options.writeback,
        herald=herald,
        thumbnails=options.thumbnails,
    )
    volume.times_by_kernel = options.writeback
    undo = install(gate) if is_known() else _nothing
    try:
        pyfuse3.init(cast("pyfuse3.Operations", operations), f"/dev/fd/{link.fd}", set())
    except BaseException:
        undo()
        link.close()
        await trio.to_thread.run_sync(_unmount_lazily, mountpoint)
        raise
    notifier.start(volume.tree, herald)
    try:
        await _run(gate, mountpoint, task_status)
    finally:
        undo()
        pyfuse3.close(unmount=True)
        notifier.stop()


@dataclass(frozen=True, slots=True)
class _Link:
    """The way to the kernel: the descriptor for libfuse, and the exchange that is to be completed."""

    fd: int
    handshake: Handshake | None

    def close(self) -> None:
        if self.handshake is None:
            os.close(self.fd)
        else:
            self.handshake.abandon()


def _mount(mountpoint: str, options: Options) -> _Link:
    asked: dict[str, str | None] = {"default_permissions": None, "max_read": str(MAX_READ)}
    if options.allow_other:
        asked["allow_other"] = None
    device = mounting.mount(
        mountpoint,
        asked,
        name=options.name,
        read_only=options.read_only,
        executable=options.executable,
    )
    if options.read_ahead is not None:
        mounting.raise_read_ahead(mountpoint, options.read_ahead)
    if not is_known():
        return _Link(device, None)
    handshake = Handshake(device)
    return _Link(handshake.fd, handshake)


def _nothing() -> None:
    """Nothing was replaced."""


async def _run(gate: Gate, mountpoint: str, task_status: trio.TaskStatus[None]) -> None:
    serving = trio.CancelScope(shield=True)
    ended = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_main, gate, serving, ended)
        gc.collect()
        calm()
        task_status.started()
        try:
            await ended.wait()
        finally:
            if not ended.is_set():
                try:
                    with trio.CancelScope(shield=True):
                        await _end(mountpoint)
                finally:
                    serving.cancel()


async def _main(gate: Gate, serving: trio.CancelScope, ended: trio.Event) -> None:
    with serving:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(look_after, gate)
            await pyfuse3.main(1, WORKERS)
            nursery.cancel_scope.cancel()
    ended.set()


async def _end(mountpoint: str) -> None:
    """Unmounts while the mount is still served, so that nothing which the kernel holds is lost."""
    with trio.move_on_after(_END_S):
        with suppress(OSError):  # a folder that cannot be opened any more is unmounted all the same
            await _in_thread(mounting.sync, mountpoint)
        if await _in_thread(_unmount_now, mountpoint):
            return
    await _in_thread(_unmount_lazily, mountpoint)


async def _in_thread(call: Callable[[str], object], mountpoint: str) -> object:
    return await trio.to_thread.run_sync(apart, call, mountpoint, abandon_on_cancel=True)


def _unmount_now(mountpoint: str) -> bool:
    return mounting.unmount(mountpoint, lazy=False)


def _unmount_lazily(mountpoint: str) -> bool:
    return mounting.unmount(mountpoint, lazy=True)
