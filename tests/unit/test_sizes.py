"""Sizes, durations and bandwidths as users write them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountsync.errors import UsageError
from mountsync.formats.sizes import (
    MAX_SIZE,
    Bandwidth,
    format_duration,
    format_size,
    human_size,
    parse_bandwidth,
    parse_duration,
    parse_size,
)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1024),
        ("1.5", 1536),
        ("10B", 10),
        ("10b", 10),
        ("4K", 4096),
        ("4k", 4096),
        ("4Ki", 4096),
        ("4KiB", 4096),
        ("4kib", 4096),
        ("100M", 100 << 20),
        ("1.5G", 3 << 29),
        (".5M", 1 << 19),
        ("2.T", 2 << 40),
        ("1P", 1 << 50),
        ("7E", 7 << 60),
        (" 8M ", 8 << 20),
        ("1.0000000001B", 1),
        ("off", None),
        ("OFF", None),
    ],
)
def test_sizes(text, size):
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text",
    [
        "",
        "M",
        "-1",
        "-1M",
        "1MB",
        "1 M",
        "4X",
        "1e3",
        "inf",
        "nan",
        "1_000",
        "٣",
        "8E",
        "1Bi",
        "1.2.3M",
        "1/2",
    ],
)
def test_refused_sizes(text):
    with pytest.raises(UsageError, match="size"):
        parse_size(text)


@given(st.one_of(st.none(), st.integers(0, MAX_SIZE)))
def test_sizes_round_trip(size):
    assert parse_size(format_size(size)) == size


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (3 << 29, "1.5 GiB"),
        (MAX_SIZE, "8.0 EiB"),
    ],
)
def test_human_sizes(size, text):
    assert human_size(size) == text


def test_human_sizes_never_show_1024_of_a_unit():
    assert human_size((1 << 20) - 1) == "1.0 MiB"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5), ("0.5", 0.5), ("5s", 5), ("1m30s", 90), ("2h", 7200), ("250ms", 0.25), ("1.5h", 5400),
        ("1d", 86400), ("1w", 604800), ("0", 0),
    ],
)  # fmt: skip
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1s", "5x", "1m 30s", "1e3", "5sx", "x5s", "inf", "nan"])
def test_refused_durations(text):
    with pytest.raises(UsageError, match="duration"):
        parse_duration(text)


@given(st.integers(0, 10**11))
def test_durations_round_trip(milliseconds):
    assert parse_duration(format_duration(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("off", Bandwidth()),
        ("0", Bandwidth()),
        ("10M", Bandwidth(10 << 20, 10 << 20)),
        ("512", Bandwidth(512 << 10, 512 << 10)),
        ("1M:off", Bandwidth(1 << 20, None)),
        ("off:100k", Bandwidth(None, 100 << 10)),
    ],
)
def test_bandwidths(text, limit):
    assert parse_bandwidth(text) == limit


@pytest.mark.parametrize("text", ["", ":", "1M:", ":1M", "fast", "1M:2M:3M", "08:00,512k 12:00,10M"])
def test_refused_bandwidths(text):
    with pytest.raises(UsageError, match="bandwidth"):
        parse_bandwidth(text)
