"""A mount without a remote, in a process of its own: `standalone_mount.py STATE MOUNTPOINT [option...]`.

Prints `ready` when it is mounted. Options: `no-writeback`, `allow-other`, `read-only`, `durable-close`,
`quick-barrier`,
`broken-symlink` (the handler has a bug), `remote-changes` (does what the file `deeds` in the state says).
"""

from __future__ import annotations

import os
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
from mountsync.state.tree import ROOT_ID, Node, Place, Tree
from mountsync.storage.api import NameRules
from mountsync.vfs.core import Owner, Rules
from mountsync.vfs.recovery import mark_clean, recover
from mountsync.vfs.volume import Volume


async def stop_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            scope.cancel()


class Remote:
    """Changes the tree as the engine does when the remote changed."""

    def __init__(self, volume: Volume) -> None:
        self.volume = volume

    def plant(self, name: bytes, data: bytes, mode: int = 0o100644) -> None:
        volume = self.volume
        now = volume.clock()
        folder = mode & 0o170000 == 0o040000
        links, place, listed = (2, 0, 1) if folder else (1, Place.BLOB, 0)
        node = Node(
            volume.tree.new_id(), mode, 0, 0, 0, links, len(data), now, now, now, 0, place, None, listed
        )
        old = volume.tree.child(ROOT_ID, name)
        with volume.database.transaction:
            if old is not None:
                volume.tree.unlink(ROOT_ID, name)
                old.nlink -= 1
                volume.tree.save(old)
            volume.tree.insert(node)
            volume.tree.link(ROOT_ID, name, node.id)
            if folder:
                volume.tree.node(ROOT_ID).nlink += 1
                volume.tree.save(volume.tree.node(ROOT_ID))
            else:
                volume.database.execute("INSERT INTO blob VALUES (?, ?)", (node.id, data))
        if old is None:
            volume.kernel.entry_appeared(ROOT_ID, name)
        else:
            volume.kernel.entry_changed(ROOT_ID, name)
            volume.remove_node_if_unused(old.id)

    def drop(self, name: bytes) -> None:
        volume = self.volume
        old = volume.tree.child(ROOT_ID, name)
        assert old is not None
        with volume.database.transaction:
            volume.tree.unlink(ROOT_ID, name)
            old.nlink -= 1
            volume.tree.save(old)
        volume.kernel.entry_vanished(ROOT_ID, name, old.id)
        volume.remove_node_if_unused(old.id)

    def move(self, name: bytes, new_name: bytes) -> None:
        volume = self.volume
        node = volume.tree.child(ROOT_ID, name)
        assert node is not None
        with volume.database.transaction:
            volume.tree.unlink(ROOT_ID, name)
            volume.tree.link(ROOT_ID, new_name, node.id)
        volume.kernel.entry_vanished(ROOT_ID, name, node.id)
        volume.kernel.entry_appeared(ROOT_ID, new_name)

    async def follow(self, deeds: str) -> None:
        while True:
            await trio.sleep(0.01)
            if os.path.exists(deeds) and os.path.getsize(deeds):
                with open(deeds) as file:
                    verb, name, *data = file.read().split()
                if verb == "drop":
                    self.drop(name.encode())
                elif verb == "move":
                    self.move(name.encode(), data[0].encode())
                else:
                    mode = 0o40750 if verb == "folder" else 0o100644
                    self.plant(name.encode(), "".join(data).encode(), mode)
                os.unlink(deeds)


async def main(state: str, mountpoint: str, *words: str) -> None:
    lock = StateLock(state)
    database = Database(f"{state}/state.db")
    tree, journal, store = Tree(database), Journal(database), Store(f"{state}/content")
    with open("/proc/sys/kernel/random/boot_id") as boot:
        recover(database, tree, journal, store, now_ns=time.time_ns(), boot=boot.read().strip())
    notifier = FuseNotifier()
    rules = Rules(
        names=NameRules(),
        owner=Owner(os.getuid(), os.getgid()),
        local_only=lambda _: False,
        read_only="read-only" in words,
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
        if "remote-changes" in words:
            nursery.start_soon(Remote(volume).follow, f"{state}/deeds")

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
