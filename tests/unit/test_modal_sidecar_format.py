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


def are_valid(entries):
    for path, entry in entries.items():
        path.encode()
        assert abs(entry.mtime_ns or 0) < 2**63 and 0 <= entry.mtime < 2**63
        assert -1 <= entry.size < 2**63 and 0 <= (entry.mode or 0) <= 0o7777
        assert set(entry.variant) <= set("0123456789abcdef")


@given(st.binary())
def test_no_bytes_are_an_error(data):
    are_valid(decode(data) or {})
    are_valid(decode_rclone(data))


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([2**63, -(2**63), 2**64, 10**30, 10**5000, 0o10000, -1])
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(["0001-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "2020-01-01T00:00:00.5+99:99"])
    | st.text(max_size=6)
    | st.sampled_from(["~", "a:b", "abc"])
)
paths = st.text(max_size=4) | st.sampled_from(["\ud800", "/", "d/f"])


def as_json(value):
    """Also what Python would refuse to write."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(key)}:{as_json(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**4000:
        return "9" * 5001
    return json.dumps(value)


@given(st.dictionaries(paths, st.dictionaries(st.sampled_from("smtpv"), scalars), max_size=4))
def test_only_what_can_be_shown_comes_out_of_a_shard(entries):
    are_valid(decode(as_json({"version": 1, "entries": entries}).encode()) or {})


fields = st.sampled_from(["size", "modal_size", "modal_mtime", "mtime", "sourceMtime", "mode"])


@given(st.dictionaries(paths, st.dictionaries(fields, scalars | st.just(5), min_size=3), max_size=4))
def test_only_what_can_be_shown_comes_out_of_theirs(entries):
    are_valid(decode_rclone(as_json(entries).encode()))
    are_valid(decode_rclone(as_json({"files": entries}).encode()))


@pytest.mark.parametrize("deep", [b"[" * 100_000, b'{"version":1,"entries":{},"x":' + b"[" * 100_000])
def test_what_is_nested_too_deep_is_damaged(deep):
    assert decode(deep) is None
    assert decode_rclone(deep) == {}


def test_an_entry_that_makes_no_sense_costs_no_other():
    good = b'"g":{"s":4,"m":1,"t":5}'
    for bad in (b'"t":9999999999999999999', b'"t":-9999999999999999999', b'"p":4096', b'"p":-1', b'"v":"~"'):
        data = b'{"version":1,"entries":{"f":{"s":4,"m":1,%s},%s}}' % (bad, good)
        assert decode(data) == {"g": Remembered(4, 1, 5)}


def test_gos_zero_time_is_no_time():
    entry = {"size": 5, "modal_mtime": 1_700_000_000, "mtime": "0001-01-01T00:00:00Z"}
    assert decode_rclone(json.dumps({KEY: entry}).encode()) == {}


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
