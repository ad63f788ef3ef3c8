"""Programs that make, copy, remove and rename in turns while all that is uploaded, at random moments.

Nobody else touches the remote. In the end both sides and what is agreed must be just what the programs left,
whatever was under way when.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import structlog
import trio
from trio.testing import MockClock

from mountsync.engine.assembly import Tuning
from mountsync.errors import MountsyncError
from mountsync.storage.memory import MemoryStorage
from tests.engine.histories import with_links, without_empty
from tests.parts.effects import EFFECTS_ON_STORAGE
from tests.parts.mounted import Mounted, mounted, storage_tree
from tests.parts.stops import EXCHANGE, REMOTES, differing, inodes

trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True

TOPS = ("t", "u")
NAMES = ("a", "b", "s", "l")
FOLDERS = ("", "s", "s/s")
CONTENTS = (b"one", b"two", b"a longer content", b"", b"x" * 70_000)
"""Some are of one size, so that only their bytes tell them apart; one is too long for the database."""
OLD_NS = 1_700_000_000_123_456_789
LATENCIES = (0.0, 0.0, 0.0, 0.004, 0.02, 0.1)
"""How long a call of the remote takes, in seconds; 0 is only a few steps."""
PAUSES = (None, None, None, 0, 0, 0.01, 0.03, 0.2)
"""What a program waits between two requests: None is nothing, 0 a few steps."""


@dataclass(frozen=True)
class Churn:
    """One run: each of `programs` programs does `rounds` jobs. `empty`: in the end all is removed."""

    remote: str
    seed: int
    programs: int = 2
    rounds: int = 6
    empty: bool = False

    async def run(self, home: Path) -> None:
        chance = Random(self.seed)
        storage = REMOTES[self.remote].make(MemoryStorage()._tree)
        tuning = Tuning(
            host="here", write_delay=chance.choice((0.02, 0.3)), poll_interval=chance.choice((0.5, 30.0))
        )
        slow = _Slow(storage, chance)
        async with mounted(home, storage, tuning=tuning) as m:
            shell = Shell(m, chance)
            slow.act = partial(shell.job, hasty=True)
            async with trio.open_nursery() as nursery:
                for _ in range(self.programs):
                    nursery.start_soon(shell.work, self.rounds)
            slow.act = None
            if self.empty:
                for name in await m.names():
                    await shell.remove_all(name)
            await self._judge(m, shell.log)

    async def _judge(self, m: Mounted, log: list[str]) -> None:
        wanted, ids = await m.local_tree(), await inodes(m)
        try:
            await m.settled(patience=1000)
        except trio.TooSlowError:
            raise AssertionError(f"it does not settle: {m.pending()}\n" + rows_of(m)) from None
        await m.flush(timeout=1000)
        assert m.pending() == [], m.pending()
        local, there = await m.local_tree(), await storage_tree(m.storage)
        assert local == wanted, ("here", differing(local, wanted))
        local = {path: data for path, data in local.items() if "goutput" not in path}
        assert await inodes(m) == ids, ("other files here", await inodes(m), ids)
        if REMOTES[self.remote].flat:
            local, there = without_empty(local), with_links(there)
        assert there == local, ("there", differing(there, local))
        assert m.session.problems == {}
        assert m.session.conflicts == {}
        assert not [path for path in local if "conflict" in path]
        assert not m.database.value("SELECT count(*) FROM attempt")
        assert agreed_otherwise(m) == [], rows_of(m)
        if self.empty:
            assert m.base.count() == 0, rows_of(m)
            assert there == {}
        m.check()


def agreed_otherwise(m: Mounted) -> list[tuple[Any, ...]]:
    """What is agreed in no directory, or of something that is not at that place."""
    return m.database.rows(
        "SELECT b.parent, b.name, b.node FROM base b"
        " LEFT JOIN dentry d ON d.parent = b.parent AND d.name = b.name"
        " WHERE d.node IS NOT b.node OR NOT (b.parent = 1"
        " OR EXISTS (SELECT 1 FROM base p WHERE p.node = b.parent AND p.kind = 1))"
    )


def rows_of(m: Mounted) -> str:
    """The state, for a failure's message."""
    tables = ("journal", "base", "attempt", "dentry")
    return "\n".join(
        f"{table}: {row}" for table in tables for row in m.database.rows(f"SELECT * FROM {table}")
    )


class Shell:
    """What programs do, in steps between which other things happen. A request that fails ends a job."""

    def __init__(self, m: Mounted, chance: Random) -> None:
        self._m = m
        self._chance = chance
        self.log: list[str] = []
        self._hasty = False

    async def work(self, rounds: int) -> None:
        for _ in range(rounds):
            await self.job()
            await trio.sleep(self._chance.choice((0.0, 0.01, 0.05, 0.3, 2.0)))

    async def job(self, *, hasty: bool = False) -> None:
        """One thing that a program does; `hasty`: in one go, while somebody waits."""
        act = self._chance.choice(_JOBS)
        before, self._hasty = self._hasty, hasty
        try:
            await act(self)
        except MountsyncError as error:
            self.log.append(f"{act.__name__}: {error!r}")
        finally:
            self._hasty = before

    async def _pause(self) -> None:
        wait = None if self._hasty else self._chance.choice(PAUSES)
        if wait == 0:
            for _ in range(self._chance.randint(1, 30)):
                await trio.lowlevel.checkpoint()
        elif wait is not None:
            await trio.sleep(wait)

    async def _do(self, verb: str, *args: Any) -> Any:
        await self._pause()
        self.log.append(f"{trio.current_time():.4f} {verb} {args if verb != 'write_to' else '...'}")
        return await getattr(self._m, verb)(*args)

    # Jobs

    def _path(self) -> str:
        folder, name = self._chance.choice(FOLDERS), self._chance.choice(NAMES)
        return "/".join(part for part in (self._chance.choice(TOPS), folder, name) if part)

    async def copy(self) -> None:
        """`cp -a` of the same things again and again."""
        top = self._chance.choice(TOPS)
        for folder in FOLDERS:
            await self._make_folder(f"{top}/{folder}".rstrip("/"))
            await self._write(f"{top}/{folder}/a".replace("//", "/"), self._chance.choice(CONTENTS[:3]))
            if self._chance.random() < 0.5:
                await self._symlink(f"{top}/{folder}/l".replace("//", "/"), "a")
            if self._chance.random() < 0.3:
                await self._do("link", f"{top}/a", f"{top}/{folder}/b".replace("//", "/"))

    async def _make_folder(self, path: str) -> None:
        if not await self._m.exists(path):
            await self._do("mkdir", path)

    async def _symlink(self, path: str, target: str) -> None:
        if await self._m.exists(path):
            await self._do("unlink", path)
        await self._do("symlink", path, target)

    async def _write(self, path: str, data: bytes) -> None:
        handle = await self._do("open", path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        try:
            await self._do("write_to", handle, 0, data)
            await self._pause()
        finally:
            self._m.close(handle)
        if self._chance.random() < 0.7:
            await self._times(path)

    async def _times(self, path: str) -> None:
        await self._pause()
        self.log.append(f"{trio.current_time():.4f} utime {path}")
        await self._m.setattr(path, mtime_ns=OLD_NS)

    async def remove_top(self) -> None:
        await self.remove_all(self._chance.choice(TOPS))

    async def remove_folder(self) -> None:
        await self.remove_all(f"{self._chance.choice(TOPS)}/s")

    async def remove_all(self, path: str) -> None:
        """`rm -rf`."""
        node = await self._m.lookup(path)
        if not node.is_directory:
            await self._do("unlink", path)
            return
        for name in await self._do("names", path):
            await self.remove_all(f"{path}/{name}")
        await self._do("rmdir", path)

    async def make_anew(self) -> None:
        path = self._path()
        await self.remove_all(path)
        await self._write(path, self._chance.choice(CONTENTS))

    async def write(self) -> None:
        await self._write(self._path(), self._chance.choice(CONTENTS))

    async def save(self) -> None:
        """As editors do."""
        path = self._path()
        temporary = f"{path.rpartition('/')[0]}/.goutputstream-{self._chance.randint(1, 9)}"
        await self._write(temporary, self._chance.choice(CONTENTS))
        await self._do("rename", temporary, path)

    async def make_link(self) -> None:
        await self._symlink(self._path(), self._chance.choice("ab"))

    async def make_hard_link(self) -> None:
        await self._do("link", self._path(), self._path())

    async def make_folder(self) -> None:
        await self._do("mkdir", self._path())

    async def rename(self) -> None:
        await self._do("rename", self._path(), self._path())

    async def rename_top(self) -> None:
        """Also over an empty one, or away and back."""
        one, other = self._chance.sample((*TOPS, "v"), 2)
        await self._do("rename", one, other)

    async def replace_top(self) -> None:
        one, other = self._chance.sample(TOPS, 2)
        await self.remove_all(other)
        await self._do("rename", one, other)

    async def swap(self) -> None:
        await self._do("rename", self._path(), self._path(), EXCHANGE)

    async def swap_tops(self) -> None:
        await self._do("rename", *self._chance.sample(TOPS, 2), EXCHANGE)

    async def remove(self) -> None:
        await self.remove_all(self._path())

    async def chmod(self) -> None:
        await self._m.setattr(self._path(), mode=self._chance.choice((0o600, 0o640, 0o700)))


_JOBS: tuple[Callable[[Shell], Awaitable[None]], ...] = (
    *(Shell.copy, Shell.copy, Shell.copy, Shell.copy, Shell.remove_top, Shell.remove_top, Shell.remove_top),
    *(Shell.remove_folder, Shell.make_anew, Shell.write, Shell.save, Shell.make_link, Shell.make_hard_link),
    *(Shell.make_folder, Shell.rename, Shell.rename, Shell.rename_top, Shell.replace_top, Shell.swap),
    *(Shell.swap_tops, Shell.remove, Shell.chmod),
)


class _Slow:
    """A storage whose calls take a while, and at some of which programs do `act` just before or after."""

    def __init__(self, storage: Any, chance: Random) -> None:
        self._chance = chance
        self.act: Callable[[], Awaitable[None]] | None = None
        self._acting = False
        for name in (*EFFECTS_ON_STORAGE, "stat", "digest"):
            if hasattr(storage, name):
                setattr(storage, name, self._slow(getattr(storage, name)))
        storage.read = self._slow_read(storage.read)

    def _slow(self, real: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def slow(*args: Any, **named: Any) -> Any:
            await self._meanwhile()
            result = await real(*args, **named)
            await self._meanwhile()
            return result

        return slow

    def _slow_read(self, real: Callable[..., Any]) -> Callable[..., Any]:
        @asynccontextmanager
        async def slow(*args: Any, **named: Any) -> AsyncIterator[Any]:
            await self._meanwhile()
            async with real(*args, **named) as pieces:
                yield pieces
            await self._meanwhile()

        return slow

    async def _meanwhile(self) -> None:
        wait = self._chance.choice(LATENCIES)
        if wait:
            await trio.sleep(wait)
        if self.act is not None and not self._acting and self._chance.random() < 0.1:
            self._acting = True
            try:
                await self.act()
            finally:
                self._acting = False


def random_churn(remote: str, seed: int) -> Churn:
    """One of the many; a third of them end with nothing."""
    return Churn(remote, seed, programs=1 + seed % 3, rounds=3 + seed % 7, empty=seed % 3 == 0)


def run_churn(churn: Churn) -> None:
    """Runs it; an assertion carries the run and what the programs did."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="mountsync-test-", dir=memory if memory.is_dir() else None))
    bugs: list[object] = []
    structlog.configure(processors=[_no_noise(bugs)])
    try:
        random.seed(churn.seed)  # what spreads retries
        trio._core._run._r.seed(churn.seed)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trio.to_thread, "run_sync", _run_here)
            trio.run(churn.run, folder / "state", clock=MockClock(autojump_threshold=0))
        assert bugs == []
    except BaseException as error:
        error.add_note(f"{churn!r}; the same again only under the same PYTHONHASHSEED")
        raise
    finally:
        shutil.rmtree(folder)
        structlog.reset_defaults()


async def _run_here(work: Callable[..., Any], *args: Any, **_options: Any) -> Any:
    """Threads would make each run another one."""
    await trio.lowlevel.checkpoint()
    return work(*args)


def _no_noise(bugs: list[object]) -> Callable[..., dict[str, object]]:
    def drop(_logger: object, _method: str, event: dict[str, object]) -> dict[str, object]:
        if event.get("event") == "internal error":
            bugs.append(event.get("exc_info"))
        raise structlog.DropEvent

    return drop
