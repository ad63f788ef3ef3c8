"""Facts about a remote that are kept in the state folder, each in a file of its own, as JSON."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TypeVar

import msgspec

T = TypeVar("T")


def load(place: Path, kind: type[T]) -> T | None:
    """What was kept; None when there is nothing, or nothing that can be understood. Blocks.

    Raises OSError when it cannot be read, for then nobody knows what was kept.
    """
    try:
        return msgspec.json.decode(place.read_bytes(), type=kind)
    except (FileNotFoundError, msgspec.MsgspecError):
        return None


def save(place: Path, value: msgspec.Struct) -> None:
    """Keeps it for the next start; whoever reads meanwhile finds the old or the new one. Blocks.

    Safe from power loss on return. Raises OSError.
    """
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = place.with_suffix(".new")
    with open(fresh, "wb") as file:
        file.write(msgspec.json.encode(value))
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, place)
    sync_folder(place.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder safe from power loss. Blocks. Raises OSError."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
