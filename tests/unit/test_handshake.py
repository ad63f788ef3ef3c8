"""The answer to the kernel's first request."""

import struct

from mountsync.fuse.handshake import completed

KILLPRIV_V2, SYMLINKS, SPLICE = 1 << 28, 1 << 23, 1 << 9


def request(offered: int, opcode: int = 26) -> bytes:
    return struct.pack("<IIQQIIIHH", 104, opcode, 2, 0, 0, 0, 0, 0, 0) + struct.pack(
        "<IIIII", 7, 45, 131072, offered, 0
    )


def answer(flags: int, error: int = 0) -> bytes:
    body = struct.pack("<IIIIHHI", 7, 31, 131072, flags, 0, 0, 1 << 20) + bytes(range(40))
    return struct.pack("<IiQ", 16 + len(body), error, 2) + body


def flags_of(reply: bytes) -> int:
    return struct.unpack_from("<IIII", reply, 16)[3]


def test_adds_what_the_kernel_offers() -> None:
    reply = completed(request(KILLPRIV_V2 | SYMLINKS | SPLICE), answer(SPLICE))
    assert flags_of(reply) == KILLPRIV_V2 | SYMLINKS | SPLICE
    assert len(reply) == len(answer(0))
    assert reply[16 + 24 :] == answer(0)[16 + 24 :]
    assert struct.unpack_from("<I", reply, 16 + 20)[0] == 1 << 20


def test_asks_for_nothing_that_is_not_offered() -> None:
    assert flags_of(completed(request(SPLICE), answer(SPLICE))) == SPLICE


def test_leaves_other_answers_alone() -> None:
    for given in (answer(0, error=-71), answer(0)[:20]):
        assert completed(request(KILLPRIV_V2), given) == given
    assert completed(request(KILLPRIV_V2, opcode=3), answer(0)) == answer(0)
