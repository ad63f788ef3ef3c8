"""The world stops at every single effect of a scenario in turn; after a restart all is as it should be."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio

from mountsync.engine.assembly import Tuning
from mountsync.paths import RelPath
from mountsync.storage.api import SupportsCopy, SupportsMove
from mountsync.storage.local import LocalStorage
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import put
from tests.parts.clocks import working_clock
from tests.parts.effects import Effects, Stopped
from tests.parts.failing import failing
from tests.parts.mounted import Mounted, Tree_, mounted, storage_tree

trio._core._run._ALLOW_DETERMINISTIC_SCHEDULING = True
TUNING = Tuning(host="here", write_delay=1.0, poll_interval=30.0)
LARGE = bytes(range(256)) * 300  # more than fits in the database


@dataclass
class Story:
    """What happens, step by step; `begin` is done and settled before the counting starts."""

    name: str
    begin: Callable[[Mounted, Any], Awaitable[None]]
    then: Callable[[Mounted, Any, Done], Awaitable[None]]
    after: Tree_
    """Both trees when nothing went wrong."""


@dataclass
class Done:
    """Contents that were acknowledged, and those that were given up, so far."""

    kept: dict[str, bytes | None] = field(default_factory=dict)
    """By path: what must be there (None: nothing), once that was acknowledged."""

    def says(self, path: str, data: bytes | None) -> None:
        self.kept[path] = data

    def unsure(self, *paths: str) -> None:
        """From now on until it is said again, either state is right."""
        for path in paths:
            self.kept.pop(path, None)


async def nothing(m: Mounted, remote: Any) -> None:
    """An empty beginning."""


async def write_new(m, remote, done):
    await m.mkdir("d")
    await m.write("d/small", b"one")
    done.says("d/small", b"one")
    await m.write("large", LARGE)
    done.says("large", LARGE)
    await m.symlink("d/link", "small")


async def begin_files(m, remote):
    await m.mkdir("d")
    await m.write("d/f", b"first")
    await m.write("large", LARGE)
    await m.write("d/gone", b"to be deleted")


async def overwrite(m, remote, done):
    done.unsure("d/f", "large")
    await m.write("d/f", b"second")
    done.says("d/f", b"second")
    handle = await m.open("large")
    await m.write_to(handle, 1000, b"patched")
    m.close(handle)
    done.says("large", LARGE[:1000] + b"patched" + LARGE[1007:])


async def save_as_editors_do(m, remote, done):
    await m.write(".goutputstream-A", b"edited")
    done.unsure("d/f")
    await m.rename(".goutputstream-A", "d/f")
    done.says("d/f", b"edited")


async def rename_and_delete(m, remote, done):
    done.unsure("d/f", "d/gone")
    await m.rename("d", "e")
    done.says("e/f", b"first")
    done.says("d/f", None)
    await m.unlink("e/gone")
    done.says("e/gone", None)
    await m.write("e/f", b"after the rename")
    done.says("e/f", b"after the rename")


async def swap(m, remote, done):
    done.unsure("d/f", "d/gone")
    await m.rename("d/f", "d/gone", 2)
    done.says("d/f", b"to be deleted")
    done.says("d/gone", b"first")


async def remove_all(m, remote, done):
    done.unsure("d/f", "d/gone", "large")
    for path in ("d/f", "d/gone", "large"):
        await m.unlink(path)
        done.says(path, None)
    await m.rmdir("d")


async def grow_and_cut(m, remote, done):
    done.unsure("d/f", "large")
    await m.write("d/f", LARGE + b"x")
    done.says("d/f", LARGE + b"x")
    await m.setattr("large", size=10)
    done.says("large", LARGE[:10])


async def remote_changes(m, remote, done):
    await put(remote, "d/f", b"from there")
    await put(remote, "new/x", b"new there")
    await remote.delete(RelPath("d/gone"))


async def both_change(m, remote, done):
    await put(remote, "d/f", b"from there")
    done.unsure("d/f")
    await m.write("d/f", b"from here!")


STORIES = [
    Story("new files", nothing, write_new,
          {"d": None, "d/small": b"one", "large": LARGE, "d/link": "small"}),
    Story("overwrite", begin_files, overwrite,
          {"d": None, "d/f": b"second", "d/gone": b"to be deleted",
           "large": LARGE[:1000] + b"patched" + LARGE[1007:]}),
    Story("save", begin_files, save_as_editors_do,
          {"d": None, "d/f": b"edited", "d/gone": b"to be deleted", "large": LARGE}),
    Story("rename", begin_files, rename_and_delete,
          {"e": None, "e/f": b"after the rename", "large": LARGE}),
    Story("swap", begin_files, swap,
          {"d": None, "d/f": b"to be deleted", "d/gone": b"first", "large": LARGE}),
    Story("remove", begin_files, remove_all, {}),
    Story("resize", begin_files, grow_and_cut,
          {"d": None, "d/f": LARGE + b"x", "d/gone": b"to be deleted", "large": LARGE[:10]}),
    Story("remote", begin_files, remote_changes,
          {"d": None, "d/f": b"from there", "large": LARGE, "new": None, "new/x": b"new there"}),
    Story("conflict", begin_files, both_change,
          {"d": None, "d/f": b"from there", "d/gone": b"to be deleted", "large": LARGE,
           "d/f (conflict * here)": b"from here!"}),
]  # fmt: skip


def plain(tree: Tree_) -> Tree_:
    """Conflict names without their time."""
    return {_timeless(path): data for path, data in tree.items()}


def travelling(tree: Tree_) -> Tree_:
    """Without the temporary files of programs, which stay here."""
    return {path: data for path, data in tree.items() if "goutputstream" not in path}


def _timeless(path: str) -> str:
    head, mark, rest = path.partition(" (conflict ")
    return f"{head}{mark}* {rest[20:]}" if mark else path


async def one_run(story: Story, home: Path, make_remote: Callable[[], Any], stop_at: int) -> bool:
    """Tells whether the world was stopped before the story was over."""
    effects = Effects()
    remote, behind = make_remote(), make_remote()  # `behind` is not counted: somebody else's hand
    seams = {"disk": effects.on_store, "commit": effects.on_database}
    done = Done()
    try:
        async with mounted(home, effects.on_storage(remote), tuning=TUNING, **seams) as m:
            await story.begin(m, behind)
            await m.flush()
            effects.arm(stop_at)
            await story.then(m, behind, done)
            await m.flush()
            effects.disarm()
    except BaseException as error:
        if not has_stopped(error):
            raise
    stopped = effects.stopped
    remote = make_remote()
    if hasattr(remote, "recover_attempts"):
        await remote.recover_attempts()
    async with mounted(home, remote, tuning=TUNING) as m:
        await m.flush()
        local, there = travelling(await m.local_tree()), await storage_tree(remote)
        assert local == there, (effects.names[-3:], local.items() ^ there.items())
        assert m.pending() == []
        m.check()
        for path, data in done.kept.items():
            assert local.get(path) == data, (path, effects.names[-3:])
        known = {*plain(story.after).values(), b"first", b"to be deleted", LARGE, b""}
        known |= {b"after the rename", b"patched", LARGE + b"x"}
        torn = {d for d in local.values() if isinstance(d, bytes)} - known - partial(story)
        assert not torn, (torn, effects.names[-3:])
        if not stopped:
            assert plain(local) == story.after
    return stopped


def partial(story: Story) -> set[bytes]:
    """Contents that a program had on the disk while it was writing: it was not told that they are safe."""
    if story.name == "resize":
        return {LARGE + b"x", b"first"}
    return {LARGE[:1000] + b"patched" + LARGE[1007:]}


def has_stopped(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return any(map(has_stopped, error.exceptions))
    return isinstance(error, Stopped)


class _Memory:
    def __init__(self) -> None:
        self.tree = MemoryStorage()._tree

    def __call__(self) -> MemoryStorage:
        return MemoryStorage(tree=self.tree)


def run_story(story: Story, make: Callable[[Path], Callable[[], Any]], step: int, patience: float) -> int:
    structlog.configure(processors=[_drop])
    memory = Path("/dev/shm")
    count = 1
    while True:
        folder = Path(tempfile.mkdtemp(prefix="mountsync-test-", dir=memory if memory.is_dir() else None))
        try:
            trio._core._run._r.seed(count)
            with working_clock(patience) as clock:
                going = trio.run(one_run, story, folder / "state", make(folder), count, clock=clock)
        except BaseException as error:
            error.add_note(f"{story.name}: stopped at effect {count}")
            raise
        finally:
            shutil.rmtree(folder)
            structlog.reset_defaults()
        if not going:
            return count
        count += step


def _drop(_logger: object, _method: str, _event: dict[str, object]) -> dict[str, object]:
    raise structlog.DropEvent


class _Immovable(_Memory):
    """Nothing can be renamed or copied there."""

    def __call__(self):
        return failing(super().__call__(), without=(SupportsMove, SupportsCopy))


class _Local:
    def __init__(self, folder: Path) -> None:
        self.there = folder / "there"
        self.there.mkdir()

    def __call__(self) -> LocalStorage:
        return LocalStorage(str(self.there))


REMOTES: dict[str, tuple[Callable[[Path], Callable[[], Any]], int]] = {
    "memory": (lambda _: _Memory(), 1),
    "immovable": (lambda _: _Immovable(), 1),
}


@pytest.mark.parametrize("remote", REMOTES)
@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_every_effect_can_be_the_last(story, remote):
    make, step = REMOTES[remote]
    run_story(story, make, step, 0.002)


@pytest.mark.parametrize("name", ["rename", "overwrite", "conflict"])
def test_every_few_effects_with_a_folder_as_remote(name):
    story = next(story for story in STORIES if story.name == name)
    run_story(story, _Local, 4, 0.03)
