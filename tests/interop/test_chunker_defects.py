"""Ten defects of rclone 1.75.2's chunker, each as it shows there, and what happens here instead.

An assertion on rclone that fails means that rclone has changed: then the story here is out of date.
"""

from __future__ import annotations

import os
import signal
import subprocess

import pytest
import trio

from mountsync.errors import ConfigError, Corrupt, NoSpace, PathError, Stale
from mountsync.model.entry import Kind
from mountsync.paths import RelPath
from mountsync.storage.api import ABSENT
from mountsync.storage.chunker import fsck, gc
from mountsync.storage.local import LocalStorage
from tests.parts.bodies import body, get, items, put
from tests.parts.chunkers import chunker_over, open_over
from tests.parts.failing import failing
from tests.parts.rclone import BINARY, Rclone, files_in

DATA = body(35, 1)
OTHER = body(35, 2)
F, G = RelPath("f"), RelPath("g")


@pytest.fixture
def base(tmp_path):
    (tmp_path / "base").mkdir()
    return tmp_path / "base"


@pytest.fixture
def rclone(base, tmp_path):
    return Rclone(base, tmp_path)


@pytest.fixture
async def ours(base, tmp_path):
    async with chunker_over(base, tmp_path / "state") as storage:
        yield storage


def upload(rclone, tmp_path, name="f", data=DATA):
    (tmp_path / "source").write_bytes(data)
    return rclone.run("copyto", tmp_path / "source", f"C:{name}")


async def test_d01_a_server_side_move_that_fails_half_way(base, rclone, tmp_path):
    """There: a shortened target that looks sound. Here: the source as it was, and no target."""
    upload(rclone, tmp_path)
    (base / "g.rclone_chunk.003").mkdir()
    rclone.run("moveto", "C:f", "C:g")
    assert not (base / "f").exists() or rclone.run("cat", "C:f").stdout != DATA
    (base / "g.rclone_chunk.003").rmdir()
    for at in base.iterdir():
        at.unlink()
    below = failing(LocalStorage(str(base), state_dir=tmp_path / "state"))
    ours = await open_over(below, tmp_path / "state")
    await put(ours, F, DATA)
    before = files_in(base)
    below.faults.fail_effect(3, NoSpace("full"))
    with pytest.raises(NoSpace):
        await ours.move(F, G)
    assert files_in(base) == before
    await ours.move(F, G)
    assert await get(ours, G) == DATA
    await ours.aclose()


async def test_d02_orphans_of_an_old_file_under_a_new_small_one(base, rclone, tmp_path, ours):
    """There: rc 0, then unreadable. Here: the orphans are gone, and both read the new file."""
    (base / "f.rclone_chunk.001").write_bytes(b"0123456789")
    assert upload(rclone, tmp_path, data=b"small").returncode == 0
    assert rclone.run("cat", "C:f").stdout != b"small"
    assert await get(ours, F) == b"small", "what is no metadata is a file"
    await put(ours, F, b"small too")
    assert rclone.ok("cat", "C:f") == b"small too"
    assert files_in(base) == {"f": b"small too"}


async def test_d03_orphans_with_high_numbers_under_a_new_large_file(base, rclone, tmp_path, ours):
    """There: rc 0, then the file is invisible. Here: it is shown, can be replaced, and then is whole."""
    (base / "f.rclone_chunk.009").write_bytes(b"0123456789")
    assert upload(rclone, tmp_path).returncode == 0
    assert "f" not in rclone.names()
    assert (await items(ours))["f"].kind is Kind.FILE
    with pytest.raises(Corrupt):
        await get(ours, F)
    await put(ours, F, OTHER)
    assert rclone.ok("cat", "C:f") == OTHER == await get(ours, F)


async def test_d04_a_broken_file_can_be_replaced_and_deleted(base, rclone, tmp_path, ours):
    """There: refused for ever, or silently unreadable. Here: both work, and nothing is left over."""
    upload(rclone, tmp_path)
    (base / "f.rclone_chunk.002").unlink()
    assert rclone.run("deletefile", "C:f").returncode != 0
    await put(ours, F, OTHER)
    assert rclone.ok("cat", "C:f") == OTHER
    (base / "f.rclone_chunk.002").unlink()
    await ours.delete(F)
    assert files_in(base) == {}


@pytest.mark.parametrize("way", ["rename", "norename"])
@pytest.mark.parametrize("expect", [None, ABSENT])
async def test_d05_writers_of_one_name_never_mix(base, tmp_path, way, expect):
    """There: rc 0 twice and bytes of both. Here: one or the other, whoever writes, also two processes.

    A folder compares nothing by itself: writers who expect the same may all be told to try again, and a
    chunk that is missing in the end is told to whoever reads. Bytes of two are never served.
    """
    bodies = [body(35, n) for n in range(4)]
    results = []
    async with (
        chunker_over(base, tmp_path / "one", transactions=way) as one,
        chunker_over(base, tmp_path / "two", transactions=way) as two,
        trio.open_nursery() as nursery,
    ):

        async def write(storage, data):
            try:
                await put(storage, F, data, expect=expect)
                results.append(data)
            except Stale:
                pass

        for n, data in enumerate(bodies):
            nursery.start_soon(write, (one, two)[n % 2], data)
    async with chunker_over(base, tmp_path / "three", transactions=way) as storage:
        if not results:
            assert await items(storage) == {}
            return
        try:
            assert await get(storage, F) in results
        except Corrupt:
            assert (await fsck.check(storage))[0].path == F
            return
    assert Rclone(base, tmp_path, transactions=way).ok("cat", "C:f") in results


async def test_d06_a_kill_while_it_commits(base, rclone, tmp_path, ours):
    """There: old and new are lost, and a second upload is refused. Here: any remains are repaired.

    The kills of our own commit are in `tests/crash`.
    """
    upload(rclone, tmp_path)
    (base / "f.rclone_chunk.001").unlink()
    (base / "f.rclone_chunk.002").unlink()
    (base / "f.rclone_chunk.001_abcdef").write_bytes(OTHER[:10])
    assert "f" not in rclone.names()
    assert "f" in await items(ours)
    await put(ours, F, OTHER)
    assert await get(ours, F) == OTHER == rclone.ok("cat", "C:f")


async def test_d07_leftovers_of_a_killed_upload(base, rclone, tmp_path, ours):
    """There: they survive everything and nothing lists them. Here: `gc` does, and removes them by age."""
    source = tmp_path / "large"
    source.write_bytes(body(3_000_000))
    slow = [BINARY, "copyto", source, "C:f", "--chunker-chunk-size", "100k", "--bwlimit", "500k"]
    running = subprocess.Popen(slow, env=rclone._environment, stderr=subprocess.DEVNULL)
    with trio.fail_after(60):
        while len(list(base.iterdir())) < 3:
            await trio.sleep(0.02)
    running.send_signal(signal.SIGKILL)
    running.wait()
    assert len(files_in(base)) >= 2
    assert rclone.names() == set()
    left = await gc.find_leftovers(ours)
    assert {leftover.reason for leftover in left} == {"temporary"}
    assert {str(leftover.path) for leftover in left} == set(files_in(base))
    assert all(leftover.age is not None and leftover.age < 60 for leftover in left)
    assert await gc.remove_leftovers(ours, left) == [], "an upload may be under way"
    later = await gc.find_leftovers(ours, now=1_000_000 + os.stat(base).st_mtime)
    assert await gc.remove_leftovers(ours, later) == later
    assert files_in(base) == {}


@pytest.mark.parametrize("size", ["0", "off", "0B"])
async def test_d08_a_chunk_size_of_nothing(base, tmp_path, size):
    """There: empty chunks without end. Here: refused at the start."""
    with pytest.raises(ConfigError):
        await open_over(LocalStorage(str(base)), tmp_path / "state", chunk_size=size)


async def test_d09_a_damaged_file_is_never_taken_for_deleted(base, rclone, tmp_path, ours):
    """There: hidden, rc 0, and a sync deletes the good copy. Here: shown, and reading it says why."""
    upload(rclone, tmp_path)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "f").write_bytes(DATA)
    (base / "f.rclone_chunk.002").unlink()
    assert rclone.ok("cat", "C:f") == b""
    assert rclone.run("sync", "C:", tmp_path / "copy").returncode == 0
    assert not (tmp_path / "copy" / "f").exists()
    listed = (await items(ours))["f"]
    assert listed == await ours.stat(F)
    with pytest.raises(Corrupt, match="chunk 2 of 4 is missing"):
        await get(ours, F)
    assert [finding.fault for finding in await fsck.check(ours)] == ["damaged"]


@pytest.mark.parametrize("way", ["rename", "norename"])
async def test_d10_files_of_the_other_kind_of_transaction(base, tmp_path, way):
    """There: a rename-mode rclone orphans the data. Here: read, moved and deleted whole in either mode."""
    writer = Rclone(base, tmp_path, transactions="norename")
    upload(writer, tmp_path)
    upload(writer, tmp_path, "gone")
    if way == "rename":
        Rclone(base, tmp_path).run("deletefile", "C:gone")
        assert any(name.startswith("gone.rclone_chunk") for name in files_in(base))
        for at in base.glob("gone*"):
            at.unlink()
    else:
        writer.ok("deletefile", "C:gone")
    async with chunker_over(base, tmp_path / "state", transactions=way) as ours:
        assert await get(ours, F) == DATA
        await ours.move(F, G)
        assert writer.ok("cat", "C:g") == DATA
        await ours.delete(G)
    assert files_in(base) == {}


async def test_metadata_is_never_served_as_content(base, rclone, tmp_path, ours):
    """There: without any chunk the metadata is the file. Here: the file is damaged."""
    upload(rclone, tmp_path)
    for at in base.glob("f.rclone*"):
        at.unlink()
    assert rclone.ok("cat", "C:f").startswith(b'{"ver"')
    assert "f" in await items(ours)
    with pytest.raises(Corrupt, match="all of its chunks are missing"):
        await get(ours, F)
    await put(ours, F, DATA)
    assert await get(ours, F) == DATA


@pytest.mark.parametrize("harm", ["doubled", "short", "last missing", "first missing"])
async def test_other_damage(base, rclone, tmp_path, ours, harm):
    upload(rclone, tmp_path)
    if harm == "doubled":
        (base / "f.rclone_chunk.0002").write_bytes(b"x")
    elif harm == "short":
        (base / "f.rclone_chunk.002").write_bytes(b"x")
    else:
        (base / f"f.rclone_chunk.00{4 if harm.startswith('last') else 1}").unlink()
    listed = await items(ours)
    assert listed["f"] == await ours.stat(F)
    with pytest.raises(Corrupt):
        await get(ours, F)
    assert [finding.fault for finding in await fsck.check(ours)] == ["damaged"]
    async with chunker_over(base, tmp_path / "state2", fail_on_bad_chunks="true") as strict:
        found = (await items(strict))["f"]
        assert harm in ("short", "last missing") or found.error == "Corrupt"
    if harm == "doubled":
        await ours.delete(F)
    else:
        await put(ours, F, OTHER)
        assert await get(ours, F) == OTHER == rclone.ok("cat", "C:f")
        await ours.delete(F)
    assert files_in(base) == {}


async def test_a_wrong_byte_is_found_by_a_deep_check(base, rclone, tmp_path, ours):
    upload(rclone, tmp_path)
    (base / "f.rclone_chunk.002").write_bytes(b"0123456789")
    assert await fsck.check(ours) == []
    assert [finding.fault for finding in await fsck.check(ours, contents=True)] == ["wrong content"]


async def test_names_too_long_leave_nothing(base, rclone, tmp_path, ours):
    """There even a small file fails. Here a small one is kept; a large one is refused at once."""
    name = "n" * 240
    assert upload(rclone, tmp_path, name, b"small").returncode != 0
    await put(ours, name, b"small")
    assert files_in(base) == {name: b"small"}
    assert rclone.ok("cat", f"C:{name}") == b"small"
    await ours.delete(RelPath(name))
    with pytest.raises(PathError, match="longer than 255 bytes"):
        await put(ours, name, DATA)
    assert files_in(base) == {}
    assert ours.info.names.refusal(RelPath(name)) is None
    assert ours.info.names.refusal(RelPath(name), size=35) is not None
