"""The seven members of every storage."""

from __future__ import annotations

import hashlib
from typing import ClassVar

import pytest
import trio

from mountsync.errors import (
    IsADirectory,
    NotADirectory,
    NotFound,
    Stale,
    Unreachable,
)
from mountsync.model.entry import Kind
from mountsync.paths import ROOT, RelPath
from mountsync.storage import api
from mountsync.storage.api import ABSENT, Storage
from mountsync.storage.sources import BytesSource, FileSource, StorageSource
from tests.conformance.parts import MTIME, ODD_NAMES, OTHER, facts, plant, same_time
from tests.parts.bodies import BreakingSource, ChangingSource, StoppingSource, body, get, items, put


class CoreConformance:
    large: ClassVar[int]
    deep: ClassVar[int]

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
        assert root is None or root.kind is Kind.DIRECTORY  # some begin with their first object
        await put(storage, "first", b"")
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

    async def test_recursive_equals_level_by_level(self, storage):
        paths = await plant(storage, self.deep)
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
        await plant(storage, self.deep)
        async with storage.list(ROOT, recursive=True) as batches:
            async for batch in batches:
                assert batch
                break
        assert len(await items(storage)) > 30

    async def test_many_in_one_directory(self, storage):
        left = iter(range(1100))

        async def write():
            for n in left:
                await put(storage, f"many/{n}", b"")

        async with trio.open_nursery() as nursery:
            for _ in range(50):
                nursery.start_soon(write)
        assert len(await items(storage, "many", recursive=False)) == 1100
