"""What the kernel knows of our mount points, whether their process lives or not."""

from __future__ import annotations

import os
import re

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


def _unescaped(field: bytes) -> str:
    return os.fsdecode(_ESCAPED.sub(lambda found: bytes([int(found[1], 8)]), field))
