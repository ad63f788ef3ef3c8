"""One object of one side, at one time."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final, NewType

Token = NewType("Token", str)
"""Opaque text of a storage that changes if and only if the content changes (an ETag, a version).

One that ends in `PROVISIONAL` will be another soon, whether or not the content changes.
"""

PROVISIONAL: Final = "~"

Digest = NewType("Digest", str)
"""The sha256 of a whole content, 64 lower-case hexadecimal digits."""


def is_provisional(token: Token) -> bool:
    """Whether another token after this one says nothing about the content."""
    return token.endswith(PROVISIONAL)


def settled(token: Token | None) -> Token | None:
    """The token as it will be when it is not provisional any more, if the content stays."""
    return None if token is None else Token(token.removesuffix(PROVISIONAL))


def is_in_doubt(before: Token, now: Token | None) -> bool:
    """Whether `now` is the same token as `before`, while the content may still change without another one."""
    return now is not None and is_provisional(now) and now.removesuffix(PROVISIONAL) == before


EMPTY_DIGEST: Final = Digest("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


class Kind(Enum):
    """What an entry is. Devices, FIFOs and sockets never travel and have no kind here."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"


LAST_NS: Final = 2**63 - 1
"""The last moment that has a time, in the year 2262: what 64 bits hold."""


def sayable(ns: int) -> int:
    """A time as states, sidecars and kernels can hold it: one beyond becomes the last there is."""
    return max(-LAST_NS, min(ns, LAST_NS))


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one object. Absence is `None`, never an Entry.

    `size` is in bytes, 0 for directories and links. `mtime_ns` counts from 1970 and is None where the
    storage has none; `mode` holds the twelve permission bits or None where the storage has none;
    `target` is the text of a symbolic link. `digest` is None when it is not known (yet).
    """

    kind: Kind
    size: int = 0
    mtime_ns: int | None = None
    mode: int | None = None
    digest: Digest | None = None
    token: Token | None = None
    target: str | None = None

    def with_digest(self, digest: Digest | None) -> Entry:
        """The same entry, its digest known."""
        return Entry(self.kind, self.size, self.mtime_ns, self.mode, digest, self.token, self.target)


DIRECTORY: Final = Entry(Kind.DIRECTORY)


def usual_mode(kind: Kind) -> int:
    """What an object has of which a storage that keeps modes knows none: nobody needs to send that."""
    return 0o755 if kind is Kind.DIRECTORY else 0o644


@dataclass(frozen=True, slots=True)
class Problem:
    """A path that could not be read or changed: skip it, and never take it for deleted.

    A problem of a directory covers everything below it. `transient` says that it may pass by itself.
    """

    reason: str
    transient: bool = True
    error: str = "PathError"
    """The name of the error's class in `mountsync.errors`."""
