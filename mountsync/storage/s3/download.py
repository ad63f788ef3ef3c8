"""Receiving an object, or a range of one, of one version."""

from __future__ import annotations

from typing import Any, Final

from mountsync.errors import NotFound, PathError, Stale, Unreachable
from mountsync.model.entry import Token
from mountsync.paths import RelPath
from mountsync.storage.api import ABSENT, Expect
from mountsync.storage.s3.client import Answer
from mountsync.storage.s3.objects import Objects, condition, token_of
from mountsync.storage.s3.refusals import RangeRefused

_PIECE: Final = 1 << 20
_RESUMES: Final = 2


class Download:
    """Iterates over bytes. When the connection breaks it goes on where it was, with the same version."""

    def __init__(self, objects: Objects, path: RelPath, offset: int, length: int | None) -> None:
        self._objects = objects
        self._path = path
        self._offset = offset
        self._length = length
        self._left = 0
        self._token: Token | None = None
        self._body: Any = None
        self._resumes = _RESUMES

    async def open(self, expect: Expect) -> None:
        """Asks for the bytes. Raises NotFound, IsADirectory or Stale."""
        if not self._path or expect is ABSENT or self._length == 0:
            await self._objects.insist(self._path, expect)
            return
        try:
            await self._ask(expect)
        except RangeRefused:
            found = await self._objects.insist(self._path, expect)
            if self._offset < found.entry.size:
                raise Stale("it changed while it was read", path=self._path) from None
        except NotFound:
            raise await self._objects.absent(self._path) from None

    async def _ask(self, expect: Expect) -> None:
        ranged = self._offset > 0 or self._length is not None
        last = self._offset + self._length - 1 if self._length is not None else None
        answer = await self._objects.client.call(
            "get_object",
            self._path,
            Key=self._objects.keys.key(self._path),
            Range=f"bytes={self._offset}-{'' if last is None else last}" if ranged else None,
            **condition(expect),
        )
        self._body = answer["Body"]
        self._accept(answer, expect, ranged=ranged)

    def _accept(self, answer: Answer, expect: Expect, *, ranged: bool) -> None:
        token = token_of(answer["ETag"])
        if expect is not None and token != expect:
            raise Stale("it is not the version that was expected", path=self._path)
        if ranged and not str(answer.get("ContentRange", "")).startswith(f"bytes {self._offset}-"):
            raise PathError("the server gives no ranges of it", path=self._path)
        self._token, self._left = token, answer["ContentLength"]
        if self._length is not None and self._left > self._length:
            raise PathError("the server gives another range than was asked for", path=self._path)

    def __aiter__(self) -> Download:
        return self

    async def __anext__(self) -> bytes:
        while self._left:
            piece = await self._receive(min(_PIECE, self._left))
            if piece:
                return piece
        raise StopAsyncIteration

    async def _receive(self, wanted: int) -> bytes:
        """The next bytes; none after the connection had to be made anew."""
        try:
            piece = await self._read(wanted)
        except Unreachable:
            if not self._resumes:
                raise
            self._resumes -= 1
            await self._resume()
            return b""
        self._offset += len(piece)
        self._left -= len(piece)
        return piece

    async def _read(self, wanted: int) -> bytes:
        piece = await self._objects.client.read(self._body, wanted, self._path)
        if not piece:
            raise Unreachable("the connection to the bucket ended early", path=self._path)
        return piece

    async def _resume(self) -> None:
        left = self._left
        self.close()
        self._length = left
        try:
            await self._ask(self._token)
        except (NotFound, RangeRefused):
            raise Stale("it went while it was read", path=self._path) from None
        if self._left != left:
            raise Stale("it changed while it was read", path=self._path)

    def close(self) -> None:
        """Drops the connection if bytes are left on it."""
        if self._body is not None:
            self._body.close()
            self._body = None
