"""One answer of HTTP/1.1 as it comes: its head, and a body that is kept or goes away at once.

What is and what is no answer is for httptools to say. On the asyncio loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol, TypeAlias

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

_HEAD_MOST: Final = 64 << 10
"""Bytes in which a head must have come."""
_PAST: Final = 1 << 20
"""Bodies larger than this go past the parser once their head was read: it copies each piece."""
_GROUP: Final = 1 << 20
"""Bytes of a body that came, put together to one."""
_SWITCHING: Final = 101
_FINAL: Final = 200
"""Answers with a lower status only announce another one."""

Give: TypeAlias = Callable[[bytes], object]
"""Takes the next piece of a body."""


class Tap(Protocol):
    """Holds up what comes of one answer. It takes no harm from being used too late."""

    def pause(self) -> None:
        """Lets what comes wait in the kernel, as long as it takes."""
        ...

    def resume(self) -> None:
        """Takes it again."""
        ...


@dataclass(frozen=True, slots=True)
class Lent:
    """Takes the next piece of a body out of a buffer that is filled anew when it returns."""

    give: Callable[[memoryview], object]


Outlet: TypeAlias = Callable[[Mapping[str, str], Tap], Give | Lent | None]
"""Asked with the headers of an answer where its body goes while it comes; None: it is wanted whole."""


class BadAnswer(Exception):
    """What came is no answer of HTTP/1.1, or leads to no such thing."""


class EndedEarly(BadAnswer):
    """The connection ended within an answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer. Names of `headers` are lower case; `body` is what was kept, in pieces of a MiB or so."""

    status: int
    headers: Mapping[str, str]
    body: tuple[bytes, ...]


class Connection(Protocol):
    """What an answer comes on."""

    def pause(self, incoming: Incoming, /) -> None:
        """Lets the rest of this answer wait in the kernel."""
        ...

    def resume(self, incoming: Incoming, /) -> None:
        """Takes it again."""
        ...


class Incoming:
    """An answer, as far as it has come. A little more than `limit` bytes of body are kept at most.

    Methods called `on_...` are for the parser. They raise nothing: it would make something else of that.
    """

    def __init__(self, limit: int, outlet: Outlet | None, connection: Connection) -> None:
        """`outlet` is asked about the large body of a success whose length is announced."""
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.has_begun = False
        self.is_whole = False
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._outlet = outlet
        self._connection = connection
        self._status = 0
        self._headers: dict[str, str] = {}
        self._has_head = False
        self._stays = False
        self._is_more = False
        """Whether more came than belongs to it."""
        self._heard = 0
        self._flaw: str | None = None
        """What makes an answer that can be read unfit for us."""
        self._left: int | None = None
        """Bytes that have not come of a body that goes past the parser."""
        self._room = limit
        self._fresh: list[bytes] = []
        """What the parser gave away of the body since it was given something."""
        self._pieces: list[bytes] = []
        self._give: Give = self._pieces.append
        self._lend: Callable[[memoryview], object] | None = None
        self._group: list[bytes] = []
        self._grouped = 0

    # what the connection says

    def hear(self, data: memoryview) -> bool:
        """Takes what has come; whether that is all that is wanted. Raises BadAnswer."""
        self.has_begun = True
        if self._left is not None:
            return self._take(data)
        self._parse(data)
        fresh, self._fresh = self._fresh, []
        for piece in fresh:
            if self._left is not None:
                self._take(memoryview(piece))
            else:
                self._add(piece)
        return self.is_whole or self._room < 0

    def end(self) -> None:
        """The connection has ended. Raises EndedEarly unless that is how this answer ends."""
        if not self._has_head or self._headers.keys() & {"content-length", "transfer-encoding"}:
            raise EndedEarly("the connection ended within an answer")

    def answer(self) -> Answer:
        """What came, once it is all."""
        if self._group:
            self._close_group()
        return Answer(self._status, self._headers, tuple(self._pieces))

    @property
    def lets_go_on(self) -> bool:
        """Whether the connection can carry another request."""
        return self.is_whole and self._stays and not self._is_more

    def let_go(self) -> None:
        """Parts from the parser: they hold each other, and a body with them."""
        self._parser = None

    def pause(self) -> None:
        """As `Tap.pause`."""
        self._connection.pause(self)

    def resume(self) -> None:
        """As `Tap.resume`."""
        self._connection.resume(self)

    # what the parser says

    def _parse(self, data: memoryview) -> None:
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            if not self.is_whole:
                raise BadAnswer(self._flaw or str(error)[:200]) from error
            self._is_more = True
        self._heard += len(data)
        if not self._has_head and self._heard > _HEAD_MOST:
            raise BadAnswer("its head is too long")
        if self._flaw is not None:
            raise BadAnswer(self._flaw)

    def on_message_begin(self) -> None:
        """Something comes: an answer, or what follows it."""
        self._is_more = self.is_whole

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header; after the body too, where they are not for us."""
        if not self._has_head:
            key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip()
            self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        """The end of a head."""
        assert self._parser is not None
        status = self._parser.get_status_code()
        if status == _SWITCHING:
            self._flaw = "it changes to another protocol"
        elif status < _FINAL:
            self._headers = {}
        elif not self._has_head:
            self._has_head, self._status = True, status
            self._stays = self._parser.should_keep_alive()
            self._look_at_body()

    def _look_at_body(self) -> None:
        encoding = self._headers.get("transfer-encoding", "chunked")
        if encoding.lower() != "chunked":
            self._flaw = f"its body is encoded as {encoding[:40]!r}"
        length = int(self._headers.get("content-length", "0"))
        if self._status in (200, 206) and length > _PAST:
            self._left = length

    def on_body(self, data: bytes) -> None:
        """A part of the body."""
        if not self.is_whole:
            self._fresh.append(data)

    def on_message_complete(self) -> None:
        """The end of an answer."""
        self.is_whole = self._has_head  # and not of one that announces it

    # the body

    def _take(self, data: memoryview) -> bool:
        """Takes a part of a body of known length; whether that is all that is wanted."""
        assert self._left is not None
        if self._outlet is not None:
            self._open(self._outlet)
        self._is_more = self._is_more or len(data) > self._left
        part = data[: self._left]
        self._left -= len(part)
        self.is_whole = not self._left
        if self._lend is not None:
            self._lend(part)
        else:
            self._add(bytes(part))
        return self.is_whole or self._room < 0

    def _open(self, outlet: Outlet) -> None:
        self._outlet = None
        goes = outlet(self._headers, self)
        if isinstance(goes, Lent):
            self._lend = goes.give
        elif goes is not None:
            self._give = goes

    def _add(self, data: bytes) -> None:
        self._room -= len(data)
        self._grouped += len(data)
        self._group.append(data)
        if self._grouped >= _GROUP:
            self._close_group()

    def _close_group(self) -> None:
        group, self._group, self._grouped = self._group, [], 0
        self._give(b"".join(group))
