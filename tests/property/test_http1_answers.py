"""Answers of HTTP/1.1, however they come in pieces."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountsync.formats.http1 import AnswerReader, BadAnswer, EndedEarly, request_head

BODIES = st.lists(st.binary(min_size=1, max_size=40), max_size=6)


def sized(parts):
    body = b"".join(parts)
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nX-A: 1\r\nx-a: 2\r\n\r\n" % len(body) + body


def chunked(parts):
    chunks = b"".join(b"%x;note=1\r\n%s\r\n" % (len(part), part) for part in parts)
    return b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\nTrailer: x\r\n\r\n"


def fed(reader, data, cuts):
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    for begin, end in pairwise(places):
        reader.feed(data[begin:end])
    return reader


@given(BODIES, st.lists(st.integers(0, 1000)), st.sampled_from([sized, chunked]))
def test_any_cut_gives_the_same_answer(parts, cuts, form):
    body = b"".join(parts)
    reader = fed(AnswerReader(len(body)), b"HTTP/1.1 100 Continue\r\n\r\n" + form(parts), cuts)
    assert reader.is_done
    assert reader.is_reusable
    assert reader.answer.status == 200
    assert b"".join(reader.answer.body) == body
    if form is sized:
        assert reader.answer.headers["x-a"] == "1, 2"


@given(BODIES.filter(bool), st.integers(1, 1000), st.sampled_from([sized, chunked]))
def test_a_connection_that_ends_within_an_answer_is_told(parts, cut, form):
    data = form(parts)
    reader = AnswerReader(10_000)
    reader.feed(data[: 1 + cut % (len(data) - 1)])
    assert not reader.is_done
    with pytest.raises(EndedEarly):
        reader.end()


@given(BODIES.filter(bool), st.sampled_from([sized, chunked]))
def test_a_body_longer_than_wanted_is_seen_and_not_kept(parts, form):
    body = b"".join(parts)
    reader = AnswerReader(len(body) - 1)
    for byte in form(parts):
        if not reader.is_done:
            reader.feed(bytes([byte]))
    assert len(b"".join(reader.answer.body)) == len(body)
    assert not reader.is_reusable


def test_a_body_may_run_until_the_end_of_the_connection():
    reader = AnswerReader(100)
    reader.feed(b"HTTP/1.0 200 OK\r\n\r\nabc")
    reader.feed(b"def")
    assert not reader.is_done
    reader.end()
    assert reader.answer.body == (b"abcdef",)
    assert not reader.is_reusable


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 204 None\r\n\r\nmore",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
)
def test_such_connections_are_not_used_again(head):
    reader = AnswerReader(100)
    reader.feed(head)
    assert reader.is_done
    assert reader.answer.body == ()
    assert not reader.is_reusable


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-x\r\n\r\n",
        b"HTTP/2 200 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n",
        b"x" * 100_000,
    ],
)
def test_nonsense_is_refused(data):
    with pytest.raises(BadAnswer):
        AnswerReader(100).feed(data)


@pytest.mark.parametrize("target", ["/a b", "/a\r\nX: y", "/\u00e4", "/\x00"])
def test_no_target_becomes_a_header(target):
    with pytest.raises(ValueError, match="printable"):
        request_head("GET", target, {"Host": "h"})


def test_a_head_is_as_it_says():
    assert request_head("GET", "/a?b=%20", {"Host": "h"}) == b"GET /a?b=%20 HTTP/1.1\r\nHost: h\r\n\r\n"
