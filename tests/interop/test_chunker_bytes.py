"""The same input gives the same base folder as with rclone, and each reads what the other wrote."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path

import pytest

from mountsync.paths import from_bytes
from mountsync.storage.sources import FileSource
from tests.parts.bodies import body, get, items, put
from tests.parts.chunkers import chunker_over
from tests.parts.rclone import Rclone, files_in

SIZE = 4096
STAMP = 1_000_000_000_123_456_789
INPUTS = {
    "big.bin": body(10 * SIZE // 4, 1),
    "exact1.bin": body(SIZE, 2),
    "exact2.bin": body(2 * SIZE, 3),
    "over1.bin": body(SIZE + 1, 4),
    "meta.json": b'{"ver":1,"size":3,"nchunks":1}',
    "metafut.json": b'{"ver":999,"size":3,"nchunks":1}',
    "metanl.json": b'{"ver":1,"size":3,"nchunks":1}\n',
    "metazero.json": b'{"ver":1,"size":3,"nchunks":0}',
    "small.txt": b"hello chunker\n",
    "zero.bin": b"",
    "sub folder/ lead trail /big%d*#\u00e9\U0001f600.": body(3 * SIZE, 5),
    "sub folder/e\u0301": body(2 * SIZE + 7, 6),
}
HASHES = ["none", "md5", "sha1", "md5all", "sha1all", "md5quick", "sha1quick"]
MODES = [(name, "simplejson", way) for name in HASHES for way in ("rename", "norename")]
MODES += [("none", "none", "rename")]


def options(mode: tuple[str, str, str]) -> dict[str, str]:
    return {"chunk_size": f"{SIZE}B", "hash_type": mode[0], "meta_format": mode[1], "transactions": mode[2]}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for name, data in INPUTS.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
        os.utime(folder / name, ns=(STAMP, STAMP))
    return folder


def without_ids(files: dict[str, bytes]) -> dict[str, bytes]:
    """Transactions' ids are by chance and the clock."""
    return {
        re.sub(r"(rclone_chunk\.\d+)_[0-9a-z]{6}$", r"\1_ID", name): re.sub(
            rb'"txn":"[0-9a-z]{6}"', b'"txn":"ID"', data
        )
        for name, data in files.items()
    }


async def write_all(storage, source: Path) -> None:
    for name in INPUTS:
        with FileSource(str(source / name)) as content:
            await storage.write(from_bytes(name.encode()), content, mtime_ns=STAMP)


@pytest.mark.parametrize("mode", MODES, ids="-".join)
async def test_the_same_folder_and_the_same_reading(tmp_path, source, mode):
    ours, theirs, home = tmp_path / "ours", tmp_path / "theirs", tmp_path / "home"
    for folder in (ours, theirs, home):
        folder.mkdir()
    rclone = Rclone(theirs, home, **options(mode))
    rclone.ok("copy", source, "C:")
    async with chunker_over(ours, tmp_path / "state", **options(mode)) as storage:
        await write_all(storage, source)
        assert without_ids(files_in(ours)) == without_ids(files_in(theirs))
        for at in ours.rglob("*"):
            assert at.is_dir() or at.stat().st_mtime_ns == STAMP, at
        assert {path: await get(storage, path) for path in INPUTS} == INPUTS
    async with chunker_over(theirs, tmp_path / "state", **options(mode)) as storage:
        listed = await items(storage)
        assert {path: listed[path].size for path in INPUTS} == {path: len(INPUTS[path]) for path in INPUTS}
        assert {listed[path].mtime_ns for path in INPUTS} == {STAMP}
        assert {path: await get(storage, path, expect=listed[path].token) for path in INPUTS} == INPUTS
        known = await storage.hashes(from_bytes(b"big.bin"))
        name = mode[0].removesuffix("all").removesuffix("quick")
        wanted = {} if name == "none" else {name: hashlib.new(name, INPUTS["big.bin"]).hexdigest()}
        assert known == wanted
    Rclone(ours, home, **options(mode)).ok("check", "--download", source, "C:")


@pytest.mark.parametrize("way", ["rename", "norename"])
async def test_rclone_checks_sums_and_ranges(tmp_path, source, way):
    mode = ("md5", "simplejson", way)
    base = tmp_path / "base"
    base.mkdir()
    async with chunker_over(base, tmp_path / "state", **options(mode)) as storage:
        await write_all(storage, source)
    rclone = Rclone(base, tmp_path, **options(mode))
    rclone.ok("check", source, "C:")
    sums = dict(
        reversed(line.split("  ")) for line in rclone.ok("hashsum", "md5", "C:").decode().splitlines()
    )
    assert sums["big.bin"] == hashlib.md5(INPUTS["big.bin"]).hexdigest()
    for offset, count in ((0, 5), (SIZE - 1, 2), (SIZE, SIZE), (9000, 100_000)):
        got = rclone.ok("cat", "--offset", offset, "--count", count, "C:big.bin")
        assert got == INPUTS["big.bin"][offset : offset + count]


async def test_files_of_either_kind_are_read_in_every_mode(tmp_path, source):
    """The transaction in the metadata counts, whatever this overlay is set to."""
    for way, other in (("rename", "norename"), ("norename", "rename")):
        base = tmp_path / way
        base.mkdir()
        mode = ("md5", "simplejson", way)
        Rclone(base, tmp_path, **options(mode)).ok("copy", source, "C:")
        async with chunker_over(
            base, tmp_path / "state", **(options(mode) | {"transactions": other})
        ) as storage:
            assert {path: await get(storage, path) for path in INPUTS} == INPUTS


async def test_streams_with_an_empty_last_chunk_and_unequal_chunks(tmp_path):
    base = tmp_path / "base"
    base.mkdir()
    rclone = Rclone(base, tmp_path)
    rclone.ok("rcat", "--buffer-size", "0", "--streaming-upload-cutoff", "0", "C:two", body=b"0123456789" * 2)
    assert (base / "two.rclone_chunk.003").read_bytes() == b""
    (base / "odd").write_bytes(b'{"ver":1,"size":9,"nchunks":4}')
    for number, data in enumerate((b"ab", b"", b"cdefgh", b"i")):
        (base / f"odd.rclone_chunk.{number + 1:03}").write_bytes(data)
    async with chunker_over(base, tmp_path / "state") as storage:
        assert await get(storage, "two") == b"0123456789" * 2
        assert await get(storage, "two", 15, 100) == b"56789"
        for offset in range(11):
            for length in (0, 1, 3, 20, None):
                end = None if length is None else offset + length
                assert await get(storage, "odd", offset, length) == b"abcdefghi"[offset:end]


async def test_changing_files_in_turns(tmp_path):
    """Overwrites, renames and deletes by both, over one base: nothing is left over."""
    base, local, home = tmp_path / "base", tmp_path / "local", tmp_path / "home"
    for folder in (base, local, home):
        folder.mkdir()
    for way in ("rename", "norename"):
        rclone = Rclone(base, home, transactions=way)
        async with chunker_over(base, tmp_path / "state", transactions=way) as storage:
            for n, size in enumerate((35, 8, 0, 20, 21, 5, 100, 30)):
                data = body(size, n)
                await put(storage, "d/f", data)
                assert rclone.ok("cat", "C:d/f") == data
                (local / "f").write_bytes(body(size + 9, n))
                rclone.ok("copyto", local / "f", "C:d/f")
                assert await get(storage, "d/f") == body(size + 9, n)
                await storage.move("d/f", "d/g")
                assert rclone.ok("cat", "C:d/g") == body(size + 9, n)
                rclone.ok("moveto", "C:d/g", "C:d/f")
            await storage.delete("d/f")
            assert files_in(base) == {}
