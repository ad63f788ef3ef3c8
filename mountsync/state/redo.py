"""The redo log: what makes a commit ordered for the price of one write.

A commit of the database copies every page that it changed, most of them again and again. So changes are
committed to it in batches; what makes each of them survive the death of the process is one record here,
which holds the statements of the transaction. At the next start the records are run again on top of the
last batch.

The file: `mnredo1\\0`, the epoch (8 bytes, little endian), then records of length (4), crc32 over the
payload seeded with the epoch (4) and payload, a MessagePack list of (index of the statement, its text at
first use, its values). The database knows its epoch; a log of another one is stale, and so is, by its
checksum, a record that an earlier epoch left behind. Nothing here is ever synced: after a power failure
the database is as its last sync found it, and a log that belongs to that state only adds to it.
"""

from __future__ import annotations

import os
import struct
import zlib
from contextlib import suppress
from typing import Any, Final, TypeAlias

import msgspec

from mountsync.errors import NoSpace, from_os_error

LIMIT: Final = 1 << 20
"""Bytes of records after which the database should take over."""
_HEAD: Final = struct.Struct("<8sQ")
_RECORD: Final = struct.Struct("<II")
_MAGIC: Final = b"mnredo1\0"
_WORD: Final = 0xFFFFFFFF

Statement: TypeAlias = tuple[str, tuple[Any, ...]]

_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(list[tuple[int, str | None, list[Any]]]).decode


class RedoLog:
    """The log of one database file."""

    def __init__(self, path: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with suppress(OSError):  # so that on a full disk what gives room back can still be recorded
            os.posix_fallocate(self._fd, 0, LIMIT)
        self._end = _HEAD.size
        self._seed = 0
        self._known: dict[str, int] = {}

    @property
    def is_full(self) -> bool:
        """Whether the database should take over."""
        return self._end >= LIMIT

    def read(self, epoch: int) -> list[Statement]:
        """All statements of that epoch, in order; none when the log belongs to another one."""
        data = os.pread(self._fd, os.fstat(self._fd).st_size, 0)
        if len(data) < _HEAD.size or _HEAD.unpack_from(data) != (_MAGIC, epoch):
            return []
        found: list[Statement] = []
        texts: dict[int, str] = {}
        at = _HEAD.size
        while at + _RECORD.size <= len(data):
            length, check = _RECORD.unpack_from(data, at)
            payload = data[at + _RECORD.size : at + _RECORD.size + length]
            if len(payload) < length or not length or zlib.crc32(payload, epoch & _WORD) != check:
                break
            for index, text, values in _decode(payload):
                found.append((texts.setdefault(index, text or ""), tuple(values)))
            at += _RECORD.size + length
        return found

    def begin(self, epoch: int) -> None:
        """Starts anew for an epoch: what was in the log is stale from here on."""
        try:
            os.pwrite(self._fd, _HEAD.pack(_MAGIC, epoch), 0)
        except OSError as error:
            raise from_os_error(error) from error
        self._end = _HEAD.size
        self._seed = epoch & _WORD
        self._known.clear()

    def append(self, statements: list[Statement]) -> None:
        """Writes one record; when it returns the statements survive the process. Raises NoSpace."""
        known = self._known
        fresh: list[str] = []
        lines: list[tuple[int, str | None, tuple[Any, ...]]] = []
        for text, values in statements:
            index = known.get(text)
            if index is None:
                index = known[text] = len(known)
                fresh.append(text)
                lines.append((index, text, values))
            else:
                lines.append((index, None, values))
        payload = _encode(lines)
        head = _RECORD.pack(len(payload), zlib.crc32(payload, self._seed))
        size = len(head) + len(payload)
        try:
            done = os.pwrite(self._fd, head + payload, self._end)
        except OSError as error:
            self._forget(fresh)
            raise from_os_error(error) from error
        if done < size:
            self._forget(fresh)
            raise NoSpace("the disk of the state is full")
        self._end += size

    def _forget(self, texts: list[str]) -> None:
        for text in texts:
            del self._known[text]

    def close(self) -> None:
        """Gives the descriptor back."""
        os.close(self._fd)
