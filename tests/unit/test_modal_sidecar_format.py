"""The sidecar's shards, as bytes and as merges; rclone-modal's file, where it is understood."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountsync.formats.modal_sidecar import (
    Remembered,
    decode,
    decode_rclone,
    encode,
    merge,
    shard_at,
    shard_of,
    shard_path,
)

numbers = st.integers(-(2**62), 2**62)
remembered = st.builds(
    Remembered,
    size=st.integers(-1, 2**40),
    mtime=st.integers(0, 2**40),
    mtime_ns=st.none() | numbers,
    mode=st.none() | st.integers(0, 0o7777),
    variant=st.text("0123456789abcdef", max_size=12),
)
shards = st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), remembered, max_size=8)
KEY = "some/file"


@given(shards)
def test_what_was_encoded_is_decoded(entries):
    assert decode(encode(entries)) == entries
    assert encode(dict(reversed(entries.items()))) == encode(entries)


def test_a_golden_shard():
    golden = b'{"version":1,"entries":{"a/b":{"s":3,"m":1700000000,"t":1600000000123456789,"p":420}}}'
    entries = {"a/b": Remembered(3, 1_700_000_000, 1_600_000_000_123_456_789, 0o644)}
    assert encode(entries) == golden
    assert decode(golden) == entries


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"version":2,"entries":{}}',
        b'{"entries":{}}',
        b'{"version":1,"entries":{"a":{"s":"x"}}}',
        b'{"version":1,"entries":{"a":{"m":1}}}',
    ],
)
def test_what_is_damaged_or_newer_is_nothing(data):
    assert decode(data) is None


@given(st.binary())
def test_no_bytes_are_an_error(data):
    decode(data)
    decode_rclone(data)


@given(shards, st.dictionaries(st.sampled_from([KEY, "other"]), st.none() | remembered))
def test_a_merge_keeps_theirs_but_for_ours(theirs, ours):
    merged = merge(theirs, ours)
    for path in set(theirs) | set(ours):
        assert merged.get(path) == (ours[path] if path in ours else theirs[path])
    assert merge(merged, ours) == merged


def test_shards_are_by_directory():
    assert shard_of("a/b/one") == shard_of("a/b/two")
    assert len({shard_of(f"{n}/f") for n in range(2000)}) == 256
    assert shard_at(shard_path("0f")) == "0f"
    assert shard_at(".mountsync/metadata/readme.json") is None
    assert shard_at("else/0f.json") is None


def test_an_entry_fits_only_what_it_was_written_for():
    entry = Remembered(3, 10, 99)
    assert entry.fits(3, 10)
    assert not entry.fits(4, 10)
    assert not entry.fits(3, 11)


@pytest.mark.parametrize(
    "fields",
    [
        {"size": 5, "modal_mtime": 1700000000, "mtime": 1600000000123456789},
        {"Size": 5, "ModalModTime": "2023-11-14T22:13:20Z", "ModTime": "2020-09-13T12:26:40.123456789Z"},
        {
            "modalSize": 5,
            "physicalMtime": 1700000000.0,
            "source_mtime": "2020-09-13T14:26:40.123456789+02:00",
        },
    ],
)
@pytest.mark.parametrize("nested", [False, True])
def test_rclones_sidecar_is_read_where_it_is_understood(fields, nested):
    tree = {"version": 1, "files": {KEY: fields}} if nested else {KEY: fields}
    assert decode_rclone(json.dumps(tree).encode()) == {KEY: Remembered(5, 1700000000, 1600000000123456789)}


@pytest.mark.parametrize(
    "fields", [{}, {"size": 5}, {"size": "5", "modal_mtime": 1, "mtime": 2}, {"mtime": 1, "size": 2}, 7]
)
def test_what_is_not_understood_is_left_alone(fields):
    assert decode_rclone(json.dumps({"files": {KEY: fields}, KEY: fields}).encode()) == {}
