"""The first exchange with the kernel, with abilities that libfuse 3.14 does not ask for.

libfuse answers the kernel's INIT request itself, and a program cannot add to its answer. So libfuse gets
a socket in place of the device: INIT is handed to it through the socket, its answer is taken from there,
completed, and given to the kernel; then the descriptor that libfuse knows becomes the device. What is
asked for in addition:

- `HANDLE_KILLPRIV_V2`: writes take setuid and setgid away in our code; the kernel then no longer asks for
  `security.capability` before every single write.
- `CACHE_SYMLINKS`: the text of a link never changes, so the kernel may keep it.
- more requests in the background, and the read-ahead that the device allows.

Layouts are those of `linux/fuse.h`, protocol 7.31 and later.
"""

from __future__ import annotations

import os
import socket
import struct
from typing import Final

_IN: Final = struct.Struct("<IIQQIIIHH")
_INIT_IN: Final = struct.Struct("<IIIII")
_OUT: Final = struct.Struct("<IiQ")
_INIT_OUT: Final = struct.Struct("<IIIIHHI")
_INIT: Final = 26
_READ: Final = 64 << 10
_CACHE_SYMLINKS: Final = 1 << 23
_HANDLE_KILLPRIV_V2: Final = 1 << 28
_WANTED: Final = _CACHE_SYMLINKS | _HANDLE_KILLPRIV_V2
_BACKGROUND: Final = 64
_CONGESTION: Final = 48
_READ_AHEAD: Final = 16 << 20
"""More than any device allows; the kernel takes the smaller one."""


class Handshake:
    """Stands between libfuse and the device for one exchange. `fd` is what libfuse gets."""

    def __init__(self, device: int) -> None:
        """Waits for the kernel's request, which follows the mount at once. Owns `device` from here on."""
        self._device = device
        self._request = os.read(device, _READ)
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._ours.setblocking(False)
        self._ours.send(self._request)
        self.fd = theirs.detach()
        self._done = False

    def finish(self) -> None:
        """Call it once libfuse has handled its first request: from here on `fd` is the device itself."""
        if self._done:
            return
        self._done = True
        with self._ours:
            answer = self._ours.recv(_READ)
        os.write(self._device, completed(self._request, answer))
        os.dup2(self._device, self.fd, inheritable=False)
        os.close(self._device)

    def abandon(self) -> None:
        """Lets the device go when libfuse never started."""
        if not self._done:
            self._done = True
            self._ours.close()
            os.close(self._device)
            os.close(self.fd)


def completed(request: bytes, answer: bytes) -> bytes:
    """The answer to INIT with what we want in addition, of what the kernel offers."""
    _, opcode, *_ = _IN.unpack_from(request)
    length, error, _ = _OUT.unpack_from(answer)
    if opcode != _INIT or error or min(length, len(answer)) < _OUT.size + _INIT_OUT.size:
        return answer
    offered = _INIT_IN.unpack_from(request, _IN.size)[3]
    major, minor, _, flags, _, _, max_write = _INIT_OUT.unpack_from(answer, _OUT.size)
    flags |= offered & _WANTED
    mine = _INIT_OUT.pack(major, minor, _READ_AHEAD, flags, _BACKGROUND, _CONGESTION, max_write)
    return answer[: _OUT.size] + mine + answer[_OUT.size + _INIT_OUT.size :]
