"""Random histories of a pair: what people do on both sides, before, between and during runs.

Every content that is written is unlike all others. A content is *given up* when somebody overwrites or
deletes it at the place where it is; all others must exist on both sides in the end, whatever happened.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path
from typing import Any

import trio

from mountsync.errors import MountsyncError, NotFound
from mountsync.model.entry import Kind
from mountsync.paths import RelPath, is_within
from mountsync.storage.api import ABSENT
from mountsync.storage.sources import BytesSource
from tests.parts.bodies import get
from tests.parts.clocks import working_clock
from tests.parts.failing import Crashed
from tests.parts.pairs import OLD_NS, Pair, local_pair, memory_pair

PATHS = ("a", "b", "d", "e", "d/a", "d/b", "d/s", "e/a", "e/s", "d/s/a", "d/s/b")
Op = tuple[Any, ...]


class PairHistory:
    """One history; `play` runs it."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self.written: set[bytes] = set()
        self.given_up: set[bytes] = set()
        self.numbers = itertools.count(1)
        self.log: list[str] = []
        self.saved: bytes | None = None
        self.limit: float = 1000

    def side(self, name: str) -> Any:
        return (self.pair.a if name == "a" else self.pair.b)._below

    async def seen(self, storage: Any, path: str) -> Any:
        """What somebody who looks at a path expects there: nobody gives up what he has not seen.

        It is asked before the content: a run may bring another one at any moment.
        """
        entry = await storage.stat(RelPath(path))
        return ABSENT if entry is None else entry.token

    async def content(self, storage: Any, path: str) -> set[bytes]:
        """Everything at and below a path."""
        entry = await storage.stat(RelPath(path))
        if entry is None or entry.kind is Kind.SYMLINK:
            return set()
        if entry.kind is Kind.FILE:
            return {await get(storage, path)}
        found: set[bytes] = set()
        async with storage.list(RelPath(path), recursive=True) as batches:
            async for batch in batches:
                for at, item in batch:
                    if item.kind is Kind.FILE:
                        found.add(await get(storage, at))
        return found

    # Changes

    async def change(self, side: str, op: Op) -> None:
        try:
            await getattr(self, f"on_{op[0]}")(self.side(side), *op[1:])
        except MountsyncError as error:
            self.log.append(f"{side} {op} -> {error!r}")
        else:
            self.log.append(f"{side} {op}")

    async def on_write(self, storage: Any, path: str) -> None:
        number = next(self.numbers)
        data = b"content %d" % number + b"." * (number % 3)
        seen, before = await self.seen(storage, path), await self.content(storage, path)
        when = OLD_NS + number * 10**9
        await storage.write(RelPath(path), BytesSource(data), mtime_ns=when, expect=seen)
        self.written.add(data)
        self.given_up |= before

    async def on_delete(self, storage: Any, path: str) -> None:
        seen, before = await self.seen(storage, path), await self.content(storage, path)
        await storage.delete(RelPath(path), expect=None if seen is ABSENT else seen)
        self.given_up |= before

    async def on_mkdir(self, storage: Any, path: str) -> None:
        await storage.make_directory(RelPath(path))

    async def on_rmtree(self, storage: Any, path: str) -> None:
        entry = await storage.stat(RelPath(path))
        if entry is None or entry.kind is not Kind.DIRECTORY:
            raise NotFound("no directory", path=path)
        found = []
        async with storage.list(RelPath(path), recursive=True) as batches:
            async for batch in batches:
                found += batch
        for at, item in sorted(found, reverse=True):
            if item.kind is Kind.DIRECTORY:
                await storage.remove_directory(at)
                continue
            before = await self.content(storage, at)
            await storage.delete(at, expect=item.token)
            self.given_up |= before
        await storage.remove_directory(RelPath(path))

    async def on_symlink(self, storage: Any, path: str) -> None:
        seen, before = await self.seen(storage, path), await self.content(storage, path)
        await storage.make_symlink(RelPath(path), f"target-{next(self.numbers)}", expect=seen)
        self.given_up |= before

    async def on_move(self, storage: Any, path: str, other: str) -> None:
        if is_within(RelPath(other), RelPath(path)):
            raise NotFound("into itself", path=path)
        seen, before = await self.seen(storage, other), await self.content(storage, other)
        await storage.move(RelPath(path), RelPath(other), replace=seen)
        self.given_up |= before

    # Runs

    async def run(self, op: Op) -> None:
        kind = op[0]
        if kind == "sync":
            await self.sync()
        elif kind == "crash":
            _, side, nth, after = op
            storage = self.pair.a if side == "a" else self.pair.b
            storage.faults.crash_at(nth, after=after)
            await self.sync()
        elif kind == "during":
            _, side, nth, seen, change = op
            storage = self.pair.a if side == "a" else self.pair.b
            storage.faults.meanwhile(nth, lambda: self.change(seen, change))
            await self.sync()
        elif kind == "state":
            self.spoil_state(op[1])
        else:
            await self.change(op[1], (kind, *op[2:]))

    async def sync(self) -> None:
        try:
            # On a disk the clock of the test jumps while threads work: no limit tells anything there.
            with trio.fail_after(self.limit):
                report = await self.pair.sync(confirmed=True)
        except Crashed:
            self.log.append("crashed")
        except BaseExceptionGroup as group:
            assert group.split(Crashed)[1] is None, group
            self.log.append("crashed")
        else:
            self.log.append(f"sync {report.exit_code} {[type(d.action).__name__ for d in report.done]}")
        for storage in (self.pair.a, self.pair.b):
            storage.faults.crashed = False
            storage.faults._planned.clear()
            storage.faults._meanwhile.clear()

    def spoil_state(self, how: str) -> None:
        """The record of the last sync is lost, damaged, or put back from a backup."""
        file = self.pair.folder / "pair.db"
        self.log.append(f"state {how}")
        if how == "keep":
            self.saved = file.read_bytes() if file.exists() else None
        elif how == "back" and self.saved is not None:
            file.write_bytes(self.saved)
        elif how == "lose":
            file.unlink(missing_ok=True)
        elif how == "damage" and file.exists():
            data = bytearray(file.read_bytes())
            data[len(data) // 2 :] = bytes(len(data) - len(data) // 2)
            file.write_bytes(data)

    async def finish(self) -> None:
        for _ in range(6):
            report = await self.pair.sync(confirmed=True)
            assert report.exit_code == 0, report.problems
            if not report.done:
                break
        tree = await self.pair.agreed()
        contents = {data for data in tree.values() if isinstance(data, bytes)}
        assert self.written - self.given_up <= contents, "a content is lost"
        assert contents <= self.written, "a content was invented"
        await self.rests()

    async def rests(self) -> None:
        file = self.pair.folder / "pair.db"
        before = self.pair.a.faults.effects, self.pair.b.faults.effects, file.exists() and file.read_bytes()
        report = await self.pair.sync(confirmed=True)
        assert not report.done
        assert before == (
            self.pair.a.faults.effects,
            self.pair.b.faults.effects,
            file.exists() and file.read_bytes(),
        )


async def _play(history: PairHistory, ops: list[Op]) -> None:
    for op in ops:
        await history.run(op)
    await history.finish()


def play(ops: list[Op], *, local: bool = False) -> PairHistory:
    """Runs a history from empty sides; an assertion carries the log."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="mountsync-test-", dir=memory if memory.is_dir() else None))
    history = PairHistory(local_pair(folder) if local else memory_pair(folder))
    history.limit = float("inf") if local else 1000
    try:
        with working_clock(0.01 if local else 0) as clock:
            trio.run(_play, history, ops, clock=clock)
    except BaseException as error:
        error.add_note("\n".join(history.log))
        raise
    finally:
        shutil.rmtree(folder)
    return history
