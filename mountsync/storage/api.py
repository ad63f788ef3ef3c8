"""What a storage is: seven members, and optional capabilities as protocols.

Paths are `RelPath`; the root is `ROOT`. Every method raises only `mountsync.errors`. A storage that
cannot be reached raises `Unreachable`, never `NotFound`: "could not look" is not "is not there".
Retries inside a storage last seconds at most; minutes and days belong to the engine.

All methods run on the trio loop and never block it. Cancelling one leaves the storage as it was
before or after the call, never between.
"""

from __future__ import annotations

import enum
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal, Protocol, TypeAlias, runtime_checkable

from mountsync.errors import NameRefused, NameTooLong, PathError
from mountsync.model.entry import Digest, Entry, Problem, Token
from mountsync.paths import MAX_NAME_BYTES, RelPath, is_text, parts_of


class _Absent(enum.Enum):
    ABSENT = enum.auto()


ABSENT: Final = _Absent.ABSENT
"""An expectation: nothing is there."""

Expect: TypeAlias = Token | Literal[_Absent.ABSENT] | None
"""What a call expects to find: the object with this token, nothing (`ABSENT`), or anything (None).

When it finds something else it raises Stale and changes nothing.
"""

Listed: TypeAlias = tuple[RelPath, Entry | Problem]
"""One item of a listing; a Problem covers the path and everything below it."""


Into: TypeAlias = Callable[[memoryview, int], object]
"""Takes bytes, and the offset in the object at which they belong.

It is called by any thread, once at a time; it may wait for a disk. The memory is used for something else
when it returns. A MountsyncError of its own ends the reading.
"""


class Enforcement(enum.Enum):
    """Who guards an expectation."""

    ATOMIC = "atomic"
    """The storage compares and swaps in one step."""
    CHECKED = "checked"
    """We look just before the step; a foreign writer in that window is not seen."""


@dataclass(frozen=True, slots=True)
class NameRules:
    """Which names a storage can hold. `refusal` is asked before a name is made, in the mount too."""

    max_name_bytes: int = MAX_NAME_BYTES
    max_path_bytes: int | None = None
    utf8_only: bool = False
    forbidden: frozenset[str] = frozenset()
    """Characters that no name may hold."""

    depend_on_size: ClassVar[bool] = False
    """Whether a name that a small object may have can be refused to a large one."""

    def refusal(self, path: RelPath, *, size: int = 0) -> PathError | None:  # noqa: ARG002 - for subclasses
        """The error that making `path` would meet, or None when the name can be held.

        `size` is what the object will hold, in bytes: some storages hold long names only for small
        objects, so ask again when it grows.
        """
        if self.max_path_bytes is not None and _bytes(path) > self.max_path_bytes:
            return NameTooLong(f"the path is longer than {self.max_path_bytes} bytes", path=path)
        if self.utf8_only and not is_text(path):
            return NameRefused("the remote holds only names that are valid UTF-8", path=path)
        for part in parts_of(path):
            refused = self._refuse(part, path)
            if refused is not None:
                return refused
        return None

    def depends_on_place(self, name: str) -> bool:  # noqa: ARG002 - for subclasses
        """Whether a path that ends in `name` can be refused in one folder and not in another."""
        return self.max_path_bytes is not None

    def insist(self, path: RelPath, *, size: int = 0) -> None:
        """Raises what `refusal` gives."""
        refused = self.refusal(path, size=size)
        if refused is not None:
            raise refused

    def largest(self, path: RelPath) -> int | None:  # noqa: ARG002 - for subclasses
        """The largest size in bytes that `refusal` takes at `path`; None when any is as good as another.

        Asked only for a path that is not refused when empty, and only where `depend_on_size`.
        """
        return None

    def _refuse(self, part: str, path: RelPath) -> PathError | None:
        if _bytes(part) > self.max_name_bytes:
            return NameTooLong(f"a name is longer than {self.max_name_bytes} bytes", path=path)
        bad = self.forbidden.intersection(part)
        if bad:
            return NameRefused(f"the remote cannot hold {min(bad)!r} in a name", path=path)
        return None


def _bytes(text: str) -> int:
    return len(text.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True, slots=True)
class StorageInfo:
    """Facts about a storage, the same for its whole life."""

    type: str
    """The name of its type in a remote spec: `local`, `chunker`, `modal`, …"""
    identity: str
    """Names the same objects on every start, without secrets; keys of state and caches use it."""
    lies_in: str | None = None
    """For an overlay, and for another way to a place: the identity of what holds the objects."""
    mtime_precision_ns: int | None = 1
    """The step of stored times; None when times cannot be kept at all."""
    times_outside_tokens: bool = False
    """A time can become another one while the token stays, and every listing tells the time that holds.

    False also where a listing tells other times than those that were set: they say nothing then.
    """
    case_sensitive: bool = True
    unicode_normalizing: bool = False
    empty_directories: bool = True
    """Whether a directory can exist without a file in it."""
    atomic_replace: bool = True
    enforcement: Enforcement = Enforcement.CHECKED
    names: NameRules = field(default_factory=NameRules)
    max_size: int | None = None
    """The largest object in bytes."""
    read_block: int = 1 << 20
    """The size in bytes, and alignment, of ranged reads that the storage likes."""
    concurrency: int = 4
    """How many transfers at once it bears."""
    small_at_once: int = 0
    """How many small bodies (64 KiB and less) it likes at once, where they share calls; 0: no more.

    The same for questions about single paths.
    """
    flat: bool = False
    """One recursive listing is cheaper than one per directory."""
    stable_tokens: bool = False
    """A renamed object keeps its token, and two objects with one token have one content."""
    moves_directories: bool = False
    """`move` takes a whole directory in one step (only with SupportsMove)."""
    hashes: frozenset[str] = frozenset()
    """Digests that it knows without reading the content: `sha256`, `md5`, `sha1`."""


class Source(Protocol):
    """The body of an upload. It can be read again and in any order, also by several tasks at once."""

    @property
    def size(self) -> int:
        """Length in bytes; it does not change."""
        ...

    async def read(self, offset: int, length: int) -> bytes:
        """Exactly these bytes, fewer only at the end. Raises Stale when the content moved on."""
        ...

    def still(self) -> bool:
        """Whether the content is still the one that the upload began with.

        A storage asks just before its commit step and raises Stale when the answer is no.
        """
        ...


@runtime_checkable
class Storage(Protocol):
    """Holds objects under paths. Parents of a written object come into being by themselves."""

    @property
    def info(self) -> StorageInfo:
        """Facts that hold for the storage's whole life."""
        ...

    def list(
        self, path: RelPath, *, recursive: bool
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Listed]]]:
        """What is below the directory `path`, in batches, in no promised order.

        A directory that cannot be listed gives a Problem for its path and the rest goes on. Iterating
        raises NotFound or NotADirectory when `path` itself is not a directory (the root of a storage
        without directories always is one), Unreachable when the listing cannot be finished: then
        nothing may be concluded from what was missing. Temporary objects of the storage's own never
        appear.
        """
        ...

    async def stat(self, path: RelPath) -> Entry | None:
        """The entry, None when nothing is there.

        The root is None where it comes into being with the first object: then it lists as empty, so that
        a target or a mount can begin there, and whoever reads from it knows that its name may be wrong.
        """
        ...

    def read(
        self, path: RelPath, offset: int = 0, length: int | None = None, *, expect: Expect = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Bytes from `offset`, at most `length`, in pieces; fewer only at the end of the object.

        Raises NotFound, IsADirectory, Stale (not the expected object, now or while reading) or
        Corrupt; never gives bytes of two versions.
        """
        ...

    async def write(
        self, path: RelPath, source: Source, *, mtime_ns: int | None = None, expect: Expect = None
    ) -> Entry:
        """Puts the whole object, all or nothing, and returns its new entry with its token.

        Missing parents are made. Raises Stale when the expectation fails or `source.still()` is false
        just before the commit, IsADirectory, NameRefused, NameTooLong, NoSpace, Unreachable. On any
        error the old object is as it was. Durable when `barrier` returns (see SupportsBarrier), at
        once where the storage has none.
        """
        ...

    async def delete(self, path: RelPath, *, expect: Expect = None) -> None:
        """Removes one file or link. Raises NotFound, Stale or IsADirectory; nothing else changes."""
        ...

    async def aclose(self) -> None:
        """Finishes what is under way and frees connections. Safe to call twice."""
        ...


@runtime_checkable
class SupportsMove(Protocol):
    async def move(
        self, source: RelPath, target: RelPath, *, expect: Expect = None, replace: Expect = ABSENT
    ) -> Entry:
        """Renames a file (or a directory, where `info.moves_directories`) without moving bytes.

        `expect` is about the source, `replace` about what is at the target. Missing parents of the
        target are made. Returns the entry at the target. Raises NotFound, Stale, AlreadyExists.
        """
        ...


@runtime_checkable
class SupportsPour(Protocol):
    def pour(
        self, path: RelPath, into: Into, offset: int = 0, length: int | None = None, *, expect: Expect = None
    ) -> AbstractAsyncContextManager[AsyncIterator[int]]:
        """As `read`, but the bytes go to `into` as they arrive; iterating tells how many have gone there.

        For large objects, whose bytes need not come to the loop then. Counts are of bytes from `offset`
        on, in their order. Others may have gone to `into` already: in any order, twice, or wrong ones,
        until they are counted. `into` is not called any more once the context is left, whatever the
        reason is.
        """
        ...


@runtime_checkable
class SupportsBody(Protocol):
    def body(self, path: RelPath, *, expect: Expect = None) -> AbstractAsyncContextManager[Source]:
        """The content of a file, held open, as the body of a write somewhere else.

        On this machine's disk it has `fileno`. Entering raises NotFound, IsADirectory or Stale.
        """
        ...


@runtime_checkable
class SupportsCopy(Protocol):
    async def copy(
        self, source: RelPath, target: RelPath, *, expect: Expect = None, replace: Expect = ABSENT
    ) -> Entry:
        """Copies a file inside the storage without moving bytes through us; as `move` otherwise."""
        ...


@runtime_checkable
class SupportsDigest(Protocol):
    async def digest(self, path: RelPath, *, expect: Expect = None) -> Digest | None:
        """The sha256 of the content when the storage knows it without sending the content."""
        ...


@runtime_checkable
class SupportsHashes(Protocol):
    async def hashes(self, path: RelPath, *, expect: Expect = None) -> Mapping[str, str]:
        """Digests known without reading the content, by name (`md5`, `sha1`), lower-case hex."""
        ...


@runtime_checkable
class SupportsSetMtime(Protocol):
    async def set_mtime(self, path: RelPath, mtime_ns: int, *, expect: Expect = None) -> Entry:
        """Sets the modification time of a file and returns its entry, whose token may have changed."""
        ...


@runtime_checkable
class SupportsDirectories(Protocol):
    async def make_directory(self, path: RelPath) -> Entry:
        """Makes a directory and its parents; no error when it is there. NotADirectory for a file."""
        ...

    async def remove_directory(self, path: RelPath) -> None:
        """Removes an empty directory. Raises NotFound, DirectoryNotEmpty or NotADirectory."""
        ...


@runtime_checkable
class SupportsSymlinks(Protocol):
    async def make_symlink(self, path: RelPath, target: str, *, expect: Expect = None) -> Entry:
        """Makes or replaces a symbolic link whose text is `target`."""
        ...


@runtime_checkable
class SupportsAttributes(Protocol):
    async def set_mode(self, path: RelPath, mode: int) -> Entry:
        """Sets the twelve permission bits of a file or directory and returns its entry."""
        ...


@runtime_checkable
class SupportsWatch(Protocol):
    def watch(self) -> AbstractAsyncContextManager[AsyncIterator[frozenset[RelPath]]]:
        """Hints: paths that may have changed, our own writes among them; ROOT means "look everywhere".

        Active when the context is entered. Iteration ends with an error when the watcher dies.
        """
        ...


@dataclass(frozen=True, slots=True)
class Usage:
    """Space in bytes; None where the storage does not say."""

    total: int | None
    used: int | None
    free: int | None


@runtime_checkable
class SupportsUsage(Protocol):
    async def usage(self) -> Usage:
        """How much space there is."""
        ...


@runtime_checkable
class SupportsBarrier(Protocol):
    async def barrier(self) -> None:
        """Returns when every change that was acknowledged before the call is safe from power loss."""
        ...


@runtime_checkable
class SupportsAttempts(Protocol):
    async def recover_attempts(self) -> None:
        """Finishes or removes what an earlier process of ours left half done. Called once at start."""
        ...
