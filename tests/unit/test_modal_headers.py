"""Headers that are written from memory are the headers that were meant, whatever happens to the table."""

from __future__ import annotations

from hpack import Decoder, Encoder
from hypothesis import given
from hypothesis import strategies as st

from mountsync.storage.modal.headers import Headers

NAMES = st.sampled_from([b":path", b"te", b"x-modal-node", b"x-idempotency-key", b"grpc-timeout"])
VALUES = st.one_of(st.sampled_from([b"", b"a", b"trailers", b"x" * 90]), st.binary(max_size=200))
BLOCKS = st.lists(st.tuples(NAMES, VALUES), max_size=8)
SIZES = st.sampled_from([0, 64, 200, 4096])
STEPS = st.lists(st.one_of(BLOCKS, SIZES), max_size=30)

CALL = [
    (b":method", b"POST"),
    (b":path", b"/modal.client.ModalClient/VolumeGetFile2"),
    (b"x-modal-token-id", b"ak-1"),
    (b"x-modal-platform", b"Linux-6"),
]


@given(STEPS)
def test_what_is_written_is_what_is_read(steps):
    encoder, decoder = Headers(), Decoder()
    for step in steps:
        if isinstance(step, int):
            encoder.header_table_size = step  # as the server's settings have it
        else:
            assert [tuple(each) for each in decoder.decode(encoder.encode(step), raw=True)] == step


def test_a_size_of_the_table_that_is_told_twice_is_told():
    encoder, decoder = Headers(), Decoder()
    for size in (0, 0):
        encoder.header_table_size = size
    assert encoder.encode([]) == b"\x20", "the change is written before the next headers"
    assert decoder.decode(encoder.encode(CALL), raw=True)


def test_headers_of_one_call_only_do_not_drive_out_those_that_come_again():
    encoder = Headers()
    once = ([(b"x-idempotency-key", b"%036d" % n), (b"x-modal-timestamp", b"%018d" % n)] for n in range(500))
    lengths = [len(encoder.encode([*CALL, *keys])) for keys in once]
    assert len(set(lengths[1:])) == 1, "the second call finds all that it will ever find"
    assert len(encoder.header_table.dynamic_entries) == len(CALL) - 1  # POST is in the fixed table


def test_what_must_not_be_remembered_is_not():
    encoder, plain = Headers(), Encoder()
    for _ in range(3):
        assert encoder.encode([(b"cookie", b"secret", True)]) == plain.encode([(b"cookie", b"secret", True)])
    assert not encoder.header_table.dynamic_entries
