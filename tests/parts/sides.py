"""Two sides that other programs change, and a real job that keeps them in sync."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import trio

from mountsync.engine.pair.job import Job, JobSettings
from mountsync.engine.pair.options import PairOptions
from mountsync.errors import PathError, Stale
from mountsync.model.status import ConflictStatus, CycleStatus, ProblemStatus, Status
from mountsync.paths import RelPath
from mountsync.storage.local import LocalStorage
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import put
from tests.parts.failing import failing
from tests.parts.pairs import tree_of

PATIENCE_S = 60.0
KINDS = ("local-local", "memory-memory", "local-memory")
"""Between which storages: all that the pinned behaviours are shown over."""


class FolderSide:
    """A folder, changed by system calls as any other program does it."""

    def __init__(self, folder: Path, *, without: tuple[type, ...] = ()) -> None:
        folder.mkdir(parents=True)
        self.folder = folder
        self.storage = failing(LocalStorage(str(folder)), without=without)

    async def put(self, path: str, data: bytes) -> None:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    async def append(self, path: str, data: bytes) -> None:
        with open(self.folder / path, "ab") as file:
            file.write(data)

    async def make_directory(self, path: str) -> None:
        (self.folder / path).mkdir()

    async def remove(self, path: str) -> None:
        (self.folder / path).unlink()

    async def remove_directory(self, path: str) -> None:
        (self.folder / path).rmdir()

    async def remove_tree(self, path: str) -> None:
        shutil.rmtree(self.folder / path)

    async def move(self, source: str, target: str) -> None:
        (self.folder / source).rename(self.folder / target)

    async def move_in(self, path: str, tree: dict[str, bytes]) -> None:
        """Makes a tree elsewhere and renames it to here."""
        outside = self.folder.with_name(f"{self.folder.name}-outside")
        for name, data in tree.items():
            (outside / name).parent.mkdir(parents=True, exist_ok=True)
            (outside / name).write_bytes(data)
        outside.rename(self.folder / path)

    async def move_out(self, path: str) -> None:
        """Renames something to a place outside."""
        (self.folder / path).rename(self.folder.with_name(f"{self.folder.name}-left"))


class MemorySide:
    """The same in memory."""

    def __init__(self, name: str, *, without: tuple[type, ...] = ()) -> None:
        self._below = MemoryStorage(name)
        self.storage = failing(self._below, without=without)

    async def put(self, path: str, data: bytes) -> None:
        await put(self._below, path, data)

    async def append(self, path: str, data: bytes) -> None:
        await self.put(path, (await tree_of(self._below))[path] + data)

    async def make_directory(self, path: str) -> None:
        await self._below.make_directory(RelPath(path))

    async def remove(self, path: str) -> None:
        await self._below.delete(RelPath(path))

    async def remove_directory(self, path: str) -> None:
        await self._below.remove_directory(RelPath(path))

    async def remove_tree(self, path: str) -> None:
        tree = await tree_of(self._below)
        for at in sorted((at for at in tree if f"{at}/".startswith(f"{path}/")), reverse=True):
            await (self.remove_directory(at) if tree[at] is None else self.remove(at))

    async def move(self, source: str, target: str) -> None:
        await self._below.move(RelPath(source), RelPath(target), replace=None)

    async def move_in(self, path: str, tree: dict[str, bytes]) -> None:
        for name, data in tree.items():
            await self.put(f"{path}/{name}", data)

    async def move_out(self, path: str) -> None:
        tree = await tree_of(self._below)
        await (self.remove(path) if tree[path] is not None else self.remove_tree(path))


def new_side(kind: str, folder: Path, name: str, **options: Any) -> FolderSide | MemorySide:
    """A side of the kind `local` or `memory`."""
    return FolderSide(folder / name, **options) if kind == "local" else MemorySide(name, **options)


@dataclass
class Told:
    """Everything that a job said, in order."""

    states: list[tuple[str, str | None]] = field(default_factory=list)
    changes: list[Any] = field(default_factory=list)
    conflicts: list[ConflictStatus] = field(default_factory=list)
    problems: list[ProblemStatus] = field(default_factory=list)
    cycles: list[CycleStatus] = field(default_factory=list)

    def state(self, state: str, reason: str | None) -> None:
        self.states.append((state, reason))

    def change(self, done: Any) -> None:
        self.changes.append(done)

    def conflict(self, conflict: ConflictStatus) -> None:
        self.conflicts.append(conflict)

    def problem(self, problem: ProblemStatus) -> None:
        self.problems.append(problem)

    def cycle(self, done: CycleStatus) -> None:
        self.cycles.append(done)


class KeptPair:
    """Two sides and a job between them; `running` keeps them in sync as long as its block runs."""

    def __init__(self, state: Path, a: Any, b: Any, *, name: str = "test", **options: Any) -> None:
        self.a, self.b = a, b
        self.told = Told()
        self._settings = JobSettings(
            name=name,
            a="a",
            b="b",
            options=PairOptions(name=name, host="here", **options),
            pair_id=f"pair-{name}",
            state_dir=state / name,
            write_delay=0.02,
        )
        self.job = Job(self._settings, self._open, self.told)

    async def _open(self, spec: str) -> Any:
        await trio.lowlevel.checkpoint()
        return (self.a if spec == "a" else self.b).storage

    @asynccontextmanager
    async def running(self) -> AsyncIterator[KeptPair]:
        """Until the end of the block; entered when the first run is over. Each time it is a new job."""
        self.job = Job(self._settings, self._open, self.told)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.job.run)
            await self.until_state("settled")
            yield self
            nursery.cancel_scope.cancel()

    async def status(self) -> Status:
        return await self.job.status()

    async def until(self, holds: Callable[[], Awaitable[bool]]) -> None:
        """Returns when it holds; the patience is long, for a machine that is busy."""
        with trio.fail_after(PATIENCE_S):
            while not await holds():
                await trio.sleep(0.02)

    async def until_state(self, state: str) -> None:
        async def holds() -> bool:
            return (await self.status()).state == state

        await self.until(holds)

    async def until_both(self, tree: dict[str, Any]) -> None:
        """Both sides hold exactly this."""
        await self.until_trees(tree, tree)

    async def until_trees(self, a: dict[str, Any], b: dict[str, Any]) -> None:
        """The sides hold exactly this."""

        async def holds() -> bool:
            try:
                return await self.trees() == (a, b)
            except (PathError, Stale):
                return False  # it changed while it was looked at

        try:
            await self.until(holds)
        except trio.TooSlowError:
            assert await self.trees() == (a, b)

    async def trees(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return await tree_of(self.a.storage), await tree_of(self.b.storage)

    async def quiet(self) -> None:
        """A whole run that finds nothing more to do: whatever was to come has come."""
        await self.job.flush(timeout=PATIENCE_S)

    async def conflicts(self) -> list[str]:
        return [conflict.path for conflict in await self.job.conflicts()]
