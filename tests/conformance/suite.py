"""What `mountsync.storage.api` promises, as tests that every storage passes.

To add a storage, write a module with an async fixture `storage` that gives an empty one:

    @pytest.fixture
    async def storage():
        storage = MemoryStorage()
        yield storage
        await storage.aclose()

    class TestMemory(StorageConformance):
        pass

Tests of a capability that the storage lacks are skipped. Class variables tune what may differ.
"""

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
    NotADirectory,
    NotFound,
    PathError,
    Stale,
    Unreachable,
)
from mountsync.model.entry import Entry, Kind, Token
from mountsync.paths import ROOT, RelPath, is_within
from mountsync.storage import api
from mountsync.storage.api import ABSENT, Storage
from mountsync.storage.memory import MemoryStorage
from mountsync.storage.sources import BytesSource, FileSource, StorageSource
from tests.parts.bodies import BreakingSource, ChangingSource, StoppingSource, body, get, items, put

MTIME = 1_700_000_123_456_789_123
OTHER = Token("no such token")

ODD_NAMES = [
    "plain",
    " leading and trailing ",
    "...",
    ".hidden",
    "tab\tnewline\nescape\x1b",
    "back\\slash",
    "quote\"'`",
    "*?<>|:",
    "%41 %00 %d",
    "#hash&amp;",
    "e\u0301 NFD",
    "\u00e9 NFC",
    "\U0001f600 emoji",
    "\u202eright-to-left",
    "-rf",
    "trailing dot.",
    "~",
    "not \udcff\udcfe UTF-8",
    "\x7f",
    "n" * 255,
    "\u20ac" * 85,
    "n" * 256,
    "\u20ac" * 86,
]


def need(storage: Storage, *capabilities: type) -> None:
    for capability in capabilities:
        if not isinstance(storage, capability):
            pytest.skip(f"the storage has no {capability.__name__}")


def facts(entry: Entry | None) -> tuple:
    """What must be equal wherever an entry comes from."""
    assert entry is not None
    return entry.kind, entry.size, entry.mtime_ns, entry.mode, entry.token, entry.target


def same_time(storage: Storage, seen: int | None, wanted: int) -> bool:
    step = storage.info.mtime_precision_ns
    return step is None or (seen is not None and abs(seen - wanted) < step)


async def watch_for(hints, path: str) -> None:
    with trio.fail_after(5):
        async for changed in hints:
            if any(is_within(RelPath(path), hint) for hint in changed):
                return


class StorageConformance:
    large: ClassVar[int] = 20 << 20
    """The size of the largest body that is tried."""
    same_errors: ClassVar[bool] = True
    """Whether failing calls must raise the same class as those of a MemoryStorage."""
    deep: ClassVar[int] = 12
    """How deep a tree is tried."""

    # ---- the seven members -------------------------------------------------------------------

    async def test_has_a_constant_identity(self, storage):
        assert isinstance(storage, Storage)
        assert storage.info == storage.info
        assert storage.info.type
        assert storage.info.identity.startswith(storage.info.type)

    async def test_is_empty_at_first(self, storage):
        assert await items(storage) == {}
        assert await storage.stat(RelPath("nothing")) is None

    async def test_root_is_a_directory(self, storage):
        root = await storage.stat(ROOT)
        assert root is not None
        assert root.kind is Kind.DIRECTORY

    @pytest.mark.parametrize("size", [0, 1, 4096, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 3_000_001])
    async def test_what_was_written_is_read(self, storage, size):
        data = body(size)
        entry = await put(storage, "some/folder/file", data)
        assert entry.kind is Kind.FILE
        assert entry.size == size
        assert entry.token is not None
        assert await get(storage, "some/folder/file") == data
        assert facts(await storage.stat(RelPath("some/folder/file"))) == facts(entry)
        listed = await items(storage)
        assert facts(listed["some/folder/file"]) == facts(entry)
        assert set(listed) == {"some", "some/folder", "some/folder/file"}

    async def test_a_large_body(self, storage):
        data = body(self.large)
        entry = await put(storage, "large", data)
        assert entry.size == len(data)
        async with storage.read(RelPath("large")) as pieces:
            digest = hashlib.sha256()
            async for piece in pieces:
                assert len(piece) < self.large, "a large object must come in pieces"
                digest.update(piece)
        assert digest.digest() == hashlib.sha256(data).digest()

    async def test_ranges(self, storage):
        data = body(2_500_000)
        await put(storage, "f", data)
        size = len(data)
        ranges = [
            (0, 0),
            (0, 1),
            (size - 1, 1),
            (size - 1, 9),
            (size, 1),
            (size + 9, 1),
            (0, size),
            (0, None),
        ]
        ranges += [(size, None), (size + 5, None), ((1 << 20) - 3, 7), (1 << 20, 1 << 20), (777, 1_500_000)]
        for offset, length in ranges:
            wanted = data[offset:] if length is None else data[offset : offset + length]
            assert await get(storage, "f", offset, length) == wanted, (offset, length)

    async def test_reading_can_stop_early(self, storage):
        await put(storage, "f", body(3_000_000))
        async with storage.read(RelPath("f")) as pieces:
            async for piece in pieces:
                assert piece
                break
        await storage.delete(RelPath("f"))

    async def test_overwriting_replaces_all(self, storage):
        first = await put(storage, "f", body(2_000_000))
        second = await put(storage, "f", b"short")
        assert second.token != first.token
        assert await get(storage, "f") == b"short"
        third = await put(storage, "f", b"SHORT")
        assert third.token not in (first.token, second.token)
        assert set(await items(storage)) == {"f"}

    async def test_bodies_from_files_and_storages(self, storage, tmp_path):
        for size in (10, 2_500_000):
            data = body(size, seed=size)
            (tmp_path / "source").write_bytes(data)
            with FileSource(str(tmp_path / "source")) as source:
                entry = await storage.write(RelPath("a"), source)
            assert await get(storage, "a") == data
            again = StorageSource(storage, RelPath("a"), entry)
            await storage.write(RelPath("b"), again)
            assert await get(storage, "b") == data

    async def test_times_are_kept_to_the_precision(self, storage):
        for mtime in (MTIME, 0, 1_000_000_000, 4_102_444_800_999_999_999):
            entry = await put(storage, "f", b"x", mtime_ns=mtime)
            assert same_time(storage, entry.mtime_ns, mtime)
            assert facts(await storage.stat(RelPath("f"))) == facts(entry)

    async def test_missing_objects(self, storage):
        await put(storage, "file", b"x")
        for path in ("nothing", "no/such/folder", "file/below"):
            assert await storage.stat(RelPath(path)) is None
            with pytest.raises(NotFound):
                await get(storage, path)
            with pytest.raises(NotFound):
                await storage.delete(RelPath(path))
            with pytest.raises((NotFound, NotADirectory)):
                await items(storage, path)

    async def test_a_file_is_not_listed_as_a_directory(self, storage):
        await put(storage, "file", b"x")
        with pytest.raises((NotADirectory, NotFound)):
            await items(storage, "file")

    async def test_a_directory_is_no_file(self, storage):
        await put(storage, "folder/file", b"x")
        with pytest.raises(IsADirectory):
            await get(storage, "folder")
        with pytest.raises(IsADirectory):
            await put(storage, "folder", b"y")
        with pytest.raises(IsADirectory):
            await storage.delete(RelPath("folder"))
        with pytest.raises(IsADirectory):
            await put(storage, "", b"y")
        assert await get(storage, "folder/file") == b"x"

    async def test_nothing_is_written_below_a_file(self, storage):
        await put(storage, "file", b"x")
        with pytest.raises(NotADirectory):
            await put(storage, "file/below", b"y")
        assert await get(storage, "file") == b"x"

    async def test_delete(self, storage):
        await put(storage, "folder/a", b"a")
        await put(storage, "folder/b", b"b")
        await storage.delete(RelPath("folder/a"))
        assert await storage.stat(RelPath("folder/a")) is None
        assert await get(storage, "folder/b") == b"b"
        with pytest.raises(NotFound):
            await storage.delete(RelPath("folder/a"))

    async def test_closing_twice(self, storage):
        await storage.aclose()
        await storage.aclose()

    # ---- expectations --------------------------------------------------------------------------

    async def test_write_expects(self, storage):
        with pytest.raises(Stale):
            await put(storage, "d/f", b"new", expect=OTHER)
        assert await items(storage) == {}
        first = await put(storage, "f", b"one", expect=ABSENT)
        with pytest.raises(Stale):
            await put(storage, "f", b"new", expect=ABSENT)
        with pytest.raises(Stale):
            await put(storage, "f", b"new", expect=OTHER)
        assert await get(storage, "f") == b"one"
        second = await put(storage, "f", b"two!", expect=first.token)
        with pytest.raises(Stale):
            await put(storage, "f", b"new", expect=first.token)
        assert await get(storage, "f", expect=second.token) == b"two!"
        assert facts(await storage.stat(RelPath("f"))) == facts(second)

    async def test_a_large_write_expects_at_its_end(self, storage):
        """Somebody else's version that came while the body travelled stays."""
        first = await put(storage, "f", b"one")
        for expect, path in ((first.token, "f"), (ABSENT, "g")):

            class Late(BytesSource):
                disturbed = False

                async def read(self, offset, length, path=path):
                    if offset + length > 2_000_000 and not self.disturbed:
                        self.disturbed = True
                        await put(storage, path, b"somebody else's")
                    return await super().read(offset, length)

            with pytest.raises(Stale):
                await storage.write(RelPath(path), Late(body(3_000_000)), expect=expect)
            assert await get(storage, path) == b"somebody else's"
        assert set(await items(storage)) == {"f", "g"}

    async def test_delete_expects(self, storage):
        entry = await put(storage, "f", b"one")
        for wrong in (OTHER, ABSENT):
            with pytest.raises(Stale):
                await storage.delete(RelPath("f"), expect=wrong)
        with pytest.raises(NotFound):
            await storage.delete(RelPath("g"), expect=entry.token)
        await storage.delete(RelPath("f"), expect=entry.token)
        assert await items(storage) == {}

    async def test_read_expects(self, storage):
        entry = await put(storage, "f", b"one")
        assert await get(storage, "f", expect=entry.token) == b"one"
        with pytest.raises(Stale):
            await get(storage, "f", expect=OTHER)
        with pytest.raises(NotFound):
            await get(storage, "g", expect=entry.token)

    async def test_a_read_never_mixes_versions(self, storage):
        old, new = body(3_000_000, 1), body(3_000_000, 2)
        entry = await put(storage, "f", old)
        got = b""
        try:
            async with storage.read(RelPath("f"), expect=entry.token) as pieces:
                async for piece in pieces:
                    if not got:
                        await put(storage, "f", new)
                    got += piece
        except Stale:
            pass
        else:
            assert got == old
        assert old.startswith(got)
        assert await get(storage, "f") == new

    # ---- failures leave what was there -----------------------------------------------------------

    @pytest.mark.parametrize("size", [100, 3_000_000])
    @pytest.mark.parametrize("exists", [False, True])
    async def test_a_source_that_moved_on(self, storage, size, exists):
        before = await self._prepare(storage, exists)
        with pytest.raises(Stale):
            await storage.write(RelPath("d/f"), ChangingSource(body(size)))
        await self._unchanged(storage, before)

    @pytest.mark.parametrize("size", [100, 3_000_000])
    @pytest.mark.parametrize("exists", [False, True])
    async def test_a_source_that_breaks(self, storage, size, exists):
        before = await self._prepare(storage, exists)
        with pytest.raises(Unreachable):
            await storage.write(RelPath("d/f"), BreakingSource(body(size), size // 2, Unreachable("gone")))
        await self._unchanged(storage, before)

    @pytest.mark.parametrize("size", [100, 3_000_000])
    @pytest.mark.parametrize("exists", [False, True])
    async def test_a_cancelled_write(self, storage, size, exists):
        before = await self._prepare(storage, exists)
        source = StoppingSource(body(size), size // 2)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(storage.write, RelPath("d/f"), source)
            with trio.fail_after(10):
                await source.reached.wait()
            nursery.cancel_scope.cancel()
        await self._unchanged(storage, before)

    async def test_a_write_that_is_cancelled_anywhere(self, storage):
        """Either the old or the new object, whatever the moment."""
        old, new = body(2_100_000, 1), body(2_100_000, 2)
        for delay in range(0, 12, 2):
            await put(storage, "f", old)
            with trio.move_on_after(delay / 1000):
                await put(storage, "f", new)
            assert await get(storage, "f") in (old, new)
            assert set(await items(storage)) == {"f"}

    async def _prepare(self, storage, exists):
        if exists:
            await put(storage, "d/f", b"old", mtime_ns=MTIME)
        else:
            await put(storage, "d/other", b"other")
        return {path: facts(entry) for path, entry in (await items(storage)).items()}

    async def _unchanged(self, storage, before):
        assert {path: facts(entry) for path, entry in (await items(storage)).items()} == before
        if "d/f" in before:
            assert await get(storage, "d/f") == b"old"

    async def test_writers_of_one_name(self, storage):
        bodies = [body(1_500_000 + n, n) for n in range(4)]
        async with trio.open_nursery() as nursery:
            for data in bodies:
                nursery.start_soon(put, storage, "f", data)
        entry = await storage.stat(RelPath("f"))
        assert await get(storage, "f", expect=entry.token) in bodies
        assert set(await items(storage)) == {"f"}

    async def test_one_of_many_makes_a_new_name(self, storage):
        """Of several that expect nothing to be there at least one wins, and its body is there."""
        won = []

        async def attempt(n):
            try:
                await put(storage, "f", body(1000, n), expect=ABSENT)
                won.append(n)
            except Stale:
                pass

        async with trio.open_nursery() as nursery:
            for n in range(8):
                nursery.start_soon(attempt, n)
        if storage.info.enforcement is api.Enforcement.ATOMIC:
            assert len(won) == 1
        assert await get(storage, "f") in [body(1000, n) for n in won]

    # ---- names -----------------------------------------------------------------------------------

    @pytest.mark.parametrize("name", ODD_NAMES, ids=[ascii(name)[:24] for name in ODD_NAMES])
    async def test_odd_names(self, storage, name):
        path = RelPath(f"{name}x/{name}" if len(name) < 60 else name)
        refusal = storage.info.names.refusal(path)
        if refusal is not None:
            with pytest.raises(type(refusal)):
                await put(storage, path, b"x")
            assert await items(storage) == {}
            return
        entry = await put(storage, path, b"content")
        assert await get(storage, path) == b"content"
        listed = await items(storage)
        assert facts(listed[path]) == facts(entry)
        assert facts(await storage.stat(path)) == facts(entry)
        if "/" in path:
            assert set(await items(storage, f"{name}x", recursive=False)) == {path}
        await storage.delete(path)
        assert await storage.stat(path) is None

    async def test_names_that_look_alike(self, storage):
        if storage.info.unicode_normalizing:
            pytest.skip("the storage folds these names")
        names = ["\u00e9", "e\u0301"] + (["Case", "case"] if storage.info.case_sensitive else [])
        names = [name for name in names if storage.info.names.refusal(RelPath(name)) is None]
        for name in names:
            await put(storage, name, name.encode())
        assert set(await items(storage)) == set(names)
        for name in names:
            assert await get(storage, name) == name.encode()

    # ---- listings --------------------------------------------------------------------------------

    async def _tree(self, storage):
        paths = [f"d{a}/e{b}/f{c}" for a in range(3) for b in range(3) for c in range(4)]
        paths += ["top", "d0/file", "/".join(["deep"] * self.deep)]
        for path in paths:
            await put(storage, path, path.encode())
        return paths

    async def test_recursive_equals_level_by_level(self, storage):
        paths = await self._tree(storage)
        whole = await items(storage)
        by_level = {}
        waiting = [ROOT]
        while waiting:
            level = await items(storage, waiting.pop(), recursive=False)
            by_level |= level
            waiting += [RelPath(path) for path, entry in level.items() if entry.kind is Kind.DIRECTORY]
        assert whole == by_level
        assert {path for path, entry in whole.items() if entry.kind is Kind.FILE} == set(paths)
        below = {path: entry for path, entry in whole.items() if path.startswith("d1/")}
        assert await items(storage, "d1") == below

    async def test_a_listing_can_stop_early(self, storage):
        await self._tree(storage)
        async with storage.list(ROOT, recursive=True) as batches:
            async for batch in batches:
                assert batch
                break
        assert len(await items(storage)) > 30

    async def test_many_in_one_directory(self, storage):
        for n in range(1100):
            await put(storage, f"many/{n}", b"")
        assert len(await items(storage, "many", recursive=False)) == 1100

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
        paths = await self._tree(storage)
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
            outcomes = [await _outcome(side, name, arguments) for side in (storage, model)]
            if self.same_errors:
                assert outcomes[0] == outcomes[1], (call, outcomes)
            else:
                assert (outcomes[0] is None) == (outcomes[1] is None), call
        assert await _content(storage) == await _content(model)

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


async def _outcome(storage, name, arguments):
    try:
        if name in ("move", "copy"):
            source, target, replace = arguments
            if not storage.info.moves_directories or name == "copy":
                found = await storage.stat(source)
                if found is not None and found.kind is Kind.DIRECTORY:
                    return None
            await getattr(storage, name)(source, target, replace=replace)
        else:
            await getattr(storage, name)(*arguments)
    except MountsyncError as error:
        return type(error)
    return None


async def _content(storage):
    found = await items(storage)
    return {
        path: await get(storage, path) if entry.kind is Kind.FILE else entry.kind
        for path, entry in found.items()
        if entry.kind is Kind.FILE or storage.info.empty_directories
    }
