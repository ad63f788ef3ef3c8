"""A table of descriptors that belongs to one thread alone. Linux only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import queue
import threading
from collections.abc import Callable
from typing import Final, TypeVar, cast

T = TypeVar("T")

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_CLOSE_RANGE: Final = 436
"""close_range(2), by its number: the C library has no name for it everywhere. Linux 5.9."""
_UNSHARE: Final = 2
_FIRST: Final = 3
_LAST: Final = 0xFFFFFFFF


def leave_descriptors() -> None:
    """From now on the calling thread shares no descriptor with the others; it keeps 0, 1 and 2.

    Raises OSError where that cannot be done.
    """
    numbers = (_CLOSE_RANGE, _FIRST, _LAST, _UNSHARE)
    if _LIBC.syscall(*map(ctypes.c_ulong, numbers)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def apart(call: Callable[[str], T], path: str) -> T:
    """Does something in the mounted folder from a thread that keeps no descriptor of ours open.

    For who serves that folder: see `herald`. Returns what the call returns and raises what it raises; only
    the thread that called waits where the answer never comes. Where the kernel is too old it is called
    all the same.
    """
    results: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def work() -> None:
        with contextlib.suppress(OSError):
            leave_descriptors()
        try:
            results.put((call(path), None))
        except BaseException as error:  # noqa: BLE001 - raised by whoever waits
            results.put((None, error))

    threading.Thread(target=work, name="apart", daemon=True).start()
    result, error = results.get()
    if error is not None:
        raise error
    return cast("T", result)
