"""What we remember of files on a Modal volume, which keeps no mtime and shows no mode. Pure.

The memory is a set of JSON files ("shards") in `.mountsync/metadata/` at the root of the volume:

    {"version": 1, "entries": {"path/from/the/volume/root": {"s": 12, "m": 1700000000, "t": …}}}

`s` and `m` are Modal's own size and mtime (whole seconds since 1970) at the time of writing; an entry
is trusted only while both still hold. `t` is the mtime to show (ns since 1970, in 64 bits with a sign:
later than 2262 there is none), `p` the permission bits, `v` a mark that tells apart two contents of one
size written in one second. A shard holds the files of the directories whose path has its sha256 begin
with the shard's two hexadecimal digits, so that a directory is known after one shard. A change rewrites
its shard: about one 256th of all entries where files lie in many directories, and all of them where they
lie in one.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec

from mountsync.paths import OURS, is_text

FOLDER: Final = f"{OURS}/metadata"
RCLONE_NAME: Final = ".rclone-modal-metadata.json"
"""The sidecar of rclone-modal: hidden, read where it is understood, never written."""
DIRECTORY_SIZE: Final = -1
"""The size of an entry that is about a directory: it is trusted as long as that is one."""
_VERSION: Final = 1


class Remembered(msgspec.Struct, frozen=True, omit_defaults=True):
    """One entry of a shard."""

    size: int = msgspec.field(name="s")
    mtime: int = msgspec.field(name="m", default=0)
    mtime_ns: int | None = msgspec.field(name="t", default=None)
    mode: int | None = msgspec.field(name="p", default=None)
    variant: str = msgspec.field(name="v", default="")

    def fits(self, size: int, mtime: int) -> bool:
        """Whether Modal still shows the file that this entry was written for."""
        return (self.size, self.mtime) == (size, mtime)


class _Head(msgspec.Struct, frozen=True):
    version: int


class _Shard(msgspec.Struct, frozen=True):
    version: int
    entries: dict[str, Remembered]


_LARGEST: Final = 2**63 - 1
_DECODER: Final = msgspec.json.Decoder(_Shard)
_HEAD: Final = msgspec.json.Decoder(_Head)
_PLAIN: Final = msgspec.json.Decoder()
T = TypeVar("T")


def _parsed(decoder: msgspec.json.Decoder[T], data: bytes) -> T | None:
    """What the bytes say; None when they are damaged, also so that a decoder would break on them."""
    try:
        return decoder.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, ValueError, OverflowError):
        return None


_MODES: Final = 0o7777
_VARIANT: Final = re.compile(r"[0-9a-f]{0,64}")


def _is_valid(path: str, entry: Remembered) -> bool:
    """Whether a file system can show what the entry says."""
    return (
        is_text(path)
        and DIRECTORY_SIZE <= entry.size <= _LARGEST
        and 0 <= entry.mtime <= _LARGEST
        and (entry.mtime_ns is None or -_LARGEST <= entry.mtime_ns <= _LARGEST)
        and (entry.mode is None or 0 <= entry.mode <= _MODES)
        and _VARIANT.fullmatch(entry.variant) is not None
    )


def _valid(entries: Mapping[str, Remembered]) -> dict[str, Remembered]:
    return {path: entry for path, entry in entries.items() if _is_valid(path, entry)}


def shard_of(path: str) -> str:
    """The name of the shard that holds `path`: two hexadecimal digits."""
    return _shard_of_folder(path.rpartition("/")[0])


@lru_cache(maxsize=1024)
def _shard_of_folder(folder: str) -> str:
    return hashlib.sha256(folder.encode("utf-8", "surrogateescape")).hexdigest()[:2]


def shard_path(shard: str) -> str:
    """Where that shard lies, from the root of the volume."""
    return f"{FOLDER}/{shard}.json"


def shard_at(path: str) -> str | None:
    """The shard that lies at `path`; None when it is something else."""
    name = path.removeprefix(f"{FOLDER}/").removesuffix(".json")
    return name if path == shard_path(name) and len(name) == 2 else None


def decode(data: bytes) -> dict[str, Remembered] | None:
    """The entries of a shard that make sense; None when it is damaged or of a version that is not known."""
    shard = _parsed(_DECODER, data)
    return _valid(shard.entries) if shard is not None and shard.version == _VERSION else None


def is_newer(data: bytes) -> bool:
    """Whether a later version of mountsync wrote this shard, so that it must be left as it is."""
    head = _parsed(_HEAD, data)
    return head is not None and head.version > _VERSION


def encode(entries: Mapping[str, Remembered]) -> bytes:
    """A shard with these entries; equal entries give equal bytes."""
    return msgspec.json.encode(_Shard(_VERSION, dict(sorted(entries.items()))))


def merge(theirs: Mapping[str, Remembered], ours: Mapping[str, Remembered | None]) -> dict[str, Remembered]:
    """What others wrote, with our changes on top; None removes an entry."""
    merged = {path: entry for path, entry in theirs.items() if path not in ours}
    return merged | {path: entry for path, entry in ours.items() if entry is not None}


_SIZES: Final = ("size", "modalsize")
_PHYSICAL: Final = ("modalmtime", "modalmodtime", "physicalmtime", "physicalmodtime", "remotemtime")
_SOURCE: Final = ("sourcemtime", "sourcemodtime", "mtime", "modtime")


def decode_rclone(data: bytes) -> dict[str, Remembered]:
    """The entries of rclone-modal's sidecar that can be understood; none when nothing can.

    Its layout is not documented beyond what it holds: per file the source's mtime, and Modal's size
    and mtime. So the names of the fields are matched loosely, and whatever does not hold all three is
    left alone. A wrong guess does no harm: an entry counts only where size and mtime agree with Modal.
    """
    found: dict[str, Remembered] = {}
    for path, fields in _records(_parsed(_PLAIN, data)):
        entry = _understood(fields)
        if entry is not None:
            found[path.strip("/")] = entry
    return _valid(found)


def _records(tree: object) -> Iterable[tuple[str, dict[str, Any]]]:
    """Every object that stands under a path: the top one's members, or those one level below."""
    if not isinstance(tree, dict):
        return
    for key, value in tree.items():
        if not isinstance(value, dict):
            continue
        if _understood(value) is not None:
            yield key, value
        else:
            yield from ((path, fields) for path, fields in value.items() if isinstance(fields, dict))


def _understood(fields: Mapping[str, Any]) -> Remembered | None:
    plain = {name.lower().replace("_", "").replace("-", ""): value for name, value in fields.items()}
    size = _first(plain, _SIZES)
    physical = _nanoseconds(_first(plain, _PHYSICAL))
    source = _nanoseconds(_first(plain, _SOURCE))
    if not isinstance(size, int) or isinstance(size, bool) or size < 0 or physical is None or source is None:
        return None
    return Remembered(size, physical // 10**9, source)


def _first(fields: Mapping[str, Any], names: Iterable[str]) -> Any:
    return next((fields[name] for name in names if name in fields), None)


def _nanoseconds(value: object) -> int | None:
    """A time as RFC 3339 text, or as a number of seconds, milli-, micro- or nanoseconds since 1970."""
    if isinstance(value, str):
        return _from_text(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0:
        return None
    scale = next((factor for limit, factor in _SCALES if value < limit), 1)
    return int(value * scale) if value <= _LARGEST else None


_SCALES: Final = ((10**11, 10**9), (10**14, 10**6), (10**17, 10**3))


def _from_text(text: str) -> int | None:
    """Go writes up to nine digits of a second, of which `datetime` holds six."""
    head, dot, tail = text.replace("Z", "+00:00").partition(".")
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    try:
        whole = datetime.fromisoformat(head + tail[len(digits) :] if dot else head)
        seconds = int(whole.timestamp())
    except (ValueError, OverflowError):
        return None
    if whole.tzinfo is None:
        return None
    return seconds * 10**9 + int(digits.ljust(9, "0")[:9] or 0)
