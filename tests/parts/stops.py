"""Stories for a mount that is stopped at any effect while programs go on changing things.

Nobody else touches the remote, so whatever is found there is our own work: the mount must end with exactly
what the programs left, the same files under the same inode numbers, and the remote with the same.
"""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import trio

from mountsync.engine.assembly import Tuning
from mountsync.storage.api import SupportsCopy, SupportsMove
from mountsync.storage.memory import MemoryStorage
from tests.engine.histories import with_links, without_empty
from tests.parts.clocks import working_clock
from tests.parts.effects import EFFECTS_ON_STORAGE, Effects, Stopped
from tests.parts.failing import failing
from tests.parts.flat import FlatStorage
from tests.parts.late import LateStorage
from tests.parts.mounted import Mounted, Tree_, mounted, storage_tree, test_clock

trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True
TUNING = Tuning(host="here", write_delay=1.0, poll_interval=30.0)
Act = Callable[[Mounted], Awaitable[None]]
EXCHANGE = 2


# What is under way when the world stops


async def nothing(m: Mounted) -> None:
    """Nothing at all."""


async def make_files(m: Mounted) -> None:
    await m.mkdir("d")
    await m.mkdir("d/s")
    await m.write("d/f", b"first")
    await m.write("d/g", b"second, longer")
    await m.write("d/s/h", b"third")
    await m.write("top", b"at the top")


async def add(m: Mounted) -> None:
    await m.write("d/new", b"new in an old folder")
    await m.write("d/s/new", b"deeper")


async def overwrite(m: Mounted) -> None:
    await m.write("d/f", b"another version")
    await m.write("d/s/h", b"thirD")


async def save(m: Mounted) -> None:
    for path in ("d/f", "d/s/h"):
        await m.write(".goutputstream-A", b"saved " + path.encode())
        await m.rename(".goutputstream-A", path)


async def rename_folder(m: Mounted) -> None:
    await m.rename("d", "e")


async def rename_folder_and_go_on(m: Mounted) -> None:
    await m.rename("d", "e")
    await m.write("e/f", b"after the rename")
    await m.write("e/new", b"new in the renamed folder")


async def rename_folder_and_make_it_again(m: Mounted) -> None:
    await m.rename("d", "e")
    await m.mkdir("d")
    await m.write("d/f", b"in the new folder")
    await m.write("d/n", b"also there")


async def rename_files(m: Mounted) -> None:
    await m.rename("d/f", "d/f2")
    await m.rename("d/g", "g2")
    await m.write("d/f2", b"written after its rename")


async def replace_by_rename(m: Mounted) -> None:
    await m.rename("d/f", "d/g")
    await m.rename("top", "d/f")


async def swap(m: Mounted) -> None:
    await m.rename("d/f", "d/g", EXCHANGE)


async def remove_some(m: Mounted) -> None:
    await m.unlink("d/f")
    await m.unlink("d/s/h")
    await m.rmdir("d/s")


async def turn_around(m: Mounted) -> None:
    """A file where a folder was, and a folder where a file was."""
    await m.unlink("d/s/h")
    await m.rmdir("d/s")
    await m.write("d/s", b"a file now")
    await m.unlink("top")
    await m.mkdir("top")
    await m.write("top/x", b"in a folder now")


async def chmod(m: Mounted) -> None:
    await m.setattr("d/f", mode=0o600)
    await m.setattr("d", mode=0o700)
    await m.setattr("d/g", mtime_ns=m.clock() - 5_123_456_789)


async def link(m: Mounted) -> None:
    await m.symlink("d/l", "f")
    await m.symlink("l", "d/g")


async def make_files_and_links(m: Mounted) -> None:
    await make_files(m)
    await link(m)


async def swap_kinds(m: Mounted) -> None:
    """Files where links were, and links where files were."""
    await m.rename("d/f", "d/l", EXCHANGE)
    await m.rename("l", "top", EXCHANGE)


async def replace_kinds(m: Mounted) -> None:
    await m.rename("d/l", "d/g")
    await m.rename("top", "l")


UNDER_WAY: dict[str, tuple[Act, Act]] = {
    "first": (nothing, make_files),
    **{
        act.__name__: (make_files, act)
        for act in (
            add,
            overwrite,
            save,
            rename_folder,
            rename_folder_and_go_on,
            rename_folder_and_make_it_again,
            rename_files,
            replace_by_rename,
            swap,
            remove_some,
            turn_around,
            chmod,
            link,
        )
    },
    "swap_kinds": (make_files_and_links, swap_kinds),
    "replace_kinds": (make_files_and_links, replace_kinds),
}


# What programs do after the stop, whatever they find


def files(tree: Tree_) -> list[str]:
    return sorted(path for path, data in tree.items() if data is not None and "goutput" not in path)


def tops(tree: Tree_) -> list[str]:
    return sorted(path for path, data in tree.items() if data is None and "/" not in path)


async def unused(m: Mounted, path: str) -> str:
    """The path, or one that begins with it when programs have taken it in an earlier life."""
    while await m.exists(path):
        path = f"{path}+"
    return path


async def rename_the_folders(m: Mounted) -> None:
    for path in tops(await m.local_tree()):
        await m.rename(path, await unused(m, f"{path}-moved"))


async def rename_the_folders_often(m: Mounted) -> None:
    for path in tops(await m.local_tree()):
        above, moved = await unused(m, f"{path}-above"), await unused(m, f"{path}-moved")
        await m.mkdir(above)
        await m.rename(path, moved)
        await m.rename(moved, f"{above}/{path}")


async def make_the_folders_again(m: Mounted) -> None:
    """The old names of the folders lead to new folders, with files of the old names."""
    before = await m.local_tree()
    for path in tops(before):
        await m.rename(path, await unused(m, f"{path}-moved"))
        await m.mkdir(path)
    for path in files(before):
        if path.count("/") == 1:
            await m.write(path, b"new " + path.encode())


async def rename_back(m: Mounted) -> None:
    """As it was before."""
    for here, there in (("e", "d"), ("d/f2", "d/f"), ("g2", "d/g")):
        free = await m.exists(there.rpartition("/")[0] or "") and not await m.exists(there)
        if await m.exists(here) and free:
            await m.rename(here, there)


async def swap_back(m: Mounted) -> None:
    """As it was before."""
    for one, other in (("d/f", "d/l"), ("l", "top"), ("d/f", "d/g")):
        if await m.exists(one) and await m.exists(other):
            await m.rename(one, other, EXCHANGE)


async def rename_the_files(m: Mounted) -> None:
    for path in files(await m.local_tree()):
        await m.rename(path, f"{path}-moved")


async def rename_files_away(m: Mounted) -> None:
    found, away = files(await m.local_tree()), await unused(m, "away")
    await m.mkdir(away)
    for number, path in enumerate(found):
        await m.rename(path, f"{away}/{number}")


async def rotate(m: Mounted) -> None:
    """Each file takes the name of the next one."""
    found = files(await m.local_tree())
    for one, other in itertools.pairwise(found):
        await m.rename(one, other, EXCHANGE)


async def unlink_all(m: Mounted) -> None:
    for path in files(await m.local_tree()):
        await m.unlink(path)


async def remove_everything(m: Mounted) -> None:
    for path, data in sorted((await m.local_tree()).items(), reverse=True):
        await (m.rmdir(path) if data is None else m.unlink(path))


async def write_again(m: Mounted) -> None:
    for path, data in (await m.local_tree()).items():
        if isinstance(data, bytes):
            await m.write(path, b"again " + data)


async def write_same_size(m: Mounted) -> None:
    for path, data in (await m.local_tree()).items():
        if isinstance(data, bytes):
            await m.write(path, data[::-1])


async def save_again(m: Mounted) -> None:
    for path, data in (await m.local_tree()).items():
        if isinstance(data, bytes):
            await m.write(".goutputstream-B", b"saved again " + data)
            await m.rename(".goutputstream-B", path)


async def make_again(m: Mounted) -> None:
    """Removed and made anew."""
    for path, data in (await m.local_tree()).items():
        if isinstance(data, bytes):
            await m.unlink(path)
            await m.write(path, b"anew " + data)


async def chmod_all(m: Mounted) -> None:
    for path, data in (await m.local_tree()).items():
        if not isinstance(data, str):
            await m.setattr(path, mode=0o711)


AFTERWARDS: dict[str, Act] = {
    act.__name__: act
    for act in (
        nothing,
        rename_the_folders,
        rename_the_folders_often,
        make_the_folders_again,
        rename_back,
        swap_back,
        rename_the_files,
        rename_files_away,
        rotate,
        unlink_all,
        remove_everything,
        write_again,
        write_same_size,
        save_again,
        make_again,
        chmod_all,
    )
}


# The whole


@dataclass(frozen=True)
class Remote:
    """How a remote is made, again and again over the same objects."""

    make: Callable[[Any], Any]
    flat: bool = False


def _immovable(tree: Any) -> Any:
    return failing(MemoryStorage(tree=tree), without=(SupportsMove, SupportsCopy))


REMOTES = {
    "memory": Remote(lambda tree: MemoryStorage(tree=tree)),
    "immovable": Remote(_immovable),
    "flat": Remote(lambda tree: FlatStorage(MemoryStorage(tree=tree)), flat=True),
    "late": Remote(LateStorage),
}


def clock_of_life(number: int) -> Callable[[], int]:
    """A clock of the nth life after a stop: later than all before it."""
    return lambda: test_clock() + number * 5_678_901_234


async def inodes(m: Mounted) -> dict[str, tuple[int, int]]:
    """By path: the inode number and, where it travels, the mode."""
    found = {}
    for path in await m.local_tree():
        node = await m.lookup(path)
        found[path] = (node.id, stat.S_IMODE(node.mode))
    return found


class Interrupted:
    """A storage at whose nth effect programs do something first, or right after it."""

    def __init__(self, storage: Any, nth: int, *, after: bool) -> None:
        self._left, self._after = nth, after
        self.act: Callable[[], Awaitable[None]] | None = None
        for name in EFFECTS_ON_STORAGE:
            if hasattr(storage, name):
                self._wrap(storage, name)

    def _wrap(self, storage: Any, name: str) -> None:
        real = getattr(storage, name)

        async def wrapped(*args: Any, **named: Any) -> Any:
            due = self._is_due()
            if due is not None and not self._after:
                await due()
            result = await real(*args, **named)
            if due is not None and self._after:
                await due()
            return result

        setattr(storage, name, wrapped)

    def _is_due(self) -> Callable[[], Awaitable[None]] | None:
        if self.act is None:
            return None
        self._left -= 1
        return self.act if self._left == 0 else None


@dataclass(frozen=True)
class Case:
    """One run: what is under way, where the world stops, and what is done afterwards, or during it."""

    under_way: str
    stop_at: int
    afterwards: str
    remote: str
    steps: int = 0
    """So many steps of the next life are made before `afterwards`."""
    during: int = 0
    """Not 0: `afterwards` is done before the stop, at this effect on the remote; negative: right after it."""

    async def run(self, home: Path) -> bool:
        """Tells whether the world was stopped before all was done."""
        tree = MemoryStorage()._tree
        effects = Effects()
        stopped = await self._first_life(home, effects, tree)
        await self._last_life(home, effects, tree, number=1)
        return stopped

    async def _last_life(self, home: Path, effects: Effects, tree: Any, *, number: int) -> None:
        storage = REMOTES[self.remote].make(tree)
        async with mounted(home, storage, tuning=TUNING, clock=clock_of_life(number)) as m:
            for _ in range(self.steps):
                await trio.lowlevel.checkpoint()
            if not self.during:
                await AFTERWARDS[self.afterwards](m)
            wanted, ids = await m.local_tree(), await inodes(m)
            await m.flush(timeout=1000)
            await self._judge(m, wanted, ids, effects.names[-3:])

    async def _first_life(self, home: Path, effects: Effects, tree: Any) -> bool:
        seams = {"disk": effects.on_store, "commit": effects.on_database}
        storage = effects.on_storage(REMOTES[self.remote].make(tree))
        between = Interrupted(storage, abs(self.during), after=self.during < 0)
        begin, then = UNDER_WAY[self.under_way]
        try:
            async with mounted(home, storage, tuning=TUNING, **seams) as m:
                await begin(m)
                await m.flush()
                await trio.sleep(0.1234)  # a real clock never stands still
                await then(m)
                effects.arm(self.stop_at)
                if self.during:
                    between.act = lambda: AFTERWARDS[self.afterwards](m)
                await m.flush()
                effects.disarm()
        except BaseException as error:
            if not has_stopped(error):
                raise
        return effects.stopped

    async def _judge(self, m: Mounted, wanted: Tree_, ids: dict[str, Any], last: list[str]) -> None:
        local, there = await m.local_tree(), await storage_tree(m.storage)
        assert local == wanted, ("here", last, differing(local, wanted))
        assert await inodes(m) == ids, ("other files here", last, await inodes(m), ids)
        assert m.pending() == [], (last, m.pending())
        assert m.session.problems == {}, last
        local = {path: data for path, data in local.items() if "goutput" not in path}
        if REMOTES[self.remote].flat:
            local, there = without_empty(local), with_links(there)
        assert there == local, ("there", last, differing(there, local))
        assert not m.database.value("SELECT count(*) FROM attempt"), last
        m.check()


def differing(one: Tree_, other: Tree_) -> list[tuple[str, Any, Any]]:
    paths = sorted(one.keys() | other.keys())
    return [(p, one.get(p, "-"), other.get(p, "-")) for p in paths if one.get(p, "-") != other.get(p, "-")]


def has_stopped(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(has_stopped, error.exceptions))
    return isinstance(error, Stopped)


def run_case(case: Case) -> bool:
    """Runs one case; tells whether the world was stopped. An assertion carries the case."""
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(prefix="mountsync-test-", dir=memory if memory.is_dir() else None))
    structlog.configure(processors=[_drop])
    try:
        trio._core._run._r.seed(case.stop_at)
        with working_clock(0.002) as clock:
            return trio.run(case.run, folder / "state", clock=clock)
    except BaseException as error:
        error.add_note(repr(case))
        raise
    finally:
        shutil.rmtree(folder)
        structlog.reset_defaults()


def _drop(_logger: object, _method: str, _event: dict[str, object]) -> dict[str, object]:
    raise structlog.DropEvent


EVERYTHING = bool(os.environ.get("MOUNTSYNC_EVERY_STOP"))
"""All stories with all that may follow, for a quarter of an hour, instead of a sample."""


def every_stop(under_way: str, afterwards: Iterable[str], remote: str, **more: int) -> None:
    """Stops at each effect in turn; takes what is done afterwards in rotation."""
    for stop_at, act in enumerate(afterwards, 1):
        if not run_case(Case(under_way, stop_at, act, remote, **more)):
            return
