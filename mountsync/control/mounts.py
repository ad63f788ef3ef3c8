"""What the kernel knows of our mount points, whether their process lives or not."""

from __future__ import annotations

import errno
import os
import re
import threading
from typing import Final, Literal

_PATIENCE_S: Final = 2.0
_ESCAPED = re.compile(rb"\\([0-7]{3})")


def mountsync_mounts(table: str = "/proc/self/mountinfo") -> list[str]:
    """Mount points whose type is `fuse.mountsync`, in the order in which they were mounted.

    Read from the kernel's table and not from the folders, which may be dead.
    """
    with open(table, "rb") as file:
        lines = file.read().splitlines()
    found = []
    for line in lines:
        left, _, right = line.partition(b" - ")
        if right.split(b" ")[0] == b"fuse.mountsync":
            found.append(_unescaped(left.split(b" ")[4]))
    return found


def condition(place: str) -> Literal["alive", "dead", "hangs"]:
    """What the folder of a mount does when it is asked; asked in a thread, for it may never answer."""
    answers: list[int] = []

    def ask() -> None:
        try:
            os.stat(place)
            answers.append(0)
        except OSError as error:
            answers.append(error.errno or 0)

    asker = threading.Thread(target=ask, daemon=True)
    asker.start()
    asker.join(_PATIENCE_S)
    if not answers:
        return "hangs"
    return "dead" if answers[0] in (errno.ENOTCONN, errno.ECONNABORTED) else "alive"


def _unescaped(field: bytes) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), field))
