"""Whether two storages hold the same objects, as far as that can be known.

Overlays say on what they lie, local folders are told apart by where they are in their file system, so
that links, bind mounts and other names of one folder are seen through.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from mountsync.errors import UsageError
from mountsync.storage.api import StorageInfo

_LOCAL: Final = "local:"
_MOUNTS: Final = Path("/proc/self/mountinfo")
_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")


def refuse_overlap(a: StorageInfo, b: StorageInfo) -> None:
    """Raises UsageError when one side is the other, or lies in it: a sync would feed on itself."""
    one, two = ground_of(a), ground_of(b)
    if one == two:
        raise UsageError("both sides are the same place", hint="name two different ones")
    for outer, inner, (outside, inside) in ((one, two, (a, b)), (two, one, (b, a))):
        if is_in(inner, outer):
            raise UsageError(
                f"{_said(inside)} lies in {_said(outside)}", hint="sync folders that are not in each other"
            )


def refuse_same_file(folder: StorageInfo, target: StorageInfo) -> None:
    """Raises UsageError when a file of `folder` would be brought to where it is."""
    if ground_of(folder) == ground_of(target):
        raise UsageError("the file is in that folder already", hint="name another folder")


def ground_of(info: StorageInfo) -> str:
    """Names the place that holds the objects of a storage; one place has one name, whatever its paths."""
    ground = info.lies_in or info.identity
    return _located(ground.removeprefix(_LOCAL)) if ground.startswith(_LOCAL) else ground


def is_in(inner: str, outer: str) -> bool:
    """Whether a place lies in another, or is it."""
    return inner == outer or inner.startswith(outer.rstrip("/") + "/")


def shared(one: Mapping[str, str], other: Mapping[str, str]) -> str | None:
    """The spec of a side of the first pair that has something in common with the second, None: nothing.

    The grounds of both by spec.
    """
    for spec, ground in one.items():
        if any(is_in(ground, place) or is_in(place, ground) for place in other.values()):
            return spec
    return None


def _located(folder: str) -> str:
    """A folder by its file system and its path in that, which bind mounts do not change."""
    raw = os.path.realpath(os.fsencode(folder))
    device, root, point = b"?", b"/", b"/"
    for line in _MOUNTS.read_bytes().splitlines() if _MOUNTS.exists() else ():
        fields = line.split(b" ")
        place = _plain(fields[4])
        if len(place) >= len(point) and (raw + b"/").startswith(place.rstrip(b"/") + b"/"):
            device, root, point = fields[2], _plain(fields[3]), place
    inner = raw[len(point.rstrip(b"/")) :]
    return f"{_LOCAL}{os.fsdecode(device)}:{os.fsdecode(root.rstrip(b'/') + inner)}"


def _plain(field: bytes) -> bytes:
    return _ESCAPE.sub(lambda found: bytes([int(found[1], 8)]), field)


def _said(info: StorageInfo) -> str:
    ground = info.lies_in or info.identity
    shown = os.fsencode(ground.partition(":")[2]).decode("utf-8", "replace")
    return shown if info.lies_in is None else f"{shown} ({info.type})"
