"""The chunker does what a storage must do, with tiny, small and huge chunks, over two bases."""

from __future__ import annotations

from pathlib import Path

import pytest

from mountsync.errors import Stale
from mountsync.formats.chunk_names import name_format
from mountsync.model.entry import Kind
from mountsync.paths import RelPath
from mountsync.storage import api
from mountsync.storage.api import ABSENT
from mountsync.storage.chunker import open_chunker
from mountsync.storage.chunker.journal import Journal
from mountsync.storage.chunker.settings import Settings
from mountsync.storage.local import LocalStorage
from mountsync.storage.memory import MemoryStorage
from mountsync.storage.sources import BytesSource
from tests.conformance import suite_capabilities, suite_core
from tests.conformance.parts import MTIME, ODD_NAMES, facts, need
from tests.conformance.suite import StorageConformance
from tests.parts.bodies import body, get, items, put

MODES = {
    "rename": {},
    "norename": {"norename": True},
    "none": {"metadata": False, "hash_type": "none"},
}


def local_base(tmp_path: Path) -> LocalStorage:
    (tmp_path / "root").mkdir()
    return LocalStorage(str(tmp_path / "root"), state_dir=tmp_path / "state")


def memory_base(_: Path) -> MemoryStorage:
    return MemoryStorage()


async def chunker(base, tmp_path, size: int, mode: str):
    settings = Settings(chunk_size=size, names=name_format(), **MODES[mode])
    return await open_chunker(base, settings, Journal(tmp_path / "journal", "test"))


class Small:
    test_many_in_one_directory = None
    """The chunk size does not matter for it."""
    """Bodies of some dozen bytes instead of megabytes: what counts is the number of chunks."""

    large = 900

    @pytest.fixture(autouse=True)
    def small_bodies(self, monkeypatch):
        def small(size: int, seed: object = 0) -> bytes:
            return body(size if size < 1000 else 80 + size % 13, seed)

        for module in (suite_core, suite_capabilities):
            monkeypatch.setattr(module, "body", small)

    @pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 6, 7, 49, 50, 51, 100, 101, 500])
    async def test_what_was_written_is_read(self, storage, size):
        data = body(size)
        entry = await put(storage, "some/folder/file", data)
        assert (entry.kind, entry.size) == (Kind.FILE, size)
        assert await get(storage, "some/folder/file", expect=entry.token) == data
        assert facts(await storage.stat(RelPath("some/folder/file"))) == facts(entry)
        listed = await items(storage)
        assert facts(listed["some/folder/file"]) == facts(entry)
        assert set(listed) == {"some", "some/folder", "some/folder/file"}

    async def test_ranges(self, storage):
        data = body(110)
        await put(storage, "f", data)
        for offset in (0, 1, 2, 3, 5, 49, 50, 51, 100, 109, 110, 111):
            for length in (0, 1, 2, 3, 4, 50, 60, 200, None):
                wanted = data[offset:] if length is None else data[offset : offset + length]
                assert await get(storage, "f", offset, length) == wanted, (offset, length)

    async def test_a_large_write_expects_at_its_end(self, storage):
        first = await put(storage, "f", b"one")
        for expect, path in ((first.token, "f"), (ABSENT, "g")):

            class Late(BytesSource):
                disturbed = False

                async def read(self, offset, length, path=path):
                    if offset + length > 90 and not self.disturbed:
                        self.disturbed = True
                        await put(storage, path, b"somebody else's")
                    return await super().read(offset, length)

            with pytest.raises(Stale):
                await storage.write(RelPath(path), Late(body(100)), expect=expect)
            assert await get(storage, path) == b"somebody else's"
        assert set(await items(storage)) == {"f", "g"}

    @pytest.mark.parametrize("name", ODD_NAMES, ids=[ascii(name)[:24] for name in ODD_NAMES])
    async def test_odd_names(self, storage, name):
        path = RelPath(f"{name}x/{name}" if len(name) < 60 else name)
        refusal = storage.info.names.refusal(path, size=77)
        if refusal is not None:
            with pytest.raises(type(refusal)):
                await put(storage, path, body(77))
            assert await items(storage) == {}
            return
        entry = await put(storage, path, body(77))
        assert await get(storage, path) == body(77)
        assert facts((await items(storage))[path]) == facts(entry)
        assert facts(await storage.stat(path)) == facts(entry)
        await storage.delete(path)
        assert await storage.stat(path) is None

    @pytest.mark.parametrize("size", [2, 100])
    @pytest.mark.parametrize("exists", [False, True])
    async def test_a_source_that_moved_on(self, storage, size, exists):
        await super().test_a_source_that_moved_on(storage, size, exists)

    @pytest.mark.parametrize("size", [2, 100])
    @pytest.mark.parametrize("exists", [False, True])
    async def test_a_source_that_breaks(self, storage, size, exists):
        await super().test_a_source_that_breaks(storage, size, exists)

    @pytest.mark.parametrize("size", [2, 100])
    @pytest.mark.parametrize("exists", [False, True])
    async def test_a_cancelled_write(self, storage, size, exists):
        await super().test_a_cancelled_write(storage, size, exists)

    @pytest.mark.parametrize("size", [0, 2, 100])
    async def test_copy(self, storage, size):
        need(storage, api.SupportsCopy)
        data = body(size)
        entry = await put(storage, "a", data, mtime_ns=MTIME)
        copied = await storage.copy(RelPath("a"), RelPath("b/c"), expect=entry.token)
        assert (copied.size, copied.mtime_ns) == (size, entry.mtime_ns)
        assert facts(await storage.stat(RelPath("b/c"))) == facts(copied)
        await put(storage, "a", b"changed")
        assert await get(storage, "b/c", expect=copied.token) == data


@pytest.fixture(params=["rename", "norename", "none"])
def mode(request):
    return request.param


class OverMemory:
    @pytest.fixture
    async def storage(self, tmp_path, mode):
        made = await chunker(memory_base(tmp_path), tmp_path, self.chunk_size, mode)
        yield made
        await made.aclose()


class OverLocal:
    test_many_in_one_directory = None
    """Says nothing that the same test over memory does not say, and takes seconds."""

    @pytest.fixture
    async def storage(self, tmp_path, mode):
        made = await chunker(local_base(tmp_path), tmp_path, self.chunk_size, mode)
        yield made
        await made.aclose()


class TestThreeBytesOverMemory(OverMemory, Small, StorageConformance):
    chunk_size = 3


class TestFiftyBytesOverMemory(OverMemory, Small, StorageConformance):
    chunk_size = 50


class TestDefaultSizeOverMemory(OverMemory, StorageConformance):
    chunk_size = 2 << 30


class TestThreeBytesOverLocal(OverLocal, Small, StorageConformance):
    chunk_size = 3


class TestDefaultSizeOverLocal(OverLocal, StorageConformance):
    chunk_size = 2 << 30

    @pytest.fixture(params=["rename", "none"])
    def mode(self, request):
        """Nothing is in chunks with metadata here, so that both transactions do the same."""
        return request.param
