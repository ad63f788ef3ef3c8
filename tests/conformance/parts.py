"""Short-hands of the conformance suite."""

from __future__ import annotations

import pytest
import trio

from mountsync.model.entry import Entry, Token
from mountsync.paths import RelPath, is_within
from mountsync.storage.api import Storage
from tests.parts.bodies import put

MTIME = 1_700_000_123_456_789_123
OTHER = Token("no such token")

ODD_NAMES = [
    "plain",
    " leading and trailing ",
    "...",
    ".hidden",
    "tab\tnewline\nescape\x1b",
    "back\\slash",
    "quote\"'`",
    "*?<>|:",
    "%41 %00 %d",
    "#hash&amp;",
    "e\u0301 NFD",
    "\u00e9 NFC",
    "\U0001f600 emoji",
    "\u202eright-to-left",
    "-rf",
    "trailing dot.",
    "~",
    "not \udcff\udcfe UTF-8",
    "\x7f",
    "n" * 255,
    "\u20ac" * 85,
    "n" * 256,
    "\u20ac" * 86,
]


def need(storage: Storage, *capabilities: type) -> None:
    for capability in capabilities:
        if not isinstance(storage, capability):
            pytest.skip(f"the storage has no {capability.__name__}")


def facts(entry: Entry | None) -> tuple:
    """What must be equal wherever an entry comes from."""
    assert entry is not None
    return entry.kind, entry.size, entry.mtime_ns, entry.mode, entry.token, entry.target


def same_time(storage: Storage, seen: int | None, wanted: int) -> bool:
    step = storage.info.mtime_precision_ns
    return step is None or (seen is not None and abs(seen - wanted) < step)


async def watch_for(hints, path: str) -> None:
    with trio.fail_after(5):
        async for changed in hints:
            if any(is_within(RelPath(path), hint) for hint in changed):
                return


async def plant(storage, depth: int) -> list[str]:
    """Makes a tree of files, each with its own path as content, and returns the paths."""
    paths = [f"d{a}/e{b}/f{c}" for a in range(3) for b in range(3) for c in range(4)]
    paths += ["top", "d0/file", "/".join(["deep"] * depth)]
    for path in paths:
        await put(storage, path, path.encode())
    return paths
