"""Lines of bounded length from a byte stream."""

from __future__ import annotations

import trio

from mountsync.errors import UsageError


class LineReader:
    """Iterates over the lines of `stream`, without their ends; a last line without an end counts."""

    def __init__(self, stream: trio.abc.ReceiveStream, longest: int) -> None:
        self._stream = stream
        self._longest = longest
        self._buffer = bytearray()
        self._searched = 0

    def __aiter__(self) -> LineReader:
        return self

    async def __anext__(self) -> bytes:
        """Raises UsageError when a line is longer than allowed; the reader is of no use then."""
        while (end := self._buffer.find(b"\n", self._searched)) < 0:
            self._searched = len(self._buffer)
            if self._searched > self._longest:
                raise UsageError(f"a line is longer than {self._longest} bytes")
            piece = await self._stream.receive_some(65536)
            if not piece:
                return self._rest()
            self._buffer += piece
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        self._searched = 0
        if len(line) > self._longest:
            raise UsageError(f"a line is longer than {self._longest} bytes")
        return line

    def _rest(self) -> bytes:
        if not self._buffer:
            raise StopAsyncIteration
        line = bytes(self._buffer)
        self._buffer.clear()
        self._searched = 0
        return line
