"""Random histories of a mount: what programs do, what others do on the remote, and what goes wrong.

Every content that is written is unlike all others. A content is *given up* when somebody overwrites or
deletes it who sees it at that place; all others must exist on both sides in the end, whatever happened.
"""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio
from trio.testing import MockClock

from mountsync.engine.assembly import Tuning
from mountsync.errors import Halted, MountsyncError, Unsupported
from mountsync.paths import RelPath, ancestors
from mountsync.state.tree import Node
from mountsync.storage.memory import MemoryStorage
from mountsync.storage.memory_tree import Directory, File
from mountsync.storage.sources import BytesSource
from tests.parts.failing import failing
from tests.parts.flat import FlatStorage
from tests.parts.mounted import Killed, Mounted, mounted

PATHS = ("a", "b", "d", "e", "d/a", "d/b", "d/s", "e/a", "e/s", "d/s/a", "d/s/b")
Op = tuple[Any, ...]


@dataclass
class History:
    """One run: the operations and what is known of contents."""

    folder: Path
    storage: Any
    tuning: Tuning
    written: set[bytes] = field(default_factory=set)
    given_up: set[bytes] = field(default_factory=set)
    by_token: dict[str, bytes] = field(default_factory=dict)
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))
    handles: list[Any] = field(default_factory=list)
    local_acts: int = 0
    remote_acts: int = 0
    crashes: int = 0
    log: list[str] = field(default_factory=list)
    tree: dict[str, Any] = field(default_factory=dict)
    """What both sides hold in the end."""

    def fresh(self) -> bytes:
        data = b"content %d" % next(self.numbers)
        self.written.add(data)
        return data

    # What is seen where

    @property
    def objects(self):
        return self.storage._below._tree

    def note_tokens(self) -> None:
        waiting = [self.objects._root]
        while waiting:
            for node in waiting.pop().children.values():
                if isinstance(node, Directory):
                    waiting.append(node)
                elif isinstance(node, File):
                    self.by_token[f"v{node.version}"] = node.data

    def remote_content(self, path: str) -> bytes | None:
        node = self.objects.find(RelPath(path))
        return node.data if isinstance(node, File) else None

    def local_content(self, m: Mounted, node: Node) -> bytes | None:
        if not node.is_file:
            return None
        opened = m.volume.open_state(node.id)
        if opened is not None and opened.data is not None:
            return bytes(opened.data)
        if node.is_complete or node.size == 0:
            return m.volume._blob(node)
        rows = m.base.of_node(node.id)
        return self.by_token.get(rows[0].remote.token) if rows else None

    def give_up(self, data: bytes | None) -> None:
        if data is not None:
            self.given_up.add(data)

    def find(self, m: Mounted, path: str) -> Node | None:
        node_id = m.tree.resolve(os.fsencode(path))
        return None if node_id is None else m.tree.node(node_id)

    def seen(self, m: Mounted, path: str) -> bytes | None:
        node = self.find(m, path)
        return None if node is None else self.local_content(m, node)

    @property
    def is_flat(self) -> bool:
        return not self.storage.info.empty_directories

    def prune(self, path: str) -> None:
        if self.is_flat:
            self.storage._below.prune(RelPath(path))

    def refuse_if_flat(self) -> None:
        if self.is_flat:
            raise Unsupported("an object store has no such thing")

    # Operations

    async def act(self, m: Mounted, op: Op) -> None:
        self.note_tokens()
        try:
            with trio.fail_after(100):
                done = await getattr(self, f"on_{op[0]}")(m, *op[1:])
        except MountsyncError as error:
            self.log.append(f"{op} -> {error!r}")
        else:
            self.log.append(f"{op} {done or ''}")
            if op[0].startswith("local_"):
                self.local_acts += 1
            if op[0].startswith("remote_"):
                self.remote_acts += 1

    async def on_local_write(self, m: Mounted, path: str) -> str:
        flags = os.O_RDWR | os.O_CREAT
        handle = await m.open(path, flags)  # may wait for the remote: look only now
        await self._overwrite(m, handle)
        m.close(handle)
        return ""

    async def _overwrite(self, m: Mounted, handle: Any) -> None:
        old = self.local_content(m, handle.file.node)
        linked = handle.file.node.nlink
        m.volume.setattr(handle.file.node.id, size=0, handle=handle)
        data = self.fresh()
        m.volume.write(handle, 0, data)
        if linked:
            self.give_up(old)
        else:
            self.given_up.add(data)

    async def on_local_hold(self, m: Mounted, path: str) -> str:
        """A program writes and does not close yet."""
        handle = await m.open(path, os.O_RDWR | os.O_CREAT)
        self.handles.append(handle)
        await self._overwrite(m, handle)
        return ""

    async def on_local_let_go(self, m: Mounted) -> str:
        while self.handles:
            m.close(self.handles.pop())
        return ""

    async def on_local_save(self, m: Mounted, path: str) -> str:
        """What an editor does: a temporary file, renamed over the old one."""
        data = self.fresh()
        try:
            await m.write(".goutputstream-XYZ", data)
            await m.exists(path)  # what has to be fetched for that is here now
            old = self.seen(m, path)
            await m.rename(".goutputstream-XYZ", path)
            self.give_up(old)
        except MountsyncError:
            self.given_up.add(data)
            if self.find(m, ".goutputstream-XYZ") is not None:
                await m.unlink(".goutputstream-XYZ")
            raise
        return ""

    async def on_local_unlink(self, m: Mounted, path: str) -> str:
        node = await m.lookup(path)
        old = self.local_content(m, node)
        place = m.tree.names(node.id)[0]
        m.volume.unlink(*place)
        if not node.nlink:
            self.give_up(old)
        return ""

    async def on_local_mkdir(self, m: Mounted, path: str) -> str:
        await m.mkdir(path)
        return ""

    async def on_local_rmdir(self, m: Mounted, path: str) -> str:
        await m.rmdir(path)
        return ""

    async def on_local_symlink(self, m: Mounted, path: str) -> str:
        self.refuse_if_flat()  # a link NAME is an object of another name there: both can exist
        await m.symlink(path, f"target-{next(self.numbers)}")
        return ""

    async def on_local_link(self, m: Mounted, path: str, other: str) -> str:
        await m.link(path, other)
        return ""

    async def on_local_chmod(self, m: Mounted, path: str) -> str:
        await m.setattr(path, mode=0o700 + next(self.numbers) % 0o70)
        return ""

    async def on_local_rename(self, m: Mounted, path: str, other: str) -> str:
        source, target = await m.lookup(path), await m.lookup(other) if await m.exists(other) else None
        over = None if target is None or target is source else self.local_content(m, target)
        last = target is not None and target.nlink == 1
        await m.rename(path, other)
        if last:
            self.give_up(over)
        return ""

    async def on_local_read(self, m: Mounted, path: str) -> str:
        node = self.find(m, path)
        before = None if node is None else self.local_content(m, node)
        data = await m.read(path)
        assert data in self.written or data == b"", f"nobody wrote {data!r}"
        return f"{before!r}"

    async def on_remote_write(self, m: Mounted, path: str) -> str:
        old = self.remote_content(path)
        data = self.fresh()
        try:
            await self.storage._below.write(RelPath(path), BytesSource(data))
        except MountsyncError:
            self.given_up.add(data)
            raise
        self.give_up(old)
        return ""

    async def on_remote_delete(self, m: Mounted, path: str) -> str:
        old = self.remote_content(path)
        self.objects.delete(RelPath(path), None)
        self.prune(path)
        self.give_up(old)
        return ""

    async def on_remote_mkdir(self, m: Mounted, path: str) -> str:
        self.refuse_if_flat()
        self.objects.make_directory(RelPath(path))
        return ""

    async def on_remote_rmdir(self, m: Mounted, path: str) -> str:
        self.refuse_if_flat()
        self.objects.remove_directory(RelPath(path))
        return ""

    async def on_remote_symlink(self, m: Mounted, path: str) -> str:
        self.refuse_if_flat()
        old = self.remote_content(path)
        self.objects.link(RelPath(path), f"there-{next(self.numbers)}", mtime_ns=m.clock(), expect=None)
        self.give_up(old)
        return ""

    async def on_remote_chmod(self, m: Mounted, path: str) -> str:
        self.refuse_if_flat()
        self.objects.set_mode(RelPath(path), 0o700 + next(self.numbers) % 0o70)
        return ""

    async def on_remote_move(self, m: Mounted, path: str, other: str) -> str:
        old = self.remote_content(other)
        self.objects.move(RelPath(path), RelPath(other), expect=None, replace=None)
        self.prune(path)
        if path != other:
            self.give_up(old)
        return ""

    async def on_steps(self, m: Mounted, count: int) -> str:
        for _ in range(count):
            await trio.lowlevel.checkpoint()
        return ""

    async def on_wait(self, m: Mounted, seconds: float) -> str:
        await trio.sleep(seconds)
        return ""

    async def on_offline(self, m: Mounted) -> str:
        self.storage.faults.offline = True
        return ""

    async def on_online(self, m: Mounted) -> str:
        self.storage.faults.offline = False
        return ""

    async def on_poll(self, m: Mounted) -> str:
        m.session.scan_soon()
        return ""

    async def on_flush(self, m: Mounted) -> str:
        if m.condition.halted is not None:
            await m.steering.resume(confirm=True)
        await m.flush()
        return ""

    # The whole

    async def run(self, ops: list[Op]) -> None:
        left = iter(ops)
        more = True
        while more:
            more = False
            async with mounted(self.folder, self.storage, tuning=self.tuning) as m:
                for op in left:
                    if op[0] == "crash":
                        self.log.append("crash")
                        self.crashes += 1
                        self._lose_unsaved(m)
                        more = True
                        raise Killed
                    await self.act(m, op)
                await self.finish(m)

    def _lose_unsaved(self, m: Mounted) -> None:
        """What was written and not closed may be gone, and so may be what it was to replace."""
        for handle in self.handles:
            self.give_up(self.local_content(m, handle.file.node))
        self.handles.clear()

    async def finish(self, m: Mounted) -> None:
        self.storage.faults.offline = False
        await self.on_local_let_go(m)
        await self.flush(m)
        local, remote = await m.local_tree(), await m.remote_tree()
        if self.is_flat:
            local, remote = without_empty(local), with_links(remote)
        assert local == remote, f"the sides differ: {local.items() ^ remote.items()} {m.pending()}"
        assert m.pending() == [], "something is pending"
        assert m.session.problems == {}, "there are problems"
        contents = {data for data in local.values() if isinstance(data, bytes)}
        assert self.written - self.given_up <= contents, "a content is lost"
        assert contents <= self.written | {b""}, "a content was invented"
        m.check()
        self.tree = remote
        await self.stays(m, remote)

    async def flush(self, m: Mounted) -> None:
        for _ in range(4):
            try:
                await m.flush(timeout=1000)
            except Halted:
                await m.steering.resume(confirm=True)
            else:
                return
        raise AssertionError("it halts again and again")

    async def stays(self, m: Mounted, remote: Any) -> None:
        effects, rows = self.storage.faults.effects, m.database.rows("SELECT * FROM base")
        await m.flush(timeout=1000)
        await trio.sleep(120)
        assert self.storage.faults.effects == effects, f"more was done: {self.storage.faults.log[effects:]}"
        assert m.database.rows("SELECT * FROM base") == rows
        now = await m.remote_tree()
        assert (with_links(now) if self.is_flat else now) == remote


def without_empty(tree: dict[str, Any]) -> dict[str, Any]:
    """Without directories in which no file is."""
    held = {str(up) for path, data in tree.items() if data is not None for up in ancestors(RelPath(path))}
    return {path: data for path, data in tree.items() if data is not None or path in held}


def with_links(tree: dict[str, Any]) -> dict[str, Any]:
    """Objects that stand for links, as links."""
    end = ".rclonelink"
    return {
        path.removesuffix(end): os.fsdecode(data) if path.endswith(end) else data
        for path, data in tree.items()
    }


def play(
    ops: list[Op], *, tuning: Tuning | None = None, without: tuple[type, ...] = (), flat: bool = False
) -> History:
    """Runs a history from an empty remote; an assertion carries the log."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="mountsync-test-", dir=memory if memory.is_dir() else None))
    storage = failing(FlatStorage() if flat else MemoryStorage(), without=without)
    history = History(folder, storage, tuning or Tuning(host="here", write_delay=1.0, poll_interval=30.0))
    try:
        trio.run(history.run, ops, clock=MockClock(autojump_threshold=0))
    except BaseException as error:
        error.add_note("\n".join(history.log))
        raise
    finally:
        shutil.rmtree(folder)
    return history
