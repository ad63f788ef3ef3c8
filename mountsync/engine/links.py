"""Symbolic links on storages that have none: text objects `NAME.rclonelink`, as rclone's `--links` has it.

The object's content is the text of the link.
"""

from __future__ import annotations

from typing import Final

from mountsync.paths import RelPath

SUFFIX: Final = ".rclonelink"
MAX_TARGET: Final = 4096
"""Longer objects of that name are ordinary files: Linux accepts no longer link (PATH_MAX)."""


def object_path(path: RelPath) -> RelPath:
    """The object that stands for the link at `path`."""
    return RelPath(path + SUFFIX)


def link_path(path: RelPath, size: int) -> RelPath | None:
    """The link that an object stands for, None for ordinary objects."""
    name = path.rpartition("/")[2]
    if name.endswith(SUFFIX) and name != SUFFIX and size <= MAX_TARGET:
        return RelPath(path[: -len(SUFFIX)])
    return None
