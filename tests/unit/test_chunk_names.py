"""Names of chunks, held to what rclone 1.75.2 was seen to do."""

from __future__ import annotations

import pytest

from mountsync.errors import ConfigError
from mountsync.formats.chunk_names import ChunkName, name_format, transaction_age, transaction_id

VALID_FORMATS = {
    "*.rclone_chunk.###": ("f.rclone_chunk.003", "f.rclone_chunk._info", "f.rclone_chunk.003_abcd"),
    "*.chunk.#": ("f.chunk.3", "f.chunk._info", "f.chunk.3_abcd"),
    "*#": ("f3", "f_info", "f3_abcd"),
    "*.###.part": ("f.003.part", "f._info.part", "f.003.part_abcd"),
    "*-[a.b]-##": ("f-[a.b]-03", "f-[a.b]-_info", "f-[a.b]-03_abcd"),
    "*.#####": ("f.00003", "f._info", "f.00003_abcd"),
}
INVALID_FORMATS = [
    "fish",
    "*",
    "###",
    "#*",
    "big_*-##.part",
    "*.#.#",
    "**.#",
    "*/###",
    "a*.#",
    "*##x#",
    "*.chunk/#",
]


@pytest.mark.parametrize("text", VALID_FORMATS)
def test_a_format_makes_and_knows_its_names(text):
    made = name_format(text)
    data, control, temporary = VALID_FORMATS[text]
    assert made.chunk("f", 2) == data
    assert made.control("f", "info") == control
    assert made.chunk("f", 2, "abcd") == temporary
    assert made.parse(data) == ChunkName("f", 2)
    assert made.parse(control) == ChunkName("f", control="info")
    assert made.parse(temporary) == ChunkName("f", 2, transaction="abcd")


@pytest.mark.parametrize("text", INVALID_FORMATS)
def test_a_broken_format_is_refused(text):
    with pytest.raises(ConfigError):
        name_format(text)


def test_an_empty_format_means_the_default():
    assert name_format("").text == "*.rclone_chunk.###"


def test_numbers_do_not_start_below_zero():
    with pytest.raises(ConfigError):
        name_format("", -1)


@pytest.mark.parametrize(
    ("index", "number"),
    [(0, "001"), (9, "010"), (98, "099"), (997, "998"), (998, "999"), (999, "1000"), (10**6, "1000001")],
)
def test_numbers_are_padded_and_grow(index, number):
    name = f"fish.rclone_chunk.{number}"
    assert name_format().chunk("fish", index) == name
    assert name_format().parse(name) == ChunkName("fish", index)


DATA = {
    "fish.rclone_chunk.001": ("fish", 0, ""),
    "fish.rclone_chunk.0001": ("fish", 0, ""),
    "fish.rclone_chunk.00000000000000000000001": ("fish", 0, ""),
    "fish.rclone_chunk.9223372036854775807": ("fish", (1 << 63) - 2, ""),
    "fish.rclone_chunk.003.rclone_chunk.004": ("fish.rclone_chunk.003", 3, ""),
    "fish.rclone_chunk._abc.rclone_chunk.004": ("fish.rclone_chunk._abc", 3, ""),
    "fish.rclone_chunk.001_abcd": ("fish", 0, "abcd"),
    "fish.rclone_chunk.001_abcdefghi": ("fish", 0, "abcdefghi"),
    "fish.rclone_chunk.001_0000": ("fish", 0, "0000"),
    "fish.rclone_chunk.001..tmp_0000000047": ("fish", 0, "001b"),
    "fish.rclone_chunk.001..tmp_9994567890123": ("fish", 0, "3jjfvo3wr"),
    "a\nb.rclone_chunk.001": ("a\nb", 0, ""),
    " .rclone_chunk.002": (" ", 1, ""),
    "\udcff.rclone_chunk.002": ("\udcff", 1, ""),
}
CONTROL = {
    "fish.rclone_chunk._abc": ("abc", ""),
    "fish.rclone_chunk._abcdefg": ("abcdefg", ""),
    "fish.rclone_chunk._a12": ("a12", ""),
    "fish.rclone_chunk._abc_1234": ("abc", "1234"),
    "fish.rclone_chunk._abc..tmp_1234567890": ("abc", "kf12oi"),
}
PLAIN = [
    "fish",
    ".rclone_chunk.001",
    "fish.rclone_chunk.1",
    "fish.rclone_chunk.01",
    "fish.rclone_chunk.000",
    "fish.rclone_chunk.-01",
    "fish.rclone_chunk.00a",
    "fish.rclone_chunk.\u0660\u0660\u0661",
    "fish.RCLONE_CHUNK.001",
    "fish.rclone_chunk.9223372036854775808",
    "fish.rclone-chunk.001",
    "fish.rclone_chunk.",
    "fish.rclone_chunk.001\n",
    "fish.rclone_chunk.001_abc",
    "fish.rclone_chunk.001_abcdefghij",
    "fish.rclone_chunk.001_ABCD",
    "fish.rclone_chunk.001__abcd",
    "fish.rclone_chunk.001_ab-d",
    "fish.rclone_chunk.001_",
    "fish.rclone_chunk.001.abcd",
    "fish.rclone_chunk.001..tmp_123456789",
    "fish.rclone_chunk.001..tmp_12345678901234",
    "fish.rclone_chunk.001..tmp_",
    "fish.rclone_chunk.001.tmp_1234567890",
    "fish.rclone_chunk._ab",
    "fish.rclone_chunk._abcdefgh",
    "fish.rclone_chunk._1ab",
    "fish.rclone_chunk._Abc",
    "fish.rclone_chunk.__abc",
    "fish.rclone_chunk._a-c",
    "fish.rclone_chunk._abc_123",
    "fish.rclone_chunk._abc..tmp_123456789",
]


@pytest.mark.parametrize("name", DATA, ids=ascii)
def test_data_chunks(name):
    base, index, transaction = DATA[name]
    assert name_format().parse(name) == ChunkName(base, index, transaction=transaction)


@pytest.mark.parametrize("name", CONTROL, ids=ascii)
def test_control_objects(name):
    control, transaction = CONTROL[name]
    assert name_format().parse(name) == ChunkName("fish", control=control, transaction=transaction)


@pytest.mark.parametrize("name", PLAIN, ids=ascii)
def test_names_of_no_chunk(name):
    assert name_format().parse(name) is None


def test_numbers_below_the_first_are_names_of_no_chunk():
    assert name_format("", 2).parse("f.rclone_chunk.001") is None
    assert name_format("", 2).parse("f.rclone_chunk.002") == ChunkName("f", 0)
    assert name_format("", 0).parse("f.rclone_chunk.000") == ChunkName("f", 0)


def test_transactions_say_when_they_began():
    assert transaction_id(1_679_609 * 3 + 1_000, 5) == "00rs05"
    now = 1_795_000_000
    made = transaction_id(now - 90_000, 1295)
    assert len(made) == 6
    assert made.endswith("zz")
    assert transaction_age(made, now) == 90_000
    assert transaction_age(transaction_id(now + 100, 0), now) == 0, "a clock that is ahead makes nothing old"
    assert transaction_age("abcd", now) is None
