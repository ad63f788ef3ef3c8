"""HTTP/1.1 as a client sees it (RFC 9112), as bytes: heads of requests, and answers. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

_HEAD_MOST: Final = 64 << 10
"""Bytes of a head, or of a line between chunks."""
_PIECE: Final = 1 << 20
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([0-9]{3})(?: [^\r\n]*)?")
_HEX: Final = re.compile(rb"[0-9a-fA-F]{1,15}")
_DIGITS: Final = re.compile(r"[0-9]{1,18}")
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_BODILESS: Final = frozenset({204, 304})


class BadAnswer(Exception):
    """What came is no answer of HTTP/1.1."""


class EndedEarly(BadAnswer):
    """The connection ended within an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. Names of `headers` are lower case; `body` is in pieces of a MiB or so."""

    status: int
    headers: Mapping[str, str]
    body: tuple[bytes, ...]


def request_head(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    """The head of a request. Raises ValueError when something of it would be read as something else."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    if " " in target or not all(line.isprintable() and line.isascii() for line in lines):
        raise ValueError("a request of HTTP holds printable ASCII only")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


class AnswerReader:
    """Puts one answer together from what comes. It stops at a little more than `limit` bytes of body."""

    def __init__(self, limit: int, *, bodiless: bool = False) -> None:
        """`bodiless`: there is no body whatever the head says, as after CONNECT."""
        self.is_done = False
        self.is_reusable = False
        """Whether another request can go over the same connection; known when it is done."""
        self.has_begun = False
        self._limit = limit
        self._bodiless = bodiless
        # Not bound to this reader: in a cycle its body would stay in memory until cycles are looked for.
        self._step: Callable[[AnswerReader, bytes], bytes] = AnswerReader._read_head
        self._held = b""
        """Of a head or a line that is not whole yet."""
        self._status = 0
        self._headers: dict[str, str] = {}
        self._pieces: list[bytes] = []
        self._group: list[bytes] = []
        self._in_group = 0
        self._total = 0
        self._left = 0
        """Bytes to come of the body, or of its chunk."""

    def feed(self, data: bytes) -> None:
        """Takes what came. Raises BadAnswer."""
        self.has_begun = True
        while data and not self.is_done:
            data = self._step(self, data)
        if data:
            self.is_reusable = False

    def end(self) -> None:
        """The connection ended. Raises EndedEarly unless that is how the answer says where it ends."""
        if self.is_done:
            return
        if self._step is not AnswerReader._read_rest:
            raise EndedEarly("the connection ended within an answer")
        self._finish()

    @property
    def answer(self) -> Answer:
        """The whole answer, once it is done."""
        return Answer(self._status, self._headers, tuple(self._pieces))

    def _finish(self) -> bytes:
        if self._group:
            self._close_group()
        self.is_done = True
        return b""

    # the head

    def _read_head(self, data: bytes) -> bytes:
        head, found, rest = (self._held + data).partition(b"\r\n\r\n")
        if not found:
            self._hold(head)
            return b""
        self._held = b""
        keeps = self._parse(head)
        if self._status < 200:
            if self._status == 101:
                raise BadAnswer("another protocol was not asked for")
            return rest
        self.is_reusable = keeps
        self._begin_body()
        return rest

    def _hold(self, data: bytes) -> None:
        if len(data) > _HEAD_MOST:
            raise BadAnswer("a head or a line is too long")
        self._held = data

    def _parse(self, head: bytes) -> bool:
        """Reads status and headers; whether the connection stays."""
        first, *lines = head.split(b"\r\n")
        found = _STATUS.fullmatch(first)
        if found is None:
            raise BadAnswer("the first line is no status line")
        self._status = int(found[2])
        self._headers = {}
        for line in lines:
            self._add_header(line)
        words = self._headers.get("connection", "").lower()
        return found[1] == b"1" and "close" not in words

    def _add_header(self, line: bytes) -> None:
        raw, colon, value = line.partition(b":")
        if not colon or _NAME.fullmatch(raw) is None:
            raise BadAnswer("a line of the head is no header")
        name, text = raw.decode("ascii").lower(), value.strip(b" \t").decode("latin-1")
        self._headers[name] = f"{self._headers[name]}, {text}" if name in self._headers else text

    def _begin_body(self) -> None:
        coding, length = self._headers.get("transfer-encoding"), self._headers.get("content-length")
        if self._bodiless or self._status in _BODILESS:
            self._finish()
        elif coding is not None:
            if coding.lower() != "chunked":
                raise BadAnswer("the body is coded in a way that was not asked for")
            self.is_reusable = self.is_reusable and length is None
            self._step = AnswerReader._read_chunk_size
        elif length is not None:
            self._left = _one_number(length)
            self._step = AnswerReader._read_sized
            if not self._left:
                self._finish()
        else:
            self.is_reusable = False
            self._step = AnswerReader._read_rest

    # the body

    def _read_sized(self, data: bytes) -> bytes:
        rest = self._take(data)
        if not self._left:
            self._finish()
        return rest

    def _read_rest(self, data: bytes) -> bytes:
        self._add(data)
        return b""

    def _read_chunk_size(self, data: bytes) -> bytes:
        line, rest = self._line(data)
        if line is None:
            return b""
        found = _HEX.fullmatch(line.partition(b";")[0].strip(b" \t"))
        if found is None:
            raise BadAnswer("the size of a chunk is no number")
        self._left = int(found[0], 16)
        self._step = AnswerReader._read_chunk if self._left else AnswerReader._read_trailer
        return rest

    def _read_chunk(self, data: bytes) -> bytes:
        rest = self._take(data)
        if not self._left:
            self._step = AnswerReader._read_chunk_end
        return rest

    def _read_chunk_end(self, data: bytes) -> bytes:
        line, rest = self._line(data)
        if line:
            raise BadAnswer("a chunk is longer than its size")
        if line is not None:
            self._step = AnswerReader._read_chunk_size
        return rest

    def _read_trailer(self, data: bytes) -> bytes:
        line, rest = self._line(data)
        if line == b"":
            self._finish()
        return rest

    def _line(self, data: bytes) -> tuple[bytes | None, bytes]:
        """A whole line, without its end, and what follows; None while it is not whole."""
        line, found, rest = (self._held + data).partition(b"\r\n")
        if not found:
            self._hold(line)
            return None, b""
        self._held = b""
        return line, rest

    def _take(self, data: bytes) -> bytes:
        if len(data) <= self._left:
            self._left -= len(data)
            self._add(data)
            return b""
        count, self._left = self._left, 0
        self._add(data[:count])
        return data[count:]

    def _add(self, data: bytes) -> None:
        self._group.append(data)
        self._in_group += len(data)
        self._total += len(data)
        if self._total > self._limit:
            self.is_reusable = False
            self._left = 0
            self._finish()
        elif self._in_group >= _PIECE:
            self._close_group()

    def _close_group(self) -> None:
        """One piece of many small ones; larger ones cost more to put together than all else."""
        self._pieces.append(self._group[0] if len(self._group) == 1 else b"".join(self._group))
        self._group, self._in_group = [], 0


def _one_number(text: str) -> int:
    """The value of Content-Length, which may be there several times."""
    values = {value.strip() for value in text.split(",")}
    if len(values) != 1 or _DIGITS.fullmatch(value := values.pop()) is None:
        raise BadAnswer("the length of the body is no number")
    return int(value)
