"""What rclone tells of a remote and of its objects, as values. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec

from mountsync.errors import NameRefused, PathError
from mountsync.formats.rclone_names import DOTS, FORBIDDEN, from_rclone
from mountsync.model.entry import DIRECTORY, Entry, Kind, Problem, Token, sayable
from mountsync.paths import RelPath, parts_of, rel_path
from mountsync.storage.api import Listed, NameRules

_NO_TIMES_NS: Final = 365 * 24 * 3600 * 10**9
"""rclone gives a precision of a hundred years for remotes that keep no times."""
_KNOWN_HASHES: Final = ("sha256", "md5", "sha1")
_LOCAL: Final = "Local file system at "
PART_SUFFIX: Final = ".mountsync-part"
"""What rclone adds to the name of an upload that has not ended."""


class Features(msgspec.Struct, rename="pascal"):
    """Those that make a difference to us."""

    can_have_empty_directories: bool = False
    case_insensitive: bool = False
    slow_hash: bool = False
    list_r: bool = msgspec.field(default=False, name="ListR")
    copy: bool = False
    move: bool = False
    dir_move: bool = False
    about: bool = False


class Remote(msgspec.Struct, rename="pascal"):
    """The answer of `operations/fsinfo`. Precision is in nanoseconds."""

    features: Features
    hashes: list[str] | None = None
    precision: int = _NO_TIMES_NS + 1
    string: str = ""
    """What the remote says of itself, once names that stand for others are seen through."""

    @property
    def local_folder(self) -> str | None:
        """The folder of this machine that the remote is, None when it is none."""
        said = self.string.removeprefix(_LOCAL)
        return said if said != self.string and said.startswith("/") else None

    @property
    def mtime_precision_ns(self) -> int | None:
        """As `StorageInfo` has it."""
        return max(self.precision, 1) if self.precision < _NO_TIMES_NS else None

    @property
    def cheap_hashes(self) -> tuple[str, ...]:
        """Hashes that a listing tells without reading contents; ours first."""
        if self.features.slow_hash or not self.hashes:
            return ()
        return tuple(name for name in _KNOWN_HASHES if name in self.hashes) or (self.hashes[0],)


class Item(msgspec.Struct, rename="pascal"):
    """One line of `operations/list` or `operations/stat`."""

    path: str
    size: int = -1
    mod_time: str = ""
    is_dir: bool = False
    hashes: dict[str, str] | None = None
    id: str = msgspec.field(default="", name="ID")


class _Listing(msgspec.Struct):
    items: list[Item] | None = msgspec.field(default=None, name="list")


def items_of(answer: bytes) -> list[Item]:
    """What `operations/list` answered."""
    return msgspec.json.decode(answer, type=_Listing).items or []


class Found(msgspec.Struct):
    item: Item | None = None


@dataclass(frozen=True, slots=True)
class RcloneNames(NameRules):
    """What passes through rclone unchanged."""

    def _refuse(self, part: str, path: RelPath) -> PathError | None:
        if part in DOTS or is_partial(part):
            return NameRefused("rclone would take this name for another", path=path)
        return NameRules._refuse(self, part, path)


NAMES: Final = RcloneNames(utf8_only=True, forbidden=FORBIDDEN)


def is_partial(name: str) -> bool:
    """Whether a name is that of an upload that did not end: `NAME.0a1b2c3d.mountsync-part`."""
    return name.endswith(PART_SUFFIX)


def entry_of(item: Item, remote: Remote) -> Entry:
    """The entry of an object whose size is known."""
    if item.is_dir:
        return DIRECTORY
    mtime = nanoseconds(item.mod_time)
    kept = mtime if remote.mtime_precision_ns is not None else None
    return Entry(Kind.FILE, size=item.size, mtime_ns=kept, token=token_of(item, remote, mtime))


def token_of(item: Item, remote: Remote, mtime: int | None) -> Token:
    """Changes when the content does, as far as a remote tells.

    Where times are not kept, a listing's time may be made up anew; a hash is better then.
    """
    hashes = item.hashes or {}
    known = [hashes[name] for name in remote.cheap_hashes if hashes.get(name)]
    timed = mtime is not None and (remote.mtime_precision_ns is not None or not known)
    return Token("-".join([str(item.size), str(mtime) if timed else "", *known, item.id]))


def nanoseconds(text: str) -> int | None:
    """A time of Go's RFC 3339 form since 1970; None when there is none."""
    if not text:
        return None
    fraction = _FRACTION.search(text)
    moment = datetime.fromisoformat(_FRACTION.sub("", text))
    below = int(fraction[1].ljust(9, "0")[:9]) if fraction else 0
    return sayable((moment.astimezone(UTC) - _EPOCH) // timedelta(seconds=1) * 10**9 + below)


_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FRACTION: Final = re.compile(r"\.([0-9]+)")


def listed(items: list[Item], remote: Remote) -> list[Listed]:
    """A listing's lines. What cannot be used becomes a Problem, once for each path."""
    found: dict[RelPath, Entry | Problem] = {}
    for item in items:
        path, usable = path_of(item.path)
        if is_partial(item.path):
            continue
        if path in found:
            found[path] = _DOUBLE
        elif not usable:
            found[path] = _UNNAMED
        elif not item.is_dir and item.size < 0:
            found[path] = _SIZELESS
        else:
            found[path] = entry_of(item, remote)
    return list(found.items())


def path_of(text: str) -> tuple[RelPath, bool]:
    """A path of rclone's as ours, and whether it is sure to be that."""
    ours = from_rclone(text)
    try:
        path = rel_path(text if ours is None else ours)
    except NameRefused:
        return RelPath(text), False
    return path, ours is not None and not DOTS.intersection(parts_of(path))


_DOUBLE: Final = Problem("two objects have this name; `rclone dedupe` helps", transient=False)
_UNNAMED: Final = Problem("rclone cannot pass this name on as it is", transient=False, error="NameRefused")
_SIZELESS: Final = Problem("its size is not known before it is read", transient=False, error="Unsupported")
