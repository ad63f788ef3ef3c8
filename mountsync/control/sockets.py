"""Unix sockets under paths of any length.

The kernel takes at most 107 bytes as the address of a socket. A longer path is reached through an
open descriptor of its folder: `/proc/self/fd/7/control.sock`.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

_LONGEST: Final = 107
_PEER: Final = struct.Struct("iII")  # pid, uid, gid: struct ucred of <sys/socket.h>


@contextmanager
def _address(path: Path) -> Iterator[str]:
    if len(os.fsencode(path)) <= _LONGEST:
        yield str(path)
        return
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def bind(path: Path) -> socket.socket:
    """A listening socket at `path` with mode 0600 from its first moment; replaces a left-over one.

    Whoever calls it owns the folder (holds the state's lock), so that nobody else binds there.
    """
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        os.fchmod(bound.fileno(), 0o600)  # before bind: Linux gives this mode to the file
        with suppress(FileNotFoundError):
            os.unlink(path)
        with _address(path) as address:
            bound.bind(address)
        bound.listen(64)
        bound.setblocking(False)
    except BaseException:
        bound.close()
        raise
    return bound


def connect(path: Path) -> socket.socket:
    """A connected socket. Raises OSError; never waits, for a full queue is an error too."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        made.setblocking(False)
        with _address(path) as address:
            made.connect(address)
    except BaseException:
        made.close()
        raise
    return made


class _Connected(Protocol):
    def getsockopt(self, level: int, option: int, length: int, /) -> bytes: ...


def peer_uid(connected: _Connected) -> int:
    """The user at the other end, as the kernel knows it."""
    raw = connected.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
    _pid, uid, _gid = _PEER.unpack(raw)
    return int(uid)
