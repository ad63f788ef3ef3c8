"""Answers of HTTP/1.1 are the same however they are cut up on their way, and what is none is refused."""

from __future__ import annotations

import asyncio
import gc
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mountsync.storage.modal.answers import BadAnswer, EndedEarly, Incoming, Lent

PAST = (1 << 20) + 17
"""A length of a body that goes past the parser."""


class Line:
    """A connection that is never held up."""

    def pause(self, incoming):
        raise AssertionError

    resume = pause


def heard(data, cuts=(), *, limit=1 << 30, outlet=None, ends=False):
    """The answer that `data` is, cut at `cuts` (None: it is not all), and whether another may follow."""

    async def work():
        incoming = Incoming(limit, outlet, Line())
        places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
        is_done = False
        for start, stop in itertools.pairwise(places):
            if start < stop and not is_done:
                is_done = incoming.hear(memoryview(bytearray(data[start:stop])))
        if ends and not is_done:
            incoming.end()
            is_done = True
        return (incoming.answer() if is_done else None), incoming.lets_go_on

    return asyncio.run(work())


BODIES = st.binary(max_size=300) | st.sampled_from([b"", b"x" * 70_000])
NAMES = st.text("abcXYZ-", min_size=1, max_size=8).map(lambda name: f"x{name}")
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=20)
CUTS = st.lists(st.integers(0, 100_000), max_size=12)


@st.composite
def answers(draw):
    """The bytes of an answer; its status, headers and body; whether it ends with the connection."""
    interim = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n" * draw(st.integers(0, 2))
    status, body = draw(st.sampled_from([200, 206, 403, 503])), draw(BODIES)
    headers = draw(st.dictionaries(NAMES.map(str.lower), VALUES, max_size=4))
    framing = draw(st.sampled_from(["length", "chunks", "end"]))
    if framing == "length":
        headers["content-length"] = str(len(body))
        sent = body
    elif framing == "chunks":
        headers["transfer-encoding"] = "chunked"
        sizes = draw(st.lists(st.integers(1, 90), max_size=5))
        sent = b""
        for size in [*sizes, len(body) + 1]:
            piece, body_left = body[:size], body[size:]
            sent += b"%x;e=1\r\n%s\r\n" % (len(piece), piece) if piece else b""
            body = body_left
        body = b"".join(_chunks_of(sent))
        sent += b"0\r\nTrailer: t\r\n\r\n"
    else:
        sent = body
    head = f"HTTP/1.1 {status} Said\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return interim + head.encode() + b"\r\n" + sent, (status, headers, body), framing == "end"


def _chunks_of(sent):
    while sent:
        line, _, rest = sent.partition(b"\r\n")
        size = int(line.partition(b";")[0], 16)
        yield rest[:size]
        sent = rest[size + 2 :]


@given(answers(), CUTS)
def test_an_answer_is_the_same_in_whatever_pieces_it_comes(sent, cuts):
    data, (status, headers, body), ends = sent
    answer, goes_on = heard(data, cuts, ends=ends)
    assert (answer.status, dict(answer.headers), b"".join(answer.body)) == (status, headers, body)
    assert goes_on is not ends


@given(answers(), st.integers(1, 100_000))
def test_what_is_cut_off_is_not_whole(sent, missing):
    data, (_, _, body), ends = sent
    cut = data[: -min(missing, len(data))]
    if ends:
        cut = cut[: -len(body) or None]  # no more than the end of the connection ends it
        cut = cut if b"\r\n\r\n" not in cut.rpartition(b"HTTP/")[2] else cut[:-1]
    try:
        answer, _ = heard(cut, ends=True)
    except EndedEarly:
        return
    assert ends
    assert body.startswith(b"".join(answer.body))


@given(st.integers(0, 3), CUTS)
def test_a_large_body_goes_past_the_parser(more, cuts):
    body = bytes(range(256)) * (PAST // 256) + bytes(PAST % 256)
    data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % PAST + body + b"more"[:more]
    taken = []
    answer, goes_on = heard(
        data, cuts, outlet=lambda _headers, _tap: Lent(lambda part: taken.append(bytes(part)))
    )
    assert b"".join(taken) == body
    assert answer.body == ()
    if not cuts:
        assert goes_on is not bool(more)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nwhat",
        b"HTTP/1.1 103 Wait\r\n\r\n" * 10_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
    ],
)
def test_what_is_no_answer(data):
    with pytest.raises(BadAnswer):
        heard(data, range(0, len(data), 5_000))


@pytest.mark.parametrize("status", [204, 304])
def test_some_answers_have_no_body(status):
    answer, goes_on = heard(b"HTTP/1.1 %d None\r\nX-Empty:\r\nX-Full: y\r\n\r\n" % status)
    assert dict(answer.headers) == {"x-empty": "", "x-full": "y"}
    assert goes_on


def test_another_answer_behind_it_is_not_mixed_in():
    one = b"HTTP/1.1 200 OK\r\nX: 1\r\nContent-Length: 1\r\n\r\na"
    answer, goes_on = heard(one + b"HTTP/1.1 500 No\r\nY: 2\r\nContent-Length: 1\r\n\r\nb")
    assert (answer.status, dict(answer.headers), answer.body) == (
        200,
        {"x": "1", "content-length": "1"},
        (b"a",),
    )
    assert not goes_on


def test_who_wants_no_more_is_given_little_more():
    answer, goes_on = heard(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234", limit=3)
    assert b"".join(answer.body) == b"1234"
    assert not goes_on


def test_nothing_holds_an_answer_that_was_let_go():
    async def work():
        incoming = Incoming(9, None, Line())
        incoming.hear(memoryview(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"))
        incoming.let_go()

    gc.collect()
    gc.disable()
    try:
        asyncio.run(work())
        assert not [thing for thing in gc.get_objects() if isinstance(thing, Incoming)]
    finally:
        gc.enable()
