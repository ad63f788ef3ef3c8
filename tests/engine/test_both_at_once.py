"""Both sides change before they hear of each other."""

from __future__ import annotations

import pytest
import trio

from mountsync.errors import NotFound
from mountsync.paths import RelPath
from mountsync.storage.memory import MemoryStorage
from tests.parts.bodies import body, get, put
from tests.parts.failing import failing
from tests.parts.mounted import Killed, expect_error, mounted


@pytest.fixture
def remote():
    return failing(MemoryStorage())


def moved(remote, source: str, target: str) -> None:
    remote._below._tree.move(RelPath(source), RelPath(target), expect=None, replace=None)


async def agreed(m):
    await m.flush()
    tree = await m.local_tree()
    assert tree == await m.remote_tree()
    assert m.pending() == []
    m.check()
    return tree


async def test_edit_and_edit_keeps_both_on_both_sides(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.write("d.txt", b"base")
        await m.flush()
        await put(remote, "d.txt", b"theirs")
        await m.write("d.txt", b"ours!")
        tree = await agreed(m)
        assert sorted(tree.values()) == [b"ours!", b"theirs"]
        [copy] = [name for name in tree if name != "d.txt"]
        assert copy.startswith("d (conflict 20") and copy.endswith(" here).txt")


async def test_edit_beats_delete_both_ways(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.write("a", b"base")
        await m.write("b", b"base")
        await m.flush()
        await m.write("a", b"edited here")
        await remote.delete(RelPath("a"))
        await m.unlink("b")
        await put(remote, "b", b"edited there")
        assert await agreed(m) == {"a": b"edited here", "b": b"edited there"}


async def test_equal_content_is_no_conflict(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.write("f", b"base")
        await m.flush()
        await m.write("f", b"same")
        await put(remote, "f", b"same")
        await m.write("new", body(100_000))
        await put(remote, "new", body(100_000))
        effects = remote.faults.calls["write"]
        assert await agreed(m) == {"f": b"same", "new": body(100_000)}
        assert remote.faults.calls["write"] - effects <= 2  # what was tried before it was known


async def test_create_and_create_keeps_both(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.flush()
        await m.steering.pause()
        await m.write("f", b"ours")
        await put(remote, "f", b"theirs")
        await m.steering.resume(confirm=False)
        assert sorted((await agreed(m)).values()) == [b"ours", b"theirs"]


async def test_a_directory_moved_here_while_files_change_in_it_there(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.mkdir("d")
        await m.write("d/f", b"base")
        await m.write("d/g", b"stays")
        await m.flush()
        await m.rename("d", "e")
        await put(remote, "d/f", b"edited there")
        await put(remote, "d/new", b"new there")
        tree = await agreed(m)
        assert sorted(v for v in tree.values() if v) == [b"edited there", b"new there", b"stays"]
        assert tree["e/g"] == b"stays"


async def test_a_directory_moved_there_while_files_change_in_it_here(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.mkdir("d")
        await m.write("d/f", b"base")
        await m.write("d/g", b"stays")
        await m.flush()
        moved(remote, "d", "e")
        await m.write("d/f", b"edited here")
        await m.write("d/new", b"new here")
        tree = await agreed(m)
        assert sorted(v for v in tree.values() if v) == [b"edited here", b"new here", b"stays"]


async def test_a_file_becomes_a_directory_on_one_side(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.write("f", b"base")
        await m.flush()
        await remote.delete(RelPath("f"))
        await put(remote, "f/inside", b"1")
        assert await agreed(m) == {"f": None, "f/inside": b"1"}
        await m.unlink("f/inside")
        await m.rmdir("f")
        await m.write("f", b"a file again")
        assert await agreed(m) == {"f": b"a file again"}


async def test_a_file_edited_here_and_a_directory_there(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.write("f", b"base")
        await m.flush()
        await m.write("f", b"edited")
        await remote.delete(RelPath("f"))
        await put(remote, "f/inside", b"1")
        tree = await agreed(m)
        assert sorted(v for v in tree.values() if v) == [b"1", b"edited"]


async def test_a_save_by_an_editor_is_one_new_version(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.write("doc", b"first")
        await m.flush()
        writes, effects = remote.faults.calls["write"], remote.faults.effects
        await m.write(".doc.swp", b"swap")
        await m.write("doc.tmp~", b"second")
        await m.rename("doc.tmp~", "doc")
        await m.unlink(".doc.swp")
        await m.settled()
        assert await m.remote_tree() == {"doc": b"second"}
        assert remote.faults.calls["write"] - writes == 1
        assert remote.faults.effects - effects == 1


async def test_a_rename_moves_no_bytes(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.mkdir("d")
        await m.write("d/f", body(1000))
        await m.flush()
        writes = remote.faults.calls["write"]
        await m.rename("d", "e")
        await m.rename("e/f", "e/g")
        await m.settled()
        assert await m.remote_tree() == {"e": None, "e/g": body(1000)}
        assert remote.faults.calls["write"] == writes


@pytest.mark.parametrize("change", ["rename", "unlink", "edit", "replace"])
async def test_what_happens_while_the_first_upload_is_under_way(quick_clock, home, remote, change):
    async with mounted(home, remote) as m:
        await m.flush()
        await m.write("f", b"first")
        gate = remote.faults.hold("write")
        await gate.reached.wait()
        if change == "rename":
            await m.rename("f", "g")
        elif change == "unlink":
            await m.unlink("f")
        elif change == "edit":
            await m.write("f", b"second")
        else:
            await m.write("h", b"other")
            await m.rename("h", "f")
        gate.release()
        await m.settled()
        expected = {
            "rename": {"g": b"first"},
            "unlink": {},
            "edit": {"f": b"second"},
            "replace": {"f": b"other"},
        }
        assert await agreed(m) == expected[change]


@pytest.mark.parametrize("change", ["rename", "rename above", "edit"])
async def test_what_happens_while_a_later_upload_is_under_way(quick_clock, home, remote, change):
    async with mounted(home, remote) as m:
        await m.mkdir("d")
        await m.write("d/f", b"base")
        await m.flush()
        await m.write("d/f", b"first")
        gate = remote.faults.hold("write")
        await gate.reached.wait()
        if change == "rename":
            await m.rename("d/f", "g")
        elif change == "rename above":
            await m.rename("d", "e")
        else:
            await m.write("d/f", b"second")
        gate.release()
        await m.settled()
        expected = {
            "rename": {"d": None, "g": b"first"},
            "rename above": {"e": None, "e/f": b"first"},
            "edit": {"d": None, "d/f": b"second"},
        }
        assert await agreed(m) == expected[change]


async def test_hard_links_travel_as_files(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.write("a", b"1")
        await m.link("a", "b")
        assert await agreed(m) == {"a": b"1", "b": b"1"}
        await m.append("a", b"2")
        assert await agreed(m) == {"a": b"12", "b": b"12"}
        await m.unlink("a")
        assert await agreed(m) == {"b": b"12"}


async def test_names_that_never_travel(quick_clock, home, remote):
    async with mounted(home, remote, excluded=lambda path: path.endswith(".secret")) as m:
        await m.write("a.secret", b"1")
        await m.write("b", b"2")
        await m.settled()
        assert await m.remote_tree() == {"b": b"2"}
        await m.rename("b", "b.secret")
        await m.settled()
        assert await m.remote_tree() == {}
        assert await m.read("b.secret") == b"2"
        await put(remote, "there.secret", b"3")
        await m.flush()
        await expect_error(NotFound, m.lookup("there.secret"))
        await m.rename("b.secret", "b")
        await m.settled()
        assert (await m.remote_tree())["b"] == b"2"


async def test_an_upload_whose_answer_was_lost_is_not_sent_twice(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.flush()
        await m.write("f", body(1000))
        whole = remote._below.write

        async def lose_the_answer(*args, **more):
            await whole(*args, **more)
            await trio.sleep_forever()

        remote._below.write = lose_the_answer
        await trio.sleep(20)
        assert await get(remote, "f") == body(1000)
        remote._below.write = whole
        raise Killed
    writes = remote.faults.calls["write"]
    async with mounted(home, remote) as m:
        await m.settled()
        assert await get(remote, "f") == body(1000)
        assert remote.faults.calls["write"] - writes <= 1  # at most an attempt that is refused
        assert await agreed(m) == {"f": body(1000)}


async def test_small_files_do_not_wait_for_large_ones(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.mkdir("d")
        await m.write("d/large", body(9 << 20))
        for number in range(10):
            await m.write(f"d/small{number}", b"x")
        whole = remote._below.write
        large = trio.Event()

        async def slow(path, source, **more):
            if path == "d/large":
                await large.wait()
            return await whole(path, source, **more)

        remote._below.write = slow
        await trio.sleep(20)
        assert len(await m.remote_tree()) == 11
        large.set()
        await m.settled()
        assert len(await m.remote_tree()) == 12


async def test_many_files_are_sent_in_few_cycles(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        await m.mkdir("d")
        for number in range(300):
            await m.write(f"d/{number}", b"%d" % number)
        await m.settled()
        assert len(await m.remote_tree()) == 301
        assert len(m.heard.cycles) < 12
        for number in range(300):
            await m.unlink(f"d/{number}")
        await m.rmdir("d")
        await m.settled()
        assert await m.remote_tree() == {}


async def test_what_is_written_by_a_handle_after_the_remote_changed_the_file(quick_clock, home, remote):
    async with mounted(home, remote) as m:
        for name in ("changed", "deleted", "unlinked"):
            await m.write(name, b"base")
        await m.flush()
        handles = [await m.open(name) for name in ("changed", "deleted", "unlinked")]
        await put(remote, "changed", b"theirs")
        await remote.delete(RelPath("deleted"))
        await m.flush()
        await m.unlink("unlinked")
        for handle in handles:
            await m.write_to(handle, 0, b"OURS")
            m.close(handle)
        tree = await agreed(m)
        assert sorted(tree.values()) == [b"OURS", b"OURS", b"theirs"]
        assert tree["changed"] == b"theirs"
