"""What is removed and made anew under its name is agreed as what it is now, whatever goes on meanwhile."""

from __future__ import annotations

import os

import pytest
import trio

from mountsync.engine import cycle
from mountsync.storage.memory import MemoryStorage
from tests.engine.histories import with_links
from tests.parts.churn import OLD_NS, agreed_otherwise
from tests.parts.failing import failing
from tests.parts.mounted import Mounted, mounted, storage_tree
from tests.parts.stops import REMOTES, TUNING, inodes


async def make_anew(m: Mounted, path: str) -> None:
    await m.unlink(path)
    await m.symlink(path, "f")


async def remove_all(m: Mounted) -> None:
    """All is removed, by programs that know of each name only by what is there; nothing stays behind."""
    for path, data in sorted((await m.local_tree()).items(), reverse=True):
        await (m.rmdir(path) if data is None else m.unlink(path))
    await m.settled(patience=600)
    assert await m.remote_tree() == {}
    assert m.base.count() == 0


async def test_a_link_with_the_same_target_is_another_link(quick_clock, home):
    async with mounted(home, MemoryStorage(), tuning=TUNING) as m:
        await m.mkdir("d")
        await m.symlink("d/l", "f")
        await m.settled()
        await make_anew(m, "d/l")
        await m.settled()
        assert agreed_otherwise(m) == []
        await remove_all(m)


@pytest.mark.parametrize("what", ["link", "folder"])
async def test_what_is_made_anew_in_a_folder_that_is_renamed_is_another(quick_clock, home, what):
    async with mounted(home, MemoryStorage(), tuning=TUNING) as m:
        await m.mkdir("d")
        await m.symlink("d/l", "f")
        await m.mkdir("d/s")
        await m.settled()
        await m.rename("d", "e")
        if what == "link":
            await make_anew(m, "e/l")
        else:
            await m.rmdir("e/s")
            await m.mkdir("e/s")
        await m.settled()
        assert agreed_otherwise(m) == []
        await remove_all(m)


@pytest.mark.parametrize("remote", REMOTES)
@pytest.mark.parametrize("order", ["anew-then-renamed", "renamed-then-anew"])
@pytest.mark.parametrize("inner", ["d/s", "d/s/s"])
async def test_a_folder_in_a_renamed_folder_is_made_anew_with_a_link_in_it(
    quick_clock, home, remote, order, inner
):
    """The link is another one too: its row went along to the new folder, and stayed when it was removed."""
    storage = REMOTES[remote].make(MemoryStorage()._tree)
    async with mounted(home, storage, tuning=TUNING) as m:
        await m.mkdir("d")
        await make_folders(m, inner)
        await m.settled()
        if order == "anew-then-renamed":
            await remove_folders(m, inner)
            await make_folders(m, inner)
            await m.rename("d", "e")
        else:
            await m.rename("d", "e")
            await remove_folders(m, inner.replace("d", "e"))
            await make_folders(m, inner.replace("d", "e"))
        await m.settled()
        assert agreed_otherwise(m) == []
        await remove_all(m)


@pytest.mark.parametrize("remote", REMOTES)
@pytest.mark.parametrize("order", ["anew-then-renamed", "renamed-then-anew"])
async def test_a_file_in_a_renamed_folder_is_saved_as_it_was(quick_clock, home, remote, order):
    """Equal in content and time it needs no upload; but it is another file, and its removal is its own."""
    storage = REMOTES[remote].make(MemoryStorage()._tree)
    async with mounted(home, storage, tuning=TUNING) as m:
        await m.mkdir("d")
        await save_as_it_was(m, "d/f")
        await m.settled()
        if order == "anew-then-renamed":
            await save_as_it_was(m, "d/f")
            await m.rename("d", "e")
        else:
            await m.rename("d", "e")
            await save_as_it_was(m, "e/f")
        await m.settled()
        assert agreed_otherwise(m) == []
        await remove_all(m)


@pytest.mark.parametrize("remote", REMOTES)
@pytest.mark.parametrize("inner", ["", "s/"])
@pytest.mark.parametrize("again", [b"first", b"other", None])
async def test_folders_are_shifted_and_a_file_leaves_one_of_them(quick_clock, home, remote, inner, again):
    """`mv new old; mv newer new`: the file that leaves is the one of the folder that has the name now."""
    storage = REMOTES[remote].make(MemoryStorage()._tree)
    async with mounted(home, storage, tuning=TUNING) as m:
        for folder, data in (("d", b"first"), ("e", b"second")):
            await m.mkdir(folder)
            if inner:
                await m.mkdir(f"{folder}/s")
            await m.write(f"{folder}/{inner}a", data)
            await m.write(f"{folder}/{inner}b", b"stays")
        await m.settled()
        await m.rename("e", "f")
        await m.rename("d", "e")
        await m.mkdir("d")
        await m.rename(f"e/{inner}a", "d/l")
        if again is not None:
            await m.write(f"e/{inner}a", again)
        left = await m.local_tree()
        await m.settled()
        assert await m.local_tree() == left
        assert await m.local_tree() == await m.remote_tree()
        assert agreed_otherwise(m) == []
        await m.write(f"e/{inner}a", b"first")
        await m.write(f"f/{inner}b", b"later")
        await m.settled()
        assert await m.local_tree() == await m.remote_tree()
        await remove_all(m)


async def test_each_step_of_a_shift_is_done_once(quick_clock, home):
    """Rows of the wrong folder went along: a file was renamed twice, and could be taken for a removed one."""
    storage = failing(MemoryStorage())
    async with mounted(home, storage, tuning=TUNING) as m:
        for folder in ("d", "e"):
            await m.mkdir(folder)
            await m.write(f"{folder}/a", folder.encode())
        await m.settled()
        places = {row.node: row.remote.token for row in m.base.of_node((await m.lookup("d/a")).id)}
        await m.rename("e", "f")
        await m.rename("d", "e")
        await m.mkdir("d")
        await m.rename("e/a", "d/l")
        await m.settled()
        assert storage.faults.calls["move"] == 3
        assert {row.node: row.remote.token for row in m.base.of_node((await m.lookup("d/l")).id)} == places


async def save_as_it_was(m: Mounted, path: str) -> None:
    """As an editor or `rsync` does it."""
    await m.write(f"{path}.new", b"content")
    await m.setattr(f"{path}.new", mtime_ns=OLD_NS)
    await m.rename(f"{path}.new", path)


async def make_folders(m: Mounted, path: str) -> None:
    """The folders of a path below its first, with a link and a file in the last one."""
    parts = path.split("/")
    for count in range(2, len(parts) + 1):
        await m.mkdir("/".join(parts[:count]))
    await m.symlink(f"{path}/l", "f")
    await m.write(f"{path}/f", b"content")


async def remove_folders(m: Mounted, path: str) -> None:
    """What `make_folders` made."""
    await m.unlink(f"{path}/l")
    await m.unlink(f"{path}/f")
    while "/" in path:
        await m.rmdir(path)
        path = path.rpartition("/")[0]


async def test_a_folder_is_renamed_and_made_anew_with_links_in_both(quick_clock, home):
    async with mounted(home, MemoryStorage(), tuning=TUNING) as m:
        await m.mkdir("d")
        await m.symlink("d/l", "f")
        await m.settled()
        await m.rename("d", "e")
        await make_anew(m, "e/l")
        await m.mkdir("d")
        await m.symlink("d/l", "f")
        await m.settled()
        assert agreed_otherwise(m) == []
        await remove_all(m)


async def test_what_cannot_be_compared_stays_pending(quick_clock, home, monkeypatch):
    """A file is removed while another one is compared: its turn comes, and there is nothing to compare."""
    real, left = cycle.digest_of, []

    async with mounted(home, MemoryStorage(), tuning=TUNING) as m:

        async def go_on(source):
            if not left:
                left.extend(name for name in "fg" if source.size)
                await m.unlink("d/f")
                await m.unlink("d/g")
            return await real(source)

        await m.mkdir("d")
        for path in ("d/f", "d/g"):
            await m.write(path, b"content of " + path.encode())
        await m.settled()
        await m.unlink("d/f")
        await m.unlink("d/g")
        await m.rmdir("d")
        await m.mkdir("d")
        for path in ("d/f", "d/g"):
            await m.write(path, b"content of " + path.encode())
        monkeypatch.setattr(cycle, "digest_of", go_on)
        await m.settled()
        assert left
        assert await m.remote_tree() == {"d": None}
        await remove_all(m)


async def test_a_file_takes_the_name_of_a_removed_folder_with_folders_in_it(quick_clock, home):
    async with mounted(home, MemoryStorage(), tuning=TUNING) as m:
        for path in ("d", "d/s", "d/s/t"):
            await m.mkdir(path)
        await m.write("d/s/t/f", b"text")
        await m.settled()
        await m.unlink("d/s/t/f")
        await m.rmdir("d/s/t")
        await m.rmdir("d/s")
        await m.write("d/s", b"a file now")
        await m.settled()
        assert await m.local_tree() == await m.remote_tree() == {"d": None, "d/s": b"a file now"}
        await remove_all(m)


@pytest.mark.parametrize("remote", REMOTES)
@pytest.mark.parametrize("kinds", ["a file where a link was", "a link where a file was"])
async def test_a_folder_takes_a_name_before_what_had_it_is_removed(quick_clock, home, remote, kinds):
    """The rename is due first, because something in the folder changed earlier."""

    async def make(path: str, *, as_file: bool) -> None:
        await (m.write(path, b"text of " + path.encode()) if as_file else m.symlink(path, "x"))

    storage, was_link = REMOTES[remote].make(MemoryStorage()._tree), kinds.endswith("link was")
    async with mounted(home, storage, tuning=TUNING) as m:
        await m.mkdir("d")
        await make("d/a", as_file=not was_link)
        await m.mkdir("e")
        await make("e/a", as_file=was_link)
        await m.write("e/b", b"also there")
        await m.settled()
        await m.write("e/n", b"new")
        await trio.sleep(0.5)
        await m.unlink("d/a")
        await m.rmdir("d")
        await m.rename("e", "d")
        wanted, ids = await m.local_tree(), await inodes(m)
        await m.settled()
        there = await storage_tree(storage)
        assert (with_links(there) if REMOTES[remote].flat else there) == wanted
        assert (await m.local_tree(), await inodes(m)) == (wanted, ids)
        await remove_all(m)


async def test_another_name_of_a_file_that_is_being_written_is_made_anew(quick_clock, home):
    """What is written and not closed has a size and a time that belong to no version yet."""
    async with mounted(home, MemoryStorage(), tuning=TUNING) as m:
        await m.write("a", b"old")
        await m.link("a", "b")
        await m.settled()
        await m.unlink("b")
        await m.write("b", b"another file")
        handle = await m.open("a", os.O_RDWR | os.O_TRUNC)
        await m.write_to(handle, 0, b"a longer content")
        await trio.sleep(10)
        m.close(handle)
        await m.settled()
        wanted = {"a": b"a longer content", "b": b"another file"}
        assert await m.local_tree() == await m.remote_tree() == wanted
