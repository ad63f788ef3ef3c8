"""What a service manager is told: sd_notify(3), and the watchdog of systemd.

Everything here does nothing when no manager listens (`NOTIFY_SOCKET` is not set).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final

import trio

_READY_S: Final = 5.0
"""How long a manager that is too busy to take the message is asked again."""
_AGAIN_S: Final = 0.05
_SHARE: Final = 3
"""Signs of life per interval: one that is late does no harm."""


def tell(message: str) -> bool:
    """Sends one message; False when nobody took it. Never blocks and never raises."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address.startswith(("/", "@")):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to, suppress(OSError):
        to.setblocking(False)
        to.connect("\0" + address[1:] if address.startswith("@") else address)
        to.sendall(message.encode("utf-8", "backslashreplace"))
        return True
    return False


def tell_status(text: str) -> None:
    """The line that `systemctl status` shows."""
    tell("STATUS=" + " ".join(text.split()))


async def tell_ready(text: str) -> None:
    """Says that the service can be used. Returns when the manager knows, or takes nothing for 5 s."""
    if not os.environ.get("NOTIFY_SOCKET"):
        return
    message = "READY=1\nSTATUS=" + " ".join(text.split())
    for _ in range(int(_READY_S / _AGAIN_S)):
        if tell(message):
            return
        await trio.sleep(_AGAIN_S)


def tell_stopping(seconds: float) -> None:
    """Says that the service ends, and asks for `seconds` of patience."""
    tell(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={int(seconds * 1e6)}")


def watchdog_seconds(environment: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """How often the manager wants a sign of life, in seconds; None when it wants none from us."""
    wanted, whose = environment.get("WATCHDOG_USEC", ""), environment.get("WATCHDOG_PID", "")
    if not wanted.isdecimal() or int(wanted) == 0:
        return None
    if whose and whose != str(os.getpid() if pid is None else pid):
        return None
    return int(wanted) / 1e6


async def keep_watchdog(answers: Callable[[], Awaitable[object]]) -> None:
    """Gives signs of life for as long as `answers` returns; until cancelled.

    `answers` asks the service what its users ask. When it hangs or raises OSError, no sign is given, and
    the manager acts.
    """
    interval = watchdog_seconds()
    if interval is None:
        return
    while True:
        with suppress(OSError):
            await answers()
            tell("WATCHDOG=1")
        await trio.sleep(interval / _SHARE)
