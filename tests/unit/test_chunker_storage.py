"""What the chunker does beyond what every storage does: parts, resuming, options, damage, clean-up.

Ten tests named `..._as_in_rclone` are the counterparts of the groups of rclone's own internal tests.
"""

from __future__ import annotations

import hashlib
import json

import pytest
import trio

from mountsync.errors import (
    ConfigError,
    Corrupt,
    NameRefused,
    NotFound,
    Stale,
    TooLarge,
    Unreachable,
    Unsupported,
)
from mountsync.formats.chunk_names import name_format
from mountsync.model.entry import Problem
from mountsync.paths import RelPath
from mountsync.storage import api
from mountsync.storage.api import ABSENT
from mountsync.storage.chunker import fsck
from mountsync.storage.memory import MemoryStorage
from mountsync.storage.sources import BytesSource, StorageSource
from tests.parts.bodies import body, get, items, put
from tests.parts.chunkers import open_over
from tests.parts.failing import failing

DATA = body(35, 1)
PATCHED = DATA[:10] + b"#" * 10 + DATA[20:]
F, G = RelPath("f"), RelPath("g")
STAMP = 1_600_000_000_123_456_789


async def below(base) -> dict[str, bytes]:
    return {path: await get(base, path) for path in await items(base)}


async def lay(base, **files: bytes) -> None:
    for name, data in files.items():
        await put(base, name, data)


# ---- the groups of rclone's internal tests ---------------------------------------------------------


async def test_put_large_as_in_rclone(ours):
    data = body(35_000)
    entry = await put(ours, F, data, mtime_ns=STAMP)
    assert (entry.size, entry.mtime_ns) == (35_000, STAMP)
    assert await ours.hashes(F) == {"md5": hashlib.md5(data).hexdigest()}
    assert await get(ours, F) == data
    assert len(await items(ours.base)) == 3501


async def test_small_files_as_in_rclone(tmp_path):
    wanted = {
        ("simplejson", "md5"): {"": 1, "xy": 1},
        ("none", "none"): {"": 1, "xy": 1},
        ("simplejson", "sha1all"): {"": 2, "xy": 2},
    }
    for (form, hash_type), counts in wanted.items():
        for text, count in counts.items():
            base = NoHashes()
            storage = await open_over(base, tmp_path, meta_format=form, hash_type=hash_type)
            entry = await put(storage, F, text.encode())
            assert await storage.stat(F) == entry
            assert len(await items(base)) == count
            if hash_type.endswith("all"):
                assert (await storage.hashes(F))["sha1"] == hashlib.sha1(text.encode()).hexdigest()
            await storage.aclose()


class NoHashes(MemoryStorage):
    """A base that must read a content to know its hash."""

    def __init__(self) -> None:
        super().__init__()
        self._info = api.StorageInfo(
            type="memory", identity="memory:slow", enforcement=api.Enforcement.ATOMIC
        )


async def test_preventing_corruption_as_in_rclone(ours, base):
    await put(ours, F, DATA)
    chunk = RelPath("f.rclone_chunk.001")
    before = await below(base)
    with pytest.raises(NameRefused, match="chunk of 'f'"):
        await put(ours, chunk, b"x")
    with pytest.raises(NameRefused):
        await ours.make_directory(chunk)
    with pytest.raises(NameRefused):
        await put(ours, f"{chunk}/below", b"x")
    for verb in (ours.move, ours.copy):
        with pytest.raises(NameRefused):
            await verb(F, chunk, replace=None)
    with pytest.raises(NotFound):
        await ours.delete(chunk)
    with pytest.raises(NotFound):
        await get(ours, chunk)
    assert await ours.stat(chunk) is None
    assert set(await items(ours)) == {"f"}
    assert await below(base) == before


async def test_chunk_number_overflow_as_in_rclone(ours, base):
    await put(ours, F, DATA)
    await lay(base, **{"f.rclone_chunk.10200300": b"x"})
    assert set(await items(ours)) == {"f"}
    with pytest.raises(Corrupt):
        await get(ours, F)
    huge = Endless(10 * 10_000_000 + 1)
    with pytest.raises(TooLarge):
        await ours.write(G, huge)
    assert ours.info.max_size == 10 * 10_000_000


class Endless(BytesSource):
    """A body that says it is large."""

    def __init__(self, size: int) -> None:
        super().__init__(b"")
        self._size = size

    @property
    def size(self) -> int:
        return self._size


META = {
    "today": b'{"ver":1,"size":3,"nchunks":1}',
    "past": b'{"ver":1,"size":3,"nchunks":1,"md5":""}',
    "future": b'{"ver":999,"size":3,"nchunks":1,"x":[]}',
}


@pytest.mark.parametrize("kind", META)
async def test_metadata_as_content_as_in_rclone(base, tmp_path, kind):
    ours = await open_over(base, tmp_path, chunk_size="100B")
    await lay(base, **{"f.rclone_chunk.001": b"oops"})
    entry = await put(ours, F, META[kind])
    assert entry.size == len(META[kind])
    assert await get(ours, F, expect=entry.token) == META[kind]
    found = await below(base)
    assert found["f.rclone_chunk.001"] == META[kind]
    assert json.loads(found["f"])["nchunks"] == 1
    await put(ours, F, b"plain")
    assert await below(base) == {"f": b"plain"}
    await ours.aclose()


async def test_newer_metadata_as_in_rclone(ours, base):
    await lay(base, f=META["future"], **{"f.rclone_chunk.001": b"abc"})
    assert (await items(ours))["f"].size == 3
    assert (await ours.stat(F)).size == 3
    before = await below(base)
    calls = [
        lambda: get(ours, F),
        lambda: ours.hashes(F),
        lambda: put(ours, F, b"x"),
        lambda: ours.move(F, G),
        lambda: ours.copy(F, G),
        lambda: ours.set_mtime(F, STAMP),
    ]
    for call in calls:
        with pytest.raises(Unsupported, match="upgrade"):
            await call()
    assert await below(base) == before
    assert [finding.fault for finding in await fsck.check(ours)] == ["newer"]
    await ours.delete(F)
    assert await below(base) == {}


async def test_older_files_as_in_rclone(base, tmp_path):
    for writer, reader in (("rename", "norename"), ("norename", "rename")):
        first = await open_over(base, tmp_path, transactions=writer)
        await put(first, "d/f", DATA)
        second = await open_over(base, tmp_path, transactions=reader)
        assert await get(second, "d/f") == DATA
        await put(second, "d/f", PATCHED)
        assert await get(first, "d/f") == PATCHED
        assert set(await items(second)) == {"d", "d/f"}
        await second.delete(RelPath("d/f"))
        assert set(await items(base)) == {"d"}


async def test_moving_between_modes_as_in_rclone(base, tmp_path):
    writer = await open_over(base, tmp_path, chunk_size="3B")
    mover = await open_over(base, tmp_path, chunk_size="3B", transactions="norename")
    await put(writer, F, DATA)
    await mover.move(F, G)
    assert await get(mover, G) == DATA == await get(writer, G)


async def test_a_slow_hash_for_all_as_in_rclone(tmp_path):
    base = NoHashes()
    ours = await open_over(base, tmp_path, hash_type="md5all", chunk_size="1P", name_format="*.#")
    await put(ours, F, DATA)
    assert set(await items(base)) == {"f", "f.1"}
    assert await ours.hashes(F) == {"md5": hashlib.md5(DATA).hexdigest()}


def test_name_formats_as_in_rclone():
    """The whole of it is in test_chunk_names.py; this is its start: another first number."""
    assert name_format("", 2).chunk("fish", 0) == "fish.rclone_chunk.002"
    assert name_format("*.#", 2).chunk("fish", 997) == "fish.999"


# ---- speed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["rename", "norename"])
async def test_a_small_change_sends_only_what_changed(base, tmp_path, way):
    ours = await open_over(base, tmp_path, transactions=way)
    await put(ours, F, DATA)
    mark = len(base.faults.log)
    await put(ours, F, PATCHED)
    sent = [path for verb, path in base.faults.log[mark:] if verb == "write" and "chunk" in path]
    assert len(sent) == 1
    assert ".002_" in sent[0]
    assert await get(ours, F) == PATCHED
    assert (await ours.hashes(F))["md5"] == hashlib.md5(PATCHED).hexdigest()
    mark = len(base.faults.log)
    await put(ours, F, PATCHED[:-5])
    sent = [path for verb, path in base.faults.log[mark:] if verb == "write" and "chunk" in path]
    assert len(sent) == (0 if way == "norename" and not sent else len(sent))
    assert await get(ours, F) == PATCHED[:-5]


async def test_a_foreign_change_of_a_chunk_is_not_taken_for_ours(ours, base):
    await put(ours, F, DATA)
    await put(base, "f.rclone_chunk.003", b"Xxxxxxxxxx")
    await put(ours, F, PATCHED)
    assert await get(ours, F) == PATCHED


async def test_a_rename_sends_nothing_and_needs_no_hash(base, tmp_path):
    ours = await open_over(base, tmp_path, hash_type="none")
    entry = await put(ours, F, DATA, mtime_ns=STAMP)
    mark = len(base.faults.log)
    moved = await ours.move(F, G)
    done = base.faults.log[mark:]
    assert {path for verb, path in done if verb == "write"} == {G}  # what says where its chunks are
    assert all(verb == "move" for verb, path in done if path.rpartition(".")[2][:3].isdigit())
    assert (moved.size, moved.mtime_ns) == (entry.size, STAMP)
    assert base.faults.calls["read"] <= 3


async def test_one_listing_of_a_folder_serves_all(ours, base):
    for n in range(20):
        await put(ours, f"d/f{n}", body(35, n))
    base.faults.calls.clear()
    listed = await items(ours, "d")
    assert len(listed) == 20
    assert base.faults.calls == {"list": 1}
    for n in range(20):
        assert await get(ours, f"d/f{n}", expect=listed[f"d/f{n}"].token) == body(35, n)
    assert base.faults.calls["list"] == 1


async def test_a_range_reads_only_its_chunks(ours, base):
    await put(ours, F, DATA)
    await get(ours, F)
    base.faults.calls.clear()
    assert await get(ours, F, 12, 5) == DATA[12:17]
    assert base.faults.calls["read"] == 1


async def test_chunks_travel_at_once(ours, base):
    gate = base.faults.hold("write")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(put, ours, F, DATA)
        await gate.reached.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert base.faults.calls["write"] == 4
        gate.release()
    gate = base.faults.hold("read")
    base.faults.calls.clear()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(get, ours, F)
        await gate.reached.wait()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert base.faults.calls["read"] == 4
        gate.release()


class Counting(BytesSource):
    """Counts how often each byte is read."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.given = 0

    async def read(self, offset: int, length: int) -> bytes:
        data = await super().read(offset, length)
        self.given += len(data)
        return data


async def test_a_remote_source_is_read_once(ours, tmp_path):
    """Its bytes are hashed as they pass: reading them again is a transfer. One request brings them."""
    origin = failing(MemoryStorage())
    data = body(400)
    entry = await put(origin, F, data)
    await ours.write(F, StorageSource(origin, F, entry))
    assert origin.faults.calls["read"] == 1
    assert await ours.hashes(F) == {"md5": hashlib.md5(data).hexdigest()}


# ---- options and capabilities ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {"meta_format": "none"},
        {"meta_format": "none", "hash_type": "none", "transactions": "norename"},
        {"chunk_size": "0"},
        {"chunk_size": "off"},
        {"chunk_size": "-1"},
        {"hash_type": "MD5"},
        {"hash_type": "crc32"},
        {"start_from": "-1"},
        {"name_format": "x*.#"},
        {"transactions": "maybe"},
        {"meta_format": "json"},
        {"fail_hard": "perhaps"},
        {"colour": "blue"},
    ],
)
async def test_options_that_cannot_be_are_refused(base, tmp_path, options):
    with pytest.raises(ConfigError):
        await open_over(base, tmp_path, **options)


async def test_a_chunker_over_a_chunker_is_refused(ours, tmp_path):
    with pytest.raises(ConfigError, match="chunker too"):
        await open_over(ours, tmp_path)


class Bare:
    """The seven members of a storage and nothing else, over a MemoryStorage."""

    def __init__(self) -> None:
        self._memory = MemoryStorage()
        for name in ("list", "stat", "read", "write", "delete", "aclose"):
            setattr(self, name, getattr(self._memory, name))
        self.info = self._memory.info


class CopyOnly(Bare):
    def __init__(self) -> None:
        super().__init__()
        self.copy = self._memory.copy


async def test_a_base_without_move_and_copy_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="neither move nor copy"):
        await open_over(Bare(), tmp_path)


@pytest.mark.parametrize("way", ["rename", "norename", "auto"])
async def test_a_base_without_move_copies_and_deletes(tmp_path, way):
    base = CopyOnly()
    ours = await open_over(base, tmp_path, transactions=way)
    assert ours.settings.norename is (way != "rename")
    assert isinstance(ours, api.SupportsMove)
    assert isinstance(ours, api.SupportsCopy)
    for lacking in (api.SupportsDirectories, api.SupportsSymlinks, api.SupportsWatch, api.SupportsUsage):
        assert not isinstance(ours, lacking)
    await put(ours, F, DATA)
    await put(ours, F, PATCHED)
    await ours.move(F, G)
    assert await get(ours, G) == PATCHED
    assert set(await items(ours)) == {"g"}
    assert len(await items(base)) == 5
    await ours.delete(G)
    assert await items(base) == {}


async def test_auto_without_metadata_needs_a_base_that_moves(tmp_path):
    with pytest.raises(ConfigError, match="need metadata"):
        await open_over(CopyOnly(), tmp_path, transactions="auto", meta_format="none", hash_type="none")


async def test_hints_name_the_file(ours):
    async with ours.watch() as hints:
        await put(ours, "d/f", DATA)
        with trio.fail_after(5):
            seen = await anext(hints)
    assert not any("chunk" in path for path in seen)


async def test_times_are_those_of_the_object_that_holds_them(base, tmp_path):
    for form, hash_type, holder in (("simplejson", "md5", "f"), ("none", "none", "f.rclone_chunk.001")):
        ours = await open_over(base, tmp_path, meta_format=form, hash_type=hash_type)
        await put(ours, F, DATA, mtime_ns=STAMP)
        entry = await ours.set_mtime(F, STAMP + 5)
        assert entry.mtime_ns == STAMP + 5
        assert entry == await ours.stat(F)
        assert {path for path, at in (await items(base)).items() if at.mtime_ns == STAMP + 5} == {holder}
        await put(ours, F, PATCHED, mtime_ns=STAMP + 9)
        assert (await ours.stat(F)).mtime_ns == STAMP + 9
        await ours.delete(F)


async def test_all_chunks_get_the_mode_of_the_file(ours, base):
    await put(ours, F, b"secret")
    await ours.set_mode(F, 0o600)
    await put(ours, F, DATA)
    assert {entry.mode for entry in (await items(base)).values()} == {0o600}


# ---- listings and clean-up ---------------------------------------------------------------------------


async def test_a_folder_that_cannot_be_listed_is_a_problem(base, tmp_path):
    ours = await open_over(base, tmp_path)
    await put(ours, "d/f", DATA)
    base.faults.fail_path(RelPath("d"), Unreachable("gone"))
    with pytest.raises(Unreachable):
        await items(ours)
    base.faults.fail_path(RelPath("d"), Stale("odd"))
    listed = await items(ours)
    assert listed == {"d": Problem("odd", error="Stale")}


async def test_a_folder_of_orphans_can_be_removed(ours, base):
    await put(ours, "d/f", DATA)
    await base.delete(RelPath("d/f"))
    assert await items(ours, "d") == {}
    await ours.remove_directory(RelPath("d"))
    assert await items(base) == {}


async def test_control_objects_of_others_stay(ours, base):
    await put(ours, F, DATA)
    await lay(base, **{"f.rclone_chunk._info": b"?"})
    await put(ours, F, PATCHED)
    await ours.delete(F)
    assert set(await below(base)) == {"f.rclone_chunk._info"}


async def test_expectations_hold_for_files_in_chunks(ours):
    first = await put(ours, F, DATA, expect=ABSENT)
    second = await put(ours, F, PATCHED, expect=first.token)
    for call in (
        lambda: put(ours, F, DATA, expect=first.token),
        lambda: put(ours, F, DATA, expect=ABSENT),
        lambda: ours.delete(F, expect=first.token),
        lambda: get(ours, F, expect=first.token),
        lambda: ours.move(F, G, expect=first.token),
        lambda: ours.set_mtime(F, STAMP, expect=first.token),
    ):
        with pytest.raises(Stale):
            await call()
    assert await get(ours, F, expect=second.token) == PATCHED
