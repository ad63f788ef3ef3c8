"""A whole mount without a kernel: volume, engine and a storage, in this process, under a clock of trio.

    async with mounted(tmp_path, storage) as m:
        await m.write("a/b", b"text")
        await m.flush()
        assert await m.remote_tree() == {"a": None, "a/b": b"text"}

Trees are dicts: path to bytes of a file, to a str with a link's text, or to None for a directory. `Killed`
raised in the block leaves the mount as `kill -9` would; `mounted` on the same folder starts it again.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import trio

from mountsync.content.store import Store
from mountsync.engine.assembly import Engine, Tuning
from mountsync.engine.condition import Condition
from mountsync.engine.steering import Steering
from mountsync.engine.storage_replica import StorageReplica
from mountsync.engine.transfers import Transfers
from mountsync.errors import MountsyncError, NotFound, PathError
from mountsync.formats.local_names import LocalNames
from mountsync.model.entry import Kind
from mountsync.model.status import Status
from mountsync.paths import RelPath, is_ours
from mountsync.state.base import Base
from mountsync.state.database import Database
from mountsync.state.journal import Journal
from mountsync.state.tree import ROOT_ID, Node, Tree
from mountsync.storage.api import Storage
from mountsync.vfs import fsck
from mountsync.vfs.absent import ChildrenAbsent, ContentAbsent
from mountsync.vfs.core import Owner, Rules
from mountsync.vfs.handles import Handle
from mountsync.vfs.recovery import mark_clean, recover
from mountsync.vfs.volume import Volume

EPOCH_NS = 1_800_000_000_000_000_000
T = TypeVar("T")
Tree_ = dict[str, bytes | str | None]


def test_clock() -> int:
    """Nanoseconds that go with trio's clock, so that a mock clock moves them too."""
    return EPOCH_NS + int(trio.current_time() * 1e9)


test_clock.__test__ = False  # type: ignore[attr-defined]


@dataclass
class Heard:
    """What the engine told its listeners."""

    states: list[tuple[str, str | None]] = field(default_factory=list)
    conflicts: list[Any] = field(default_factory=list)
    problems: list[Any] = field(default_factory=list)
    cycles: list[Any] = field(default_factory=list)

    def state(self, state: str, reason: str | None) -> None:
        self.states.append((state, reason))

    def conflict(self, conflict: Any) -> None:
        self.conflicts.append(conflict)

    def problem(self, problem: Any) -> None:
        self.problems.append(problem)

    def cycle(self, done: Any) -> None:
        self.cycles.append(done)


class Mounted:
    """One life of a mount. Paths are text relative to the root."""

    def __init__(
        self,
        folder: Path,
        storage: Storage,
        *,
        clock: Callable[[], int] = test_clock,
        boot: str = "boot-1",
        disk: Callable[[Store], None] | None = None,
        commit: Callable[[Database], None] | None = None,
        excluded: Callable[[RelPath], bool] | None = None,
        kernel: Any = None,
    ) -> None:
        """`disk` and `commit` may put a seam of a test into the store and the database."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.storage, self.clock = folder, storage, clock
        self.database = Database(str(folder / "state.db"))
        self.database._sync_s = 1e-6  # the first sync is not worth a thread, so that runs can be repeated
        if commit is not None:
            commit(self.database)
        self.tree, self.journal, self.base = Tree(self.database), Journal(self.database), Base(self.database)
        self.store = Store(str(folder / "content"))
        if disk is not None:
            disk(self.store)
        self.recovered = recover(
            self.database, self.tree, self.journal, self.store, now_ns=clock(), boot=boot
        )
        local = LocalNames()
        self.volume = Volume(
            self.database,
            self.tree,
            self.journal,
            self.base,
            self.store,
            rules=Rules(
                names=storage.info.names,
                owner=Owner(1000, 1000, 0o022),
                local_only=lambda name: local.holds_name(name.decode("utf-8", "surrogateescape")),
            ),
            clock=clock,
            kernel=kernel,
        )

        def hidden(path: RelPath, /, *, is_directory: bool) -> bool:
            return local.holds(path) or (excluded is not None and excluded(path))

        self.remote = StorageReplica(storage, excluded=hidden)
        self.heard = Heard()
        self.condition = Condition(self._condition_changed)
        self.ended = trio.Event()
        self.steering = Steering(
            name="test",
            remote="test:",
            mountpoint="/nowhere",
            volume=self.volume,
            condition=self.condition,
            transfers=Transfers(),
            announcer=self.heard,
            end=self.ended.set,
        )
        self.engine: Engine

    def wire(self, nursery: trio.Nursery, tuning: Tuning, **more: Any) -> None:
        self.engine = Engine(self.volume, self.remote, self.steering, nursery, tuning, **more)

    def _condition_changed(self) -> None:
        self.steering.condition_changed()

    @property
    def session(self):
        return self.engine.session

    @property
    def dispatcher(self):
        return self.engine.session.dispatcher

    # What programs do

    async def _ask(self, call: Callable[[], T]) -> T:
        """What a handler of the kernel's room does: fetches what is absent and asks again."""
        for _ in range(12):
            try:
                return call()
            except ContentAbsent as absent:
                await self.engine.fetcher.content(absent.node, absent.start, absent.stop)
            except ChildrenAbsent as absent:
                await self.engine.fetcher.children(absent.node)
        raise AssertionError("no progress")

    async def lookup(self, path: str) -> Node:
        node = self.tree.node(ROOT_ID)
        for part in path.split("/") if path else ():
            found = await self._ask(partial(self.volume.lookup, node.id, os.fsencode(part)))
            if found is None:
                raise NotFound("there is no such name", path=path)
            node = found
        return node

    async def exists(self, path: str) -> bool:
        try:
            await self.lookup(path)
        except NotFound:
            return False
        return True

    async def _place(self, path: str) -> tuple[int, bytes]:
        above, _, name = path.rpartition("/")
        return (await self.lookup(above)).id, os.fsencode(name)

    async def open(self, path: str, flags: int = os.O_RDWR) -> Handle:
        """Opens, with O_CREAT makes, a file."""
        parent, name = await self._place(path)
        found = await self._ask(lambda: self.volume.lookup(parent, name))
        if found is None:
            if not flags & os.O_CREAT:
                raise NotFound("there is no such name", path=path)
            made = await self._ask(lambda: self.volume.create(parent, name, 0o644, flags, 1000, 1000))
            return made[0]
        if found.is_symlink:
            raise PathError("a kernel would follow the link", path=path)
        return await self._ask(lambda: self.volume.open(found.id, flags))

    async def write_to(self, handle: Handle, offset: int, data: bytes) -> None:
        await self._ask(lambda: self.volume.write(handle, offset, data))

    def close(self, handle: Handle) -> None:
        self.volume.flush(handle)
        self.volume.release(handle)

    async def write(self, path: str, data: bytes) -> None:
        """Opens with truncation, writes, closes."""
        handle = await self.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if data:
            await self.write_to(handle, 0, data)
        self.close(handle)

    async def append(self, path: str, data: bytes) -> None:
        handle = await self.open(path)
        await self.write_to(handle, handle.file.node.size, data)
        self.close(handle)

    async def read_from(self, handle: Handle, offset: int, size: int) -> bytes:
        return await self._ask(lambda: self.volume.read(handle, offset, size))

    async def read(self, path: str) -> bytes:
        handle = await self.open(path, os.O_RDONLY)
        try:
            return await self.read_from(handle, 0, handle.file.node.size)
        finally:
            self.close(handle)

    async def mkdir(self, path: str, mode: int = 0o755) -> None:
        parent, name = await self._place(path)
        await self._ask(lambda: self.volume.mkdir(parent, name, mode, 1000, 1000))

    async def symlink(self, path: str, target: str) -> None:
        parent, name = await self._place(path)
        await self._ask(lambda: self.volume.symlink(parent, name, os.fsencode(target), 1000, 1000))

    async def link(self, old: str, new: str) -> None:
        node = await self.lookup(old)
        parent, name = await self._place(new)
        await self._ask(lambda: self.volume.link(node.id, parent, name))

    async def unlink(self, path: str) -> None:
        parent, name = await self._place(path)
        await self._ask(lambda: self.volume.unlink(parent, name))

    async def rmdir(self, path: str) -> None:
        parent, name = await self._place(path)
        await self._ask(lambda: self.volume.rmdir(parent, name))

    async def rename(self, old: str, new: str, flags: int = 0) -> None:
        parent, name = await self._place(old)
        new_parent, new_name = await self._place(new)
        await self._ask(lambda: self.volume.rename(parent, name, new_parent, new_name, flags))

    async def setattr(self, path: str, **values: int) -> None:
        node = await self.lookup(path)
        await self._ask(lambda: self.volume.setattr(node.id, **values))

    async def names(self, path: str = "") -> list[str]:
        node = await self.lookup(path)
        return [os.fsdecode(name) for name, _ in await self._ask(lambda: self._children(node))]

    def _children(self, node: Node) -> list[tuple[bytes, Node]]:
        if not node.listed:
            raise ChildrenAbsent(node.id)
        return self.tree.children(node.id)

    async def local_tree(self, path: str = "") -> Tree_:
        """All that a program would find, cold contents fetched."""
        found: Tree_ = {}
        for name in await self.names(path):
            at = f"{path}/{name}" if path else name
            node = await self.lookup(at)
            if stat.S_ISDIR(node.mode):
                found[at] = None
                found |= await self.local_tree(at)
            elif stat.S_ISLNK(node.mode):
                found[at] = os.fsdecode(node.target or b"")
            else:
                found[at] = await self.read(at)
        return found

    async def remote_tree(self) -> Tree_:
        return await storage_tree(self.storage)

    # What people do

    async def flush(self, timeout: float | None = None) -> Status:
        return await self.steering.flush(timeout=timeout)

    async def settled(self, patience: float = 3600.0) -> None:
        """Returns when nothing is pending by itself."""
        pause = 0.1
        with trio.fail_after(patience):
            while self.journal.count() or self.condition.cycles or self.session.has_hints:
                await trio.sleep(pause)
                pause = min(1.5 * pause, 5.0)

    def check(self) -> None:
        """The invariants of the tree hold, no journal row or base row is left without reason."""
        assert fsck.check(self.database, self.store) == []

    def pending(self) -> list[str]:
        rows = self.journal.rows()
        return [f"{os.fsdecode(self.tree.path(row.node) or b'?')} {row}" for row in rows]

    # Ends

    async def stop(self) -> None:
        """An orderly end."""
        with trio.CancelScope(shield=True):
            await self.volume.barrier()
        self.volume.close()
        mark_clean(self.database)
        self.database.close()

    def abandon(self) -> None:
        """The process died: what was committed stays, nothing else; descriptors are given back."""
        for opened in self.volume._opened.values():
            if opened.fd >= 0:
                os.close(opened.fd)
                opened.fd = -1
        os.close(self.database._log_fd)
        self.database._redo.close()
        self.database._connection.close(True)


async def storage_tree(storage: Storage) -> Tree_:
    """All that a storage holds, ours left out."""
    found: Tree_ = {}
    async with storage.list(RelPath(""), recursive=True) as batches:
        listed = [item async for batch in batches for item in batch]
    for path, entry in listed:
        assert hasattr(entry, "kind"), (path, entry)
        if is_ours(path):
            continue
        if entry.kind is Kind.DIRECTORY:
            found[path] = None
        elif entry.kind is Kind.SYMLINK:
            found[path] = entry.target
        else:
            async with storage.read(path) as pieces:
                found[path] = b"".join([piece async for piece in pieces])
    return found


QUICK = Tuning(host="here", write_delay=1.0, poll_interval=60.0)


@asynccontextmanager
async def mounted(
    folder: Path,
    storage: Storage,
    *,
    tuning: Tuning = QUICK,
    running: bool = True,
    opener: Callable[[], Awaitable[Storage]] | None = None,
    **more: Any,
) -> AsyncIterator[Mounted]:
    """Mounts for the time of the block. `running=False`: nothing goes on by itself but the volume."""
    made = Mounted(folder, storage, **more)
    dead = False
    try:
        async with trio.open_nursery() as nursery:
            made.wire(nursery, tuning, opener=opener)
            nursery.start_soon(made.volume.keep)
            if running:
                nursery.start_soon(made.engine.run)
            try:
                yield made
            except Killed:
                dead = True
            nursery.cancel_scope.cancel()
    except BaseException:
        made.abandon()
        raise
    if dead:
        made.abandon()
    else:
        await made.stop()


class Killed(BaseException):
    """Raise it in the block of `mounted`: the mount dies as by `kill -9`."""


async def expect_error(kind: type[MountsyncError], call: Awaitable[Any]) -> MountsyncError:
    """The error that awaiting `call` raises."""
    try:
        await call
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was not raised")
