"""What only some storages can do; the tests of what one lacks are skipped."""

from __future__ import annotations

import hashlib
import random
from typing import ClassVar

import pytest
import trio

from mountsync.errors import (
    AlreadyExists,
    DirectoryNotEmpty,
    IsADirectory,
    MountsyncError,
    NameRefused,
    NoSpace,
    NotADirectory,
    NotFound,
    PathError,
    Stale,
)
from mountsync.model.entry import Kind
from mountsync.paths import ROOT, RelPath
from mountsync.storage import api
from mountsync.storage.api import ABSENT
from mountsync.storage.memory import MemoryStorage
from mountsync.storage.sources import BytesSource
from tests.conformance.parts import MTIME, OTHER, facts, need, plant, same_time, watch_for
from tests.parts.bodies import body, get, items, put
from tests.parts.pouring import Puddle


class CapabilityConformance:
    same_errors: ClassVar[bool]
    large: ClassVar[int]
    deep: ClassVar[int]

    # ---- pouring -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("most", [0, 1, 100_000, 3_000_000])
    async def test_pour(self, storage, most):
        need(storage, api.SupportsPour)
        size = min(most, self.large)
        data = body(size)
        entry = await put(storage, "d/f", data)
        for offset, length in [(0, None), (0, size), (size // 3, size // 2), (size, None), (size // 2, 0)]:
            puddle, end = Puddle(), size if length is None else offset + length
            args = (RelPath("d/f"), puddle.put_at, offset, length)
            async with storage.pour(*args, expect=entry.token) as counts:
                assert sum([count async for count in counts]) == max(0, end - offset)
            assert puddle.bytes[offset:] == data[offset:end]

    async def test_pour_raises_as_read_does(self, storage):
        need(storage, api.SupportsPour)
        await put(storage, "d/f", b"one")
        puddle = Puddle()
        for path, expect, error in [
            ("nothing", None, NotFound),
            ("d", None, IsADirectory),
            ("d/f", OTHER, Stale),
        ]:
            with pytest.raises(error):
                async with storage.pour(RelPath(path), puddle.put_at, expect=expect) as counts:
                    [count async for count in counts]
        assert not puddle.calls

    async def test_pour_ends_with_the_error_of_whoever_takes_it(self, storage):
        need(storage, api.SupportsPour)
        size = min(3_000_000, self.large)
        await put(storage, "f", body(size))
        puddle = Puddle(NoSpace("the disk is full"), at=size // 2)
        with pytest.raises(NoSpace):
            async with storage.pour(RelPath("f"), puddle.put_at) as counts:
                [count async for count in counts]
        calls = puddle.calls
        await trio.sleep(0.05)
        assert puddle.calls == calls

    # ---- moving and copying ------------------------------------------------------------------------

    async def test_move(self, storage):
        need(storage, api.SupportsMove)
        data = body(1_200_000)
        entry = await put(storage, "a/f", data, mtime_ns=MTIME)
        moved = await storage.move(RelPath("a/f"), RelPath("b/c/g"), expect=entry.token)
        assert (moved.size, moved.mtime_ns) == (entry.size, entry.mtime_ns)
        assert await storage.stat(RelPath("a/f")) is None
        assert facts(await storage.stat(RelPath("b/c/g"))) == facts(moved)
        assert await get(storage, "b/c/g", expect=moved.token) == data

    async def test_move_expects(self, storage):
        need(storage, api.SupportsMove)
        source, target = RelPath("a"), RelPath("b")
        entry, there = await put(storage, "a", b"one"), await put(storage, "b", b"two")
        with pytest.raises(NotFound):
            await storage.move(RelPath("nothing"), RelPath("c"))
        with pytest.raises(Stale):
            await storage.move(source, RelPath("c"), expect=OTHER)
        with pytest.raises(AlreadyExists):
            await storage.move(source, target, expect=entry.token)
        with pytest.raises(Stale):
            await storage.move(source, target, expect=entry.token, replace=OTHER)
        assert (await get(storage, "a"), await get(storage, "b")) == (b"one", b"two")
        await storage.move(source, target, expect=entry.token, replace=there.token)
        assert await get(storage, "b") == b"one"
        await put(storage, "c", b"three")
        await storage.move(target, RelPath("c"), replace=None)
        assert set(await items(storage)) == {"c"}
        assert await get(storage, "c") == b"one"

    async def test_move_and_directories(self, storage):
        need(storage, api.SupportsMove)
        await put(storage, "f", b"file")
        await put(storage, "d/g", b"in a directory")
        with pytest.raises(IsADirectory):
            await storage.move(RelPath("f"), RelPath("d"), replace=None)
        with pytest.raises(NotADirectory):
            await storage.move(RelPath("d/g"), RelPath("f/below"))
        assert {"f", "d", "d/g"} == set(await items(storage))

    async def test_move_of_a_directory(self, storage):
        need(storage, api.SupportsMove)
        if not storage.info.moves_directories:
            pytest.skip("the storage moves no directories")
        paths = await plant(storage, self.deep)
        await storage.move(RelPath("d0"), RelPath("new/place"))
        found = {path for path, entry in (await items(storage)).items() if entry.kind is Kind.FILE}
        assert found == {f"new/place{path[2:]}" if path.startswith("d0/") else path for path in paths}
        assert await get(storage, "new/place/e1/f2") == b"d0/e1/f2"
        with pytest.raises(NameRefused):
            await storage.move(RelPath("d1"), RelPath("d1/e0/inside"))
        with pytest.raises(AlreadyExists):
            await storage.move(RelPath("d1"), RelPath("d2"))
        with pytest.raises(DirectoryNotEmpty):
            await storage.move(RelPath("d1"), RelPath("d2"), replace=None)
        with pytest.raises(NotADirectory):
            await storage.move(RelPath("d1"), RelPath("top"), replace=None)
        assert await get(storage, "d1/e1/f2") == b"d1/e1/f2"

    @pytest.mark.parametrize("size", [0, 100, 3_000_000])
    async def test_copy(self, storage, size):
        need(storage, api.SupportsCopy)
        data = body(size)
        entry = await put(storage, "a", data, mtime_ns=MTIME)
        copied = await storage.copy(RelPath("a"), RelPath("b/c"), expect=entry.token)
        assert copied.size == size
        if storage.info.mtime_precision_ns is not None:  # else each has the time at which it came
            assert copied.mtime_ns == entry.mtime_ns
        assert facts(await storage.stat(RelPath("b/c"))) == facts(copied)
        await put(storage, "a", b"changed")
        assert await get(storage, "b/c", expect=copied.token) == data

    async def test_copy_expects(self, storage):
        need(storage, api.SupportsCopy)
        source, target = RelPath("a"), RelPath("b")
        entry, there = await put(storage, "a", b"one"), await put(storage, "b", b"two")
        with pytest.raises(NotFound):
            await storage.copy(RelPath("nothing"), RelPath("c"))
        with pytest.raises(Stale):
            await storage.copy(source, RelPath("c"), expect=OTHER)
        with pytest.raises(AlreadyExists):
            await storage.copy(source, target)
        with pytest.raises(Stale):
            await storage.copy(source, target, replace=OTHER)
        assert set(await items(storage)) == {"a", "b"}
        assert await get(storage, "b") == b"two"
        await storage.copy(source, target, expect=entry.token, replace=there.token)
        assert await get(storage, "b") == b"one"
        await put(storage, "d/f", b"")
        with pytest.raises(IsADirectory):
            await storage.copy(RelPath("d"), RelPath("e"))
        with pytest.raises(IsADirectory):
            await storage.copy(source, RelPath("d"), replace=None)

    # ---- other capabilities ------------------------------------------------------------------------

    async def test_digest(self, storage):
        need(storage, api.SupportsDigest)
        for size in (0, 10, 2_000_000):
            data = body(size)
            entry = await put(storage, "f", data)
            known = await storage.digest(RelPath("f"), expect=entry.token)
            assert known in (None, hashlib.sha256(data).hexdigest())
        with pytest.raises(Stale):
            await storage.digest(RelPath("f"), expect=OTHER)
        with pytest.raises(NotFound):
            await storage.digest(RelPath("g"))

    async def test_hashes(self, storage):
        need(storage, api.SupportsHashes)
        await put(storage, "f", b"content")
        for name, value in (await storage.hashes(RelPath("f"))).items():
            assert name in storage.info.hashes
            assert value == hashlib.new(name, b"content").hexdigest()

    async def test_set_mtime(self, storage):
        need(storage, api.SupportsSetMtime)
        first = await put(storage, "f", b"content", mtime_ns=MTIME)
        entry = await storage.set_mtime(RelPath("f"), MTIME - 10**10, expect=first.token)
        assert same_time(storage, entry.mtime_ns, MTIME - 10**10)
        assert facts(await storage.stat(RelPath("f"))) == facts(entry)
        with pytest.raises(Stale):
            await storage.set_mtime(RelPath("f"), MTIME, expect=OTHER)
        with pytest.raises(NotFound):
            await storage.set_mtime(RelPath("g"), MTIME)
        assert await get(storage, "f", expect=entry.token) == b"content"

    async def test_directories(self, storage):
        need(storage, api.SupportsDirectories)
        made = await storage.make_directory(RelPath("a/b/c"))
        assert made.kind is Kind.DIRECTORY
        await storage.make_directory(RelPath("a/b"))
        await put(storage, "a/f", b"x")
        if storage.info.empty_directories:
            assert set(await items(storage)) == {"a", "a/b", "a/b/c", "a/f"}
            assert await items(storage, "a/b/c") == {}
        with pytest.raises(NotADirectory):
            await storage.make_directory(RelPath("a/f"))
        with pytest.raises(DirectoryNotEmpty):
            await storage.remove_directory(RelPath("a"))
        with pytest.raises(NotADirectory):
            await storage.remove_directory(RelPath("a/f"))
        with pytest.raises(NotFound):
            await storage.remove_directory(RelPath("nothing"))
        with pytest.raises(PathError):
            await storage.remove_directory(ROOT)
        if storage.info.empty_directories:
            await storage.remove_directory(RelPath("a/b/c"))
            assert await storage.stat(RelPath("a/b/c")) is None
        assert await get(storage, "a/f") == b"x"

    async def test_symlinks(self, storage):
        need(storage, api.SupportsSymlinks)
        for target in ("somewhere", "../../outside", "/etc/passwd", "odd \n\udcff", "x" * 1000):
            entry = await storage.make_symlink(RelPath("d/link"), target)
            assert (entry.kind, entry.target) == (Kind.SYMLINK, target)
            assert facts(await storage.stat(RelPath("d/link"))) == facts(entry)
            assert facts((await items(storage))["d/link"]) == facts(entry)
        with pytest.raises(Stale):
            await storage.make_symlink(RelPath("d/link"), "other", expect=ABSENT)
        with pytest.raises(Stale):
            await storage.make_symlink(RelPath("d/link"), "other", expect=OTHER)
        again = await storage.make_symlink(RelPath("d/link"), "other", expect=entry.token)
        with pytest.raises(IsADirectory):
            await storage.make_symlink(RelPath("d"), "other")
        await storage.delete(RelPath("d/link"), expect=again.token)
        assert await storage.stat(RelPath("d/link")) is None

    async def test_a_link_to_a_directory_is_not_followed(self, storage):
        need(storage, api.SupportsSymlinks)
        await put(storage, "real/f", b"x")
        await storage.make_symlink(RelPath("link"), "real")
        assert set(await items(storage)) == {"real", "real/f", "link"}
        assert await storage.stat(RelPath("link/f")) is None
        with pytest.raises(NotFound):
            await storage.delete(RelPath("link/f"))
        with pytest.raises(NotADirectory):
            await put(storage, "link/g", b"y")
        assert set(await items(storage)) == {"real", "real/f", "link"}

    async def test_a_file_replaces_a_link(self, storage):
        need(storage, api.SupportsSymlinks)
        await put(storage, "real", b"x")
        link = await storage.make_symlink(RelPath("link"), "real")
        await put(storage, "link", b"a file now", expect=link.token)
        assert await get(storage, "link") == b"a file now"
        assert await get(storage, "real") == b"x"

    async def test_links_move_and_copy_as_links(self, storage):
        need(storage, api.SupportsSymlinks, api.SupportsMove, api.SupportsCopy)
        await storage.make_symlink(RelPath("a"), "nowhere")
        copied = await storage.copy(RelPath("a"), RelPath("b"))
        moved = await storage.move(RelPath("a"), RelPath("c"))
        assert (copied.target, moved.target) == ("nowhere", "nowhere")
        assert set(await items(storage)) == {"b", "c"}

    async def test_attributes(self, storage):
        need(storage, api.SupportsAttributes)
        await put(storage, "d/f", b"x")
        for mode in (0o600, 0o755, 0o444, 0o4711):
            entry = await storage.set_mode(RelPath("d/f"), mode)
            assert entry.mode == mode
            assert facts(await storage.stat(RelPath("d/f"))) == facts(entry)
        assert (await storage.set_mode(RelPath("d"), 0o750)).mode == 0o750
        with pytest.raises(NotFound):
            await storage.set_mode(RelPath("g"), 0o644)

    async def test_an_overwritten_file_keeps_its_mode(self, storage):
        need(storage, api.SupportsAttributes)
        await put(storage, "f", b"x")
        await storage.set_mode(RelPath("f"), 0o640)
        assert (await put(storage, "f", b"new")).mode == 0o640
        assert (await put(storage, "f", body(1_500_000))).mode == 0o640

    async def test_a_mode_changes_no_token(self, storage):
        need(storage, api.SupportsAttributes)
        entry = await put(storage, "f", b"x")
        assert (await storage.set_mode(RelPath("f"), 0o600)).token == entry.token

    async def test_watch(self, storage):
        need(storage, api.SupportsWatch)
        await put(storage, "d/old", b"x")
        async with storage.watch() as hints:
            await put(storage, "d/new", b"x")
            await watch_for(hints, "d/new")
            await put(storage, "made/in/one/go", b"x")
            await watch_for(hints, "made/in/one/go")
            await put(storage, "made/in/one/later", b"x")
            await watch_for(hints, "made/in/one/later")
            await storage.delete(RelPath("d/old"))
            await watch_for(hints, "d/old")

    async def test_watch_follows_moved_directories(self, storage):
        need(storage, api.SupportsWatch, api.SupportsMove)
        if not storage.info.moves_directories:
            pytest.skip("the storage moves no directories")
        await put(storage, "a/b/f", b"x")
        async with storage.watch() as hints:
            await storage.move(RelPath("a"), RelPath("z"))
            await watch_for(hints, "z")
            await put(storage, "z/b/g", b"x")
            await watch_for(hints, "z/b/g")

    async def test_two_watchers(self, storage):
        need(storage, api.SupportsWatch)
        async with storage.watch() as first, storage.watch() as second:
            await put(storage, "f", b"x")
            await watch_for(first, "f")
            await watch_for(second, "f")

    async def test_usage(self, storage):
        need(storage, api.SupportsUsage)
        usage = await storage.usage()
        assert all(value is None or value >= 0 for value in (usage.total, usage.used, usage.free))

    async def test_barrier(self, storage):
        need(storage, api.SupportsBarrier)
        async with trio.open_nursery() as nursery:
            for n in range(4):
                await put(storage, f"f{n}", b"x")
                nursery.start_soon(storage.barrier)
        assert len(await items(storage)) == 4

    async def test_recovery_keeps_what_is_finished(self, storage):
        need(storage, api.SupportsAttempts)
        await put(storage, "d/f", b"x")
        await storage.recover_attempts()
        await storage.recover_attempts()
        assert set(await items(storage)) == {"d", "d/f"}

    # ---- as the in-memory storage ------------------------------------------------------------------

    @pytest.mark.parametrize("seed", range(6))
    async def test_random_calls_end_as_in_memory(self, storage, seed):
        """The same calls on this storage and on a MemoryStorage leave the same trees."""
        model, chance = MemoryStorage(), random.Random(seed)
        for _ in range(80):
            call = self._random_call(storage, chance)
            if call is None:
                continue
            name, *arguments = call
            whole = storage.info.moves_directories and name != "copy"
            outcomes = [await _outcome(side, name, arguments, whole=whole) for side in (storage, model)]
            if self.same_errors:
                assert outcomes[0] == outcomes[1], (call, outcomes)
            else:
                assert (outcomes[0] is None) == (outcomes[1] is None), call
            if not storage.info.empty_directories:
                await _prune(model)
        found = await _content(model)
        if not storage.info.empty_directories:
            found = {path: seen for path, seen in found.items() if seen is not Kind.DIRECTORY}
        assert await _content(storage) == found

    def _random_call(self, storage, chance):
        path, other = (RelPath(_random_path(chance)) for _ in range(2))
        name = chance.choice(
            ["write", "write", "delete", "move", "copy", "make_directory", "remove_directory"]
        )
        replace = chance.choice([ABSENT, None])
        if name == "write":
            return "write", path, BytesSource(body(chance.choice([0, 5, 50]), chance.random()))
        if name in ("move", "copy"):
            return (name, path, other, replace) if hasattr(storage, name) and path != other else None
        return (name, path) if hasattr(storage, name) and storage.info.empty_directories else None


def _random_path(chance: random.Random) -> str:
    return "/".join(chance.choice("ab") for _ in range(chance.choice([1, 2, 3])))


async def _outcome(storage, name, arguments, *, whole):
    """The class of the error, None without one. `whole`: directories are moved too."""
    try:
        if name in ("move", "copy"):
            source, target, replace = arguments
            if not whole:
                found = await storage.stat(source)
                if found is not None and found.kind is Kind.DIRECTORY:
                    return None
            await getattr(storage, name)(source, target, replace=replace)
        else:
            await getattr(storage, name)(*arguments)
    except MountsyncError as error:
        return type(error)
    return None


async def _prune(storage):
    """Takes away the directories that no file is below."""
    found = await items(storage)
    files = [path for path, entry in found.items() if entry.kind is Kind.FILE]
    for path in sorted(set(found) - set(files), reverse=True):
        if not any(file.startswith(f"{path}/") for file in files):
            await storage.remove_directory(RelPath(path))


async def _content(storage):
    found = await items(storage)
    return {
        path: await get(storage, path) if entry.kind is Kind.FILE else entry.kind
        for path, entry in found.items()
        if entry.kind is Kind.FILE or storage.info.empty_directories
    }
