"""Metadata of files in chunks: the bytes that rclone writes, and what it accepts and refuses."""

from __future__ import annotations

import pytest

from mountsync.formats.chunk_metadata import (
    ChunkMetadata,
    FutureMetadata,
    MetadataError,
    decode_metadata,
    encode_metadata,
    is_metadata,
)

MD5 = "0629ef9c6f1e6601808b87814b870376"
SHA1 = "d39eaa104bf0e7dfc01afb218735bbf093c136d5"

TRANSACTION = b'{"ver":2,"size":10485760,"nchunks":3,"md5":"0629ef9c6f1e6601808b87814b870376","txn":"syvutn"}'
WRITTEN = {
    b'{"ver":1,"size":10485760,"nchunks":3,"md5":"0629ef9c6f1e6601808b87814b870376"}': ChunkMetadata(
        10485760, 3, md5=MD5
    ),
    b'{"ver":1,"size":10485760,"nchunks":3,"sha1":"d39eaa104bf0e7dfc01afb218735bbf093c136d5"}': ChunkMetadata(
        10485760, 3, sha1=SHA1
    ),
    b'{"ver":1,"size":10485760,"nchunks":3}': ChunkMetadata(10485760, 3),
    TRANSACTION: ChunkMetadata(10485760, 3, md5=MD5, transaction="syvutn"),
    b'{"ver":2,"size":10485760,"nchunks":3,"txn":"syw2sz"}': ChunkMetadata(10485760, 3, transaction="syw2sz"),
    b'{"ver":1,"size":0,"nchunks":1}': ChunkMetadata(0, 1),
}


@pytest.mark.parametrize("data", WRITTEN)
def test_golden_bytes(data):
    assert encode_metadata(WRITTEN[data]) == data
    assert decode_metadata(data) == WRITTEN[data]


NINE = ChunkMetadata(9, 3)
ACCEPTED = [
    '{"ver":1,"size":9,"nchunks":3}',
    '{"VER":1,"Size":9,"nChunks":3}',
    '{"ver":1,"\u017fize":9,"nchun\u212as":3}',
    '{"ver":1,"size":7,"size":9,"nchunks":3}',
    '{"ver":1,"size":7,"SIZE":9,"nchunks":3}',
    '{"ver":1,"size":9,"nchunks":3,"x":{"a":[1e999,{},null,true,"\\u0000"]}}',
    '{"ver":1,"size":9,"nchunks":3,"x":99999999999999999999999999999999999999}',
    '{"ver":1,"size":9,"nchunks":3,"md5":null,"sha1":null,"txn":null}',
    '{"\\u0076er":1,"size":9,"nchunks":3}',
    '{ "ver" : 1 ,\n"size":9,\t"nchunks":3\r}',
    '{"ver":2,"size":9,"nchunks":3}',
    '{"ver":1,"size":9,"nchunks":3,"md5":""}',
    '{"ver":1,"size":9,"nchunks":3,"ver":null,"ver":1}',
    '{"ver":1,"size":9,"nchunks":3,"settle":7}',
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_accepted(text):
    assert decode_metadata(text.encode()) == NINE


def test_bytes_that_are_no_text_are_accepted_inside_of_strings():
    assert decode_metadata(b'{"ver":1,"size":9,"nchunks":3,"x":"\xff\xfe"}') == NINE


def test_upper_case_hashes_are_accepted():
    text = f'{{"ver":1,"size":9,"nchunks":3,"md5":"{MD5.upper()}"}}'
    assert decode_metadata(text.encode()).md5 == MD5


def test_the_first_version_may_have_a_transaction():
    assert decode_metadata(b'{"ver":1,"size":9,"nchunks":3,"txn":"abcd"}').transaction == "abcd"


REFUSED = {
    "": "invalid json",
    "{}": "missing required field",
    '{"ver":1,"size":9}': "missing required field",
    '{"ver":1,"ver":null,"size":9,"nchunks":3}': "missing required field",
    ' {"ver":1,"size":9,"nchunks":3}': "invalid json",
    '{"ver":1,"size":9,"nchunks":3}\n': "invalid json",
    '\ufeff{"ver":1,"size":9,"nchunks":3}': "invalid json",
    '[{"ver":1,"size":9,"nchunks":3}]': "invalid json",
    '{"ver":1,"size":9.0,"nchunks":3}': "a number is expected",
    '{"ver":1,"size":9e0,"nchunks":3}': "a number is expected",
    '{"ver":1,"size":"9","nchunks":3}': "a number is expected",
    '{"ver":true,"size":9,"nchunks":3}': "a number is expected",
    '{"ver":1,"size":[9],"nchunks":3}': "a number is expected",
    '{"ver":1,"size":"x","size":9,"nchunks":3}': "a number is expected",
    '{"ver":1,"size":9223372036854775808,"nchunks":3}': "out of range",
    '{"ver":1,"size":NaN,"nchunks":3}': "invalid json",
    '{"ver":1,"size":9,"nchunks":3,"x":Infinity}': "invalid json",
    '{"ver":1,"size":9,"nchunks":3,}': "invalid json",
    '{"ver":1,"size":9,"nchunks":03}': "invalid json",
    '{"ver":1,"size":9,"nchunks":3}{}': "invalid json",
    '{"ver":1,"size":9,"nchunks":3,"x":"\x01"}': "invalid json",
    "{'ver':1,'size':9,'nchunks':3}": "invalid json",
    '{"ver":1,"size":9,"nchunks":3,"txn":7}': "a text is expected",
    '{"ver":1,"size":9,"nchunks":3,"md5":5}': "a text is expected",
    '{"ver":0,"size":9,"nchunks":3}': "wrong version",
    '{"ver":-1,"size":9,"nchunks":3}': "wrong version",
    '{"ver":1,"size":-9,"nchunks":3}': "negative file size",
    '{"ver":1,"size":9,"nchunks":-3}': "negative number of chunks",
    '{"ver":1,"size":9,"nchunks":0}': "wrong number of chunks",
    '{"ver":1,"size":9,"nchunks":3,"md5":"abc"}': "wrong md5",
    '{"ver":1,"size":9,"nchunks":3,"md5":"' + "g" * 32 + '"}': "wrong md5",
    '{"ver":1,"size":9,"nchunks":3,"sha1":"' + "a" * 32 + '"}': "wrong sha1",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refused(text):
    with pytest.raises(MetadataError, match=REFUSED[text]) as caught:
        decode_metadata(text.encode())
    assert not isinstance(caught.value, FutureMetadata)
    assert not is_metadata(text.encode())


FUTURE = [
    '{"ver":3,"size":9,"nchunks":3}',
    '{"ver":999,"size":9,"nchunks":0}',
    '{"ver":1,"size":9,"nchunks":10000001}',
]


@pytest.mark.parametrize("text", FUTURE)
def test_newer_versions_are_told_from_rubbish(text):
    with pytest.raises(FutureMetadata):
        decode_metadata(text.encode())
    assert is_metadata(text.encode())


@pytest.mark.parametrize(("length", "accepted"), [(254, True), (255, True), (256, False)])
def test_the_largest_metadata(length, accepted):
    start = '{"ver":1,"size":9,"nchunks":3,"x":"'
    data = (start + "x" * (length - len(start) - 2) + '"}').encode()
    assert len(data) == length
    assert is_metadata(data) is accepted


def test_what_is_left_to_do_is_written_last_and_read():
    made = ChunkMetadata(9, 3, transaction="abcdef", settle="chunks")
    assert encode_metadata(made) == b'{"ver":2,"size":9,"nchunks":3,"txn":"abcdef","settle":"chunks"}'
    assert decode_metadata(encode_metadata(made)) == made


def test_the_longest_that_is_ever_written_is_readable():
    made = ChunkMetadata((1 << 63) - 1, 10_000_000, MD5, SHA1, "zzzzzzzzz", "chunks")
    assert len(encode_metadata(made)) < 255
    assert decode_metadata(encode_metadata(made)) == made
