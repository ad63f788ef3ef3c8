"""Looks after the reading of requests: what the gate cannot see happens between its look and the read.

A request can be withdrawn between the look that found it and the read that takes it: the program that
made it was killed. The read then waits for the next one, and, as pyfuse3 keeps the interpreter's lock
meanwhile, with it every thread; on a folder that nobody uses that may be for hours. libfuse gives up such
a read when a signal comes, and pyfuse3 then waits at the gate again. Only a timer of the kernel can send
one: no code of ours runs. Or the folder is unmounted in between: then the one who read ends, and the
others wait at the gate for his place.
"""

from __future__ import annotations

import signal
from types import FrameType
from typing import Final

import trio

from mountsync.fuse.gate import Gate

_PULSE_S: Final = 2.0
"""The timer is set anew that often, for twice as long: as long as the loop lives it never ends."""


async def look_after(gate: Gate) -> None:
    """Runs for as long as the mount is served. Uses SIGALRM; needs the main thread."""
    before = signal.signal(signal.SIGALRM, _nothing)
    try:
        while True:
            signal.setitimer(signal.ITIMER_REAL, 2 * _PULSE_S, _PULSE_S)
            await trio.sleep(_PULSE_S)
            gate.end_if_gone()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """The signal only interrupts; a loop that was merely busy goes on."""
