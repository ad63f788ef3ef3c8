"""Names and metadata survive the way out and back, and the recogniser knows nothing else."""

from __future__ import annotations

import json
import re

from hypothesis import assume, given
from hypothesis import strategies as st

from mountsync.errors import ConfigError
from mountsync.formats.chunk_metadata import (
    ChunkMetadata,
    MetadataError,
    decode_metadata,
    encode_metadata,
    is_metadata,
)
from mountsync.formats.chunk_names import ChunkName, name_format, transaction_id

bases = st.text(min_size=1, max_size=30).filter(lambda text: "/" not in text and "\0" not in text)
transactions = st.one_of(st.just(""), st.from_regex("[0-9a-z]{4,9}", fullmatch=True))
formats = st.builds(
    lambda middle, digits, tail: f"*{middle}{'#' * digits}{tail}",
    st.sampled_from([".rclone_chunk.", ".", "-part-", "", "(", ".*x*."[:2]]),
    st.integers(1, 6),
    st.sampled_from(["", ".bin", "]", "_x"]),
)


@given(bases, st.integers(0, 10_000_000), transactions, st.integers(0, 5))
def test_chunk_names_come_back(base, index, transaction, start):
    names = name_format("", start)
    assert names.parse(names.chunk(base, index, transaction)) == ChunkName(
        base, index, transaction=transaction
    )


@given(bases, st.from_regex("[a-z][a-z0-9]{2,6}", fullmatch=True), transactions)
def test_control_names_come_back(base, word, transaction):
    names = name_format()
    assert names.parse(names.control(base, word, transaction)) == ChunkName(
        base, control=word, transaction=transaction
    )


@given(formats, bases, st.integers(0, 99_999))
def test_every_format_knows_what_it_made(text, base, index):
    try:
        names = name_format(text)
    except ConfigError:
        assume(False)
    found = names.parse(names.chunk(base, index))
    assert found is not None
    assert (
        names.chunk(found.base, found.index or 0, found.transaction) == names.chunk(base, index)
        or found.control
    )


@given(st.text(alphabet="ab.rclone_chunk0123456789tmp", max_size=40))
def test_a_recognised_name_is_made_of_what_was_recognised(name):
    names = name_format()
    found = names.parse(name)
    if found is None or "..tmp_" in name or found.control is not None:
        return
    made = names.chunk(found.base, found.index or 0, found.transaction)
    assert names.parse(made) == found
    assert len(made) <= len(name), "only extra zeros may be lost"


@given(
    st.lists(
        st.sampled_from([".rclone_chunk.", "001", "1", "_abcd", "_abc", "..tmp_1234567890", ".", "a", "\n"]),
        max_size=7,
    )
)
def test_the_fast_way_is_the_plain_way(parts):
    """Splitting at the last mark finds what the pattern over the whole name finds."""
    name, names = "".join(parts), name_format()
    pattern = rf"(?s)(.+?){re.escape(names.middle)}{names.pattern.pattern}"
    found, wanted = names.parse(name), re.fullmatch(pattern, name)
    if found is None:
        assert wanted is None or (wanted[2] is not None and int(wanted[2]) < 1)
    else:
        assert found.base == wanted[1]


@given(st.integers(0, 1 << 40), st.integers(0, 1295))
def test_transactions_are_legal(seconds, chance):
    made = transaction_id(seconds, chance)
    assert name_format().parse(f"f.rclone_chunk.001_{made}") == ChunkName("f", 0, transaction=made)


hashes = st.one_of(st.just(""), st.from_regex("[0-9a-f]{32}", fullmatch=True))
metadata = st.builds(
    ChunkMetadata,
    st.integers(0, (1 << 63) - 1),
    st.integers(1, 10_000_000),
    hashes,
    st.one_of(st.just(""), st.from_regex("[0-9a-f]{40}", fullmatch=True)),
    transactions,
)


@given(metadata)
def test_metadata_comes_back(made):
    data = encode_metadata(made)
    assert decode_metadata(data) == made
    assert len(data) < 255


@given(st.binary(max_size=300))
def test_rubbish_never_breaks_the_reader(data):
    try:
        decode_metadata(data)
    except MetadataError:
        return
    assert data.startswith(b"{")


@given(metadata, st.permutations(range(3)), st.data())
def test_order_and_case_of_keys_do_not_matter(made, order, data):
    fields = list(json.loads(encode_metadata(made)).items())
    mixed = [fields[i] for i in order] + fields[3:]
    upper = [(key.upper() if data.draw(st.booleans()) else key, value) for key, value in mixed]
    text = "{" + ",".join(f"{json.dumps(key)}:{json.dumps(value)}" for key, value in upper) + "}"
    assert decode_metadata(text.encode()) == made


@given(
    st.dictionaries(
        st.sampled_from(["ver", "size", "nchunks", "x"]),
        st.one_of(st.floats(), st.booleans(), st.text(max_size=5), st.none()),
    )
)
def test_numbers_of_the_wrong_kind_are_refused(fields):
    assume(any(key in fields for key in ("ver", "size", "nchunks")))
    assert not is_metadata(json.dumps({"ver": 1, "size": 9, "nchunks": 3} | fields).encode())
