"""Two storages and the state of their pair, as a test wants them."""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

from mountsync.engine.pair.opening import opened_state
from mountsync.engine.pair.options import PairOptions
from mountsync.engine.pair.report import Report
from mountsync.engine.pair.run import PairRun
from mountsync.model.entry import Kind
from mountsync.model.plan import ConflictPolicy
from mountsync.paths import RelPath, is_ours
from mountsync.storage.api import SupportsSymlinks
from mountsync.storage.local import LocalStorage
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import get, items, put
from tests.parts.failing import failing

OLD_NS = 1_700_000_000_000_000_000


class Pair:
    """A pair of storages; `sync` runs it once, with its state kept in `folder`."""

    def __init__(self, folder: Path, a: Any, b: Any, **options: Any) -> None:
        self.folder = folder
        self.a, self.b = a, b
        self.options = {"name": "test", "host": "here", "conflict": ConflictPolicy.KEEP_BOTH} | options
        self._seconds = itertools.count(1)
        self.skew_ns = 0

    def clock_ns(self) -> int:
        return time.time_ns() + self.skew_ns

    async def sync(self, *, dry_run: bool = False, overrides: Any = None, **options: Any) -> Report:
        """One run; each has another stamp."""
        self.skew_ns += 1_000_000_000
        with opened_state(self.folder, dry_run=dry_run) as state:
            chosen = PairOptions(**(self.options | options))
            run = PairRun(
                self.a,
                self.b,
                state,
                "pair",
                chosen,
                dry_run=dry_run,
                overrides=overrides,
                clock_ns=self.clock_ns,
            )
            return await run.run()

    async def trees(self) -> tuple[dict[str, Any], dict[str, Any]]:
        return await tree_of(self.a), await tree_of(self.b)

    async def agreed(self) -> dict[str, Any]:
        """What both sides hold; fails when they differ."""
        a, b = await self.trees()
        assert a == b
        return a


async def tree_of(storage: Any, *, ours: bool = False) -> dict[str, Any]:
    """Path to content, None for a directory, `-> text` for a link."""
    as_objects = not isinstance(storage, SupportsSymlinks)
    storage = getattr(storage, "_below", storage)
    found: dict[str, Any] = {}
    for path, entry in sorted((await items(storage)).items()):
        if is_ours(RelPath(path)) and not ours:
            continue
        if as_objects and path.endswith(".rclonelink"):
            found[path.removesuffix(".rclonelink")] = f"-> {(await get(storage, path)).decode()}"
        elif entry.kind is Kind.FILE:
            found[path] = await get(storage, path)
        else:
            found[path] = None if entry.kind is Kind.DIRECTORY else f"-> {entry.target}"
    return found


async def kept(storage: Any) -> dict[str, Any]:
    """What is in the backups, by path, whatever the run."""
    tree = await tree_of(storage, ours=True)
    return {
        path.split("/", 4)[4]: data
        for path, data in tree.items()
        if path.startswith(".mountsync/backups/") and path.count("/") >= 4 and data is not None
    }


def memory_pair(folder: Path, **options: Any) -> Pair:
    return Pair(folder, failing(MemoryStorage("a")), failing(MemoryStorage("b")), **options)


def local_pair(folder: Path, **options: Any) -> Pair:
    """Two folders `a` and `b` of `folder`."""
    sides = []
    for name in "ab":
        (folder / name).mkdir(exist_ok=True)
        sides.append(failing(LocalStorage(str(folder / name))))
    return Pair(folder / "state", *sides, **options)


async def old(storage: Any, path: str, data: bytes = b"", *, age: int = 0) -> None:
    """Writes a file whose time is long ago, so that its token is trusted."""
    below = getattr(storage, "_below", storage)
    await put(below, path, data, mtime_ns=OLD_NS + age * 1_000_000_000)
