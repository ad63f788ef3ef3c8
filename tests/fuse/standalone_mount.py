"""A mount without a remote, in a process of its own: `standalone_mount.py STATE MOUNTPOINT [option...]`.

Prints `ready` when it is mounted. Options: `no-writeback`, `allow-other`, `read-only`, `durable-close`,
`quick-barrier`,
`broken-symlink` (the handler has a bug).
"""

from __future__ import annotations

import signal
import sys
import time
from functools import partial

import trio

from mountsync.content.store import Store
from mountsync.fuse.fetcher import NothingRemote
from mountsync.fuse.notifier import FuseNotifier
from mountsync.fuse.session import Options, serve
from mountsync.state.base import Base
from mountsync.state.database import Database, StateLock
from mountsync.state.journal import Journal
from mountsync.state.tree import ROOT_ID, Tree
from mountsync.storage.api import NameRules
from mountsync.vfs.core import Owner, Rules
from mountsync.vfs.recovery import mark_clean, recover
from mountsync.vfs.volume import Volume


async def stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()


async def main(state: str, mountpoint: str, *words: str) -> None:
    lock = StateLock(state)
    database = Database(f"{state}/state.db")
    tree, journal, store = Tree(database), Journal(database), Store(f"{state}/content")
    with open("/proc/sys/kernel/random/boot_id") as boot:
        recover(database, tree, journal, store, now_ns=time.time_ns(), boot=boot.read().strip())
    notifier = FuseNotifier()
    rules = Rules(
        names=NameRules(), owner=Owner(0, 0), local_only=lambda _: False, read_only="read-only" in words
    )
    volume = Volume(
        database, tree, journal, Base(database), store, rules=rules, clock=time.time_ns, kernel=notifier
    )
    if "quick-barrier" in words:
        volume.barrier_s = 0.005
    if "broken-symlink" in words:
        volume.symlink = lambda *_: 1 // 0  # type: ignore[assignment,method-assign]  # a bug of the test's own
    root = tree.node(ROOT_ID)
    if not root.listed:
        root.listed = 1
        with database.transaction:
            tree.save(root)
    options = Options(
        writeback="no-writeback" not in words,
        allow_other="allow-other" in words,
        read_only="read-only" in words,
        durable_close="durable-close" in words,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stop_on_signal, nursery.cancel_scope)
        nursery.start_soon(volume.keep)

        async def serving(task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
            await serve(volume, NothingRemote(), mountpoint, options, notifier, task_status=task_status)
            nursery.cancel_scope.cancel()

        await nursery.start(partial(serving))
        print("ready", flush=True)
    volume.close()
    mark_clean(database)
    database.close()
    lock.release()


if __name__ == "__main__":
    trio.run(main, *sys.argv[1:])
