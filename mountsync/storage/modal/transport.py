"""What the rest of the package knows of Modal: values and a dozen calls. `rpc` is what speaks them.

All calls raise `mountsync.errors` only, plus the narrower classes of `refusals`. Paths are absolute in
the volume, without a leading slash; the volume's root is the empty string.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Final, Protocol, TypeVar

from mountsync.storage.api import Into
from mountsync.storage.modal.patience import Limits

Piece_co = TypeVar("Piece_co", covariant=True)

BLOCK: Final = 8 << 20
"""Bytes of a block; a file is cut at multiples of it."""


@dataclass(frozen=True, slots=True)
class VolumeFound:
    """A volume of the account. `version` is 2 for those that we can use."""

    id: str
    name: str
    version: int


class NativeKind(Enum):
    """What Modal lists. FIFOs and sockets are OTHER."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    OTHER = 0


@dataclass(frozen=True, slots=True)
class NativeEntry:
    """What Modal tells of a path: size in bytes, mtime in whole seconds since 1970."""

    path: str
    kind: NativeKind
    size: int
    mtime: int
    waited: float = field(default=0.0, compare=False)
    """Seconds from the question to this answer, where they are many: who asked late did not see the past."""


@dataclass(frozen=True, slots=True)
class FilePut:
    """A file by its blocks: sha256 of each block without its trailing zeros.

    `receipts` holds, by digest, what the upload of a block was answered with.
    """

    path: str
    size: int
    blocks: tuple[bytes, ...]
    receipts: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Located:
    """Where the bytes of a range are: one URL per touched block; `size` is that of the whole file."""

    urls: Sequence[str]
    size: int


@dataclass(frozen=True, slots=True)
class Small:
    """A short range, fetched: `entry` is what was at the path once the URL of its bytes was made."""

    entry: NativeEntry | None
    body: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class SmallPut:
    """What came of a call: the file is put (and what was at its path then), or there are receipts now."""

    done: bool
    entry: NativeEntry | None = None
    receipts: Mapping[bytes, bytes] = field(default_factory=dict)


class Download(Protocol[Piece_co]):
    """A slice of a block that is on its way: as bytes, or as counts of bytes that went where they belong."""

    async def more(self) -> tuple[Piece_co, ...]:
        """The pieces that have come meanwhile, one at least; none at the end. Cancelling it ends all.

        Pieces are good as they come. Raises Corrupt when the rest does not come, UrlRefused, Unreachable.
        """
        ...

    async def stop(self) -> None:
        """Ends it, if it is not over; when it returns nothing more goes anywhere."""
        ...


class Transport(Protocol):
    """The protocol, as calls."""

    async def find_volume(self, name: str, *, create: bool) -> VolumeFound | None:
        """The volume of that name in the environment, None when there is none (and `create` is false)."""
        ...

    async def volume_exists(self, volume: str) -> bool:
        """Whether the volume with this id is still there."""
        ...

    async def list_volumes(self) -> Sequence[VolumeFound]:
        """All volumes of the environment."""
        ...

    async def list_files(self, volume: str, path: str, *, recursive: bool) -> Sequence[NativeEntry]:
        """What is below a directory; the entry itself for a file. The whole of it, or an error."""
        ...

    async def look(self, volume: str, path: str) -> NativeEntry | None:
        """One entry as it is now, None when absent. Many looks at once are answered by fewer calls."""
        ...

    async def locate(self, volume: str, path: str, start: int, length: int) -> Located:
        """Download URLs of a range; `length` is positive. URLs are short-lived."""
        ...

    async def begin(self, volume: str, path: str, start: int, length: int) -> tuple[Located, Small | None]:
        """`locate`, and where that gives one short slice at once the rest of the reading too."""
        ...

    @property
    def limits(self) -> Limits:
        """Seconds and counts that bound every operation."""
        ...

    async def put_small(
        self, volume: str, file: FilePut, block: bytes, *, create_only: bool, within: float
    ) -> SmallPut:
        """`put_file` of a file of one block and a `look` at it; or else the missing block is sent.

        `block` is without trailing zeros. Call it again with the receipts that it returned.
        """
        ...

    async def put_file(
        self, volume: str, file: FilePut, *, create_only: bool, within: float
    ) -> Mapping[bytes, str]:
        """Puts a file whose blocks are known; else returns upload URLs of the missing ones, by digest.

        Raises AlreadyExists with `create_only`; MaybeOurs when an earlier attempt may be the cause.
        Without it there is one attempt, of `within` seconds at most, and TryAgain is raised.
        """
        ...

    async def remove(self, volume: str, path: str, *, within: float) -> None:
        """Removes a file or an empty directory: one attempt, of `within` seconds. Raises TryAgain."""
        ...

    async def copy(self, volume: str, source: str, target: str, *, within: float) -> None:
        """Copies a file over whatever file is at `target`, which must not be a directory.

        One attempt, of `within` seconds. Raises TryAgain.
        """
        ...

    async def send_block(self, url: str, data: bytes | memoryview) -> bytes:
        """Uploads a block and returns its receipt. UrlRefused: ask for a new URL."""
        ...

    def fetch_block(self, url: str, length: int) -> Download[bytes]:
        """Starts a download of exactly `length` bytes."""
        ...

    def pour_block(self, url: str, start: int, length: int, into: Into) -> Download[int]:
        """As `fetch_block`; the bytes go to `into`, as those of the file from `start` on."""
        ...

    async def aclose(self) -> None:
        """Ends all traffic."""
        ...
