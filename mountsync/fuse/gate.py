"""Waiting for the next request of the kernel, quickly while there is traffic, at no cost when there is none.

pyfuse3 runs a number of workers, each of which waits, receives one request and answers it. Its own wait
parks in trio before every request, which costs more than most requests. Here one worker at a time is the
*reader*: it looks for a request without parking, looks again for some tens of microseconds while there
is traffic, and parks only then. The others wait in line. A handler that has to wait for something hands
the reader's place over first (`Gate.hand_over`), so that the mount goes on answering.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from typing import Final

import pyfuse3
import trio

from mountsync.fuse.handshake import Handshake
from mountsync.vfs.traffic import Traffic

_KNOWN: Final = ("3.4.0", "3.4.1", "3.4.2", "3.5.0")
"""Versions of pyfuse3 whose loop was read and looks up its wait function by name each time."""
_WAIT: Final = "_wait_fuse_readable"
_TURNS: Final = 64
"""Requests after which other tasks get their turn."""
_SPIN_S: Final = 0.00006
_HOT_S: Final = 0.002
_GONE: Final = select.POLLERR | select.POLLHUP | select.POLLNVAL


class Gate:
    """The place from which requests are read. One per mount."""

    def __init__(self, fd: int, traffic: Traffic, handshake: Handshake | None = None) -> None:
        self._fd = fd
        self._traffic = traffic
        self._handshake = handshake
        self._greeted = False
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)
        self._line = trio.lowlevel.ParkingLot()
        self._reader: trio.lowlevel.Task | None = None
        self._turns = 0
        self._last = 0.0
        self._closed = False

    def hand_over(self) -> None:
        """Lets another worker read; call it in a handler before it waits."""
        if self._reader is trio.lowlevel.current_task():
            self._reader = None
            self._line.unpark()

    async def wait(self) -> bool:
        """Returns True when a request is there, False when there will be none any more."""
        me = trio.lowlevel.current_task()
        while self._reader is not me:
            if self._closed:
                return False
            if self._reader is None:
                self._reader = me
            else:
                await self._line.park()
        if self._handshake is not None and self._greet():
            return True
        self._turns += 1
        self._traffic.requests += 1
        if self._turns < _TURNS:
            found = self._poll.poll(0)
            if found and not found[0][1] & _GONE:
                return True
        try:
            return await self._next()
        except BaseException:
            self.hand_over()
            raise

    def _greet(self) -> bool:
        """The first request went through the handshake's socket; whether this is that request."""
        if self._handshake is None:
            return False
        if not self._greeted:
            self._greeted = True
            return True
        self._handshake.finish()
        self._handshake = None
        return False

    async def _next(self) -> bool:
        if self._turns >= _TURNS:
            self._turns = 0
            await trio.lowlevel.checkpoint()
        found = self._poll.poll(0) or self._spin()
        while not found:
            self._turns = 0
            try:
                await trio.lowlevel.wait_readable(self._fd)
            except (trio.ClosedResourceError, OSError):
                return self._close()
            found = self._poll.poll(0)
        if found[0][1] & _GONE:
            return self._close()
        return True

    def _spin(self) -> list[tuple[int, int]]:
        """Looks again for a moment, if a request came not long ago."""
        poll = self._poll.poll
        now = time.perf_counter()
        if now - self._last > _HOT_S:
            self._last = now
            return []
        stop = now + _SPIN_S
        while now < stop:
            found = poll(0)
            now = time.perf_counter()
            if found:
                self._last = now
                return found
        return []

    def end_if_gone(self) -> None:
        """Sends everybody away when the folder was unmounted; to be called every so often.

        A reader who is told of it by the read itself, not by the look before, goes without a word.
        """
        found = () if self._closed else self._poll.poll(0)
        if found and found[0][1] & _GONE:
            self._close()

    def _close(self) -> bool:
        self._closed = True
        self._reader = None
        self._line.unpark_all()
        return False


def is_known() -> bool:
    """Whether this pyfuse3 can be given another wait; a version that was not read keeps its own."""
    return pyfuse3.__version__ in _KNOWN and hasattr(pyfuse3, _WAIT)


def install(gate: Gate) -> Callable[[], None]:
    """Lets pyfuse3 wait at the gate; returns what undoes it."""
    names = vars(pyfuse3)  # the stubs do not know the name
    stock = names[_WAIT]
    names[_WAIT] = gate.wait

    def undo() -> None:
        names[_WAIT] = stock

    return undo
