"""The metadata object of a file in chunks: rclone's `simplejson`, byte for byte.

    {"ver":1,"size":10485760,"nchunks":3,"md5":"0629ef9c6f1e6601808b87814b870376"}

Reading accepts and refuses exactly what Go's `encoding/json` does with that structure: keys in any
case, the last of double keys, unknown keys of any kind; no floats, texts or booleans for numbers.
Source of the format: rclone's documentation of the chunker remote and runs of rclone 1.75.2.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final, Literal, NoReturn, cast

from mountsync.formats.chunk_names import MAX_CHUNKS

MAX_METADATA_BYTES: Final = 255
"""A reader refuses more."""
MAX_CONSIDERED_BYTES: Final = 1023
"""A larger object is never taken for metadata."""
KNOWN_VERSION: Final = 2

Settle = Literal["", "chunks", "plain"]
"""What is left to do for a version that is already the valid one; rclone ignores the key.

`chunks`: chunks with and without the transaction's suffix make up the file, the ones with it count
where both exist; all shall lose the suffix. `plain`: the only chunk shall become the object itself.
"""

_INT64: Final = range(-(1 << 63), 1 << 63)
_INTEGERS: Final = ("ver", "size", "nchunks")
_TEXTS: Final = ("md5", "sha1", "txn")
_FOLDED: Final = str.maketrans({"\u017f": "s", "\u212a": "k"})
_MD5: Final = re.compile("[0-9a-fA-F]{32}")
_SHA1: Final = re.compile("[0-9a-fA-F]{40}")


class MetadataError(ValueError):
    """The bytes are not metadata of a known version; the text says why, in rclone's words."""


class FutureMetadata(MetadataError):
    """Metadata of a newer chunker: nothing may be changed."""


@dataclass(frozen=True, slots=True)
class ChunkMetadata:
    """What a metadata object says. `size` is in bytes; hashes are hex, empty when absent."""

    size: int
    chunks: int
    md5: str = ""
    sha1: str = ""
    transaction: str = ""
    settle: Settle = ""


@dataclass(frozen=True, slots=True)
class _Number:
    """A JSON number as it was written: only some are allowed, and only in known fields."""

    text: str


def encode_metadata(metadata: ChunkMetadata) -> bytes:
    """The bytes of the object, as rclone writes them (`settle` is ours and comes last)."""
    fields: dict[str, object] = {
        "ver": 2 if metadata.transaction else 1,
        "size": metadata.size,
        "nchunks": metadata.chunks,
        "md5": metadata.md5,
        "sha1": metadata.sha1,
        "txn": metadata.transaction,
        "settle": metadata.settle,
    }
    written = {key: value for key, value in fields.items() if value != ""}
    return json.dumps(written, separators=(",", ":")).encode()


def decode_metadata(data: bytes) -> ChunkMetadata:
    """The metadata in these bytes. Raises MetadataError, or FutureMetadata for a newer version."""
    if len(data) > MAX_METADATA_BYTES:
        raise MetadataError("metadata is too big")
    if not (data.startswith(b"{") and data.endswith(b"}")):
        raise MetadataError("invalid json")
    numbers, texts, settle = _fields(_pairs(data))
    if len(numbers) < len(_INTEGERS):
        raise MetadataError("missing required field")
    found = ChunkMetadata(
        numbers["size"],
        numbers["nchunks"],
        texts.get("md5", "").lower(),
        texts.get("sha1", "").lower(),
        texts.get("txn", ""),
        settle,
    )
    _check(numbers["ver"], found)
    return found


def is_metadata(data: bytes) -> bool:
    """Whether a reader would take the bytes for metadata, of today's or of a newer version."""
    try:
        decode_metadata(data)
    except FutureMetadata:
        return True
    except MetadataError:
        return False
    return True


def _check(version: int, found: ChunkMetadata) -> None:
    """The rules in rclone's order; the first broken one is told."""
    if version < 1:
        raise MetadataError("wrong version")
    if found.size < 0:
        raise MetadataError("negative file size")
    if found.chunks < 0:
        raise MetadataError("negative number of chunks")
    if found.chunks > MAX_CHUNKS:
        raise FutureMetadata("chunk number overflow")
    if found.md5 and not _MD5.fullmatch(found.md5):
        raise MetadataError("wrong md5 hash")
    if found.sha1 and not _SHA1.fullmatch(found.sha1):
        raise MetadataError("wrong sha1 hash")
    if version > KNOWN_VERSION:
        raise FutureMetadata(f"metadata of version {version}, this one knows {KNOWN_VERSION}")
    if found.chunks < 1:
        raise MetadataError("wrong number of chunks")


def _pairs(data: bytes) -> list[tuple[str, object]]:
    """Keys and values of the outermost object, doubles included."""
    decoder = json.JSONDecoder(
        object_pairs_hook=tuple,
        parse_int=_Number,
        parse_float=_Number,
        parse_constant=_refuse_constant,
    )
    try:
        value, end = decoder.raw_decode(text := data.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise MetadataError("invalid json") from error
    if end != len(text):
        raise MetadataError("invalid json")
    return list(cast("tuple[tuple[str, object], ...]", value))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def _fields(pairs: list[tuple[str, object]]) -> tuple[dict[str, int], dict[str, str], Settle]:
    """The known fields, the last of doubles; null takes a number away and leaves a text alone."""
    numbers: dict[str, int] = {}
    texts: dict[str, str] = {}
    settle: Settle = ""
    for key, value in pairs:
        field = _fold(key)
        if field in _INTEGERS:
            numbers.pop(field, None)
            if value is not None:
                numbers[field] = _integer(value)
        elif field in _TEXTS and value is not None:
            texts[field] = _text(value)
        elif key == "settle" and value in ("chunks", "plain"):
            settle = value
    return numbers, texts, settle


def _fold(key: str) -> str:
    """The key as Go compares keys: ASCII case, the long s and the Kelvin sign."""
    folded = key.translate(_FOLDED)
    return folded.lower() if folded.isascii() else folded


def _integer(value: object) -> int:
    if not isinstance(value, _Number) or not re.fullmatch("-?[0-9]+", value.text):
        raise MetadataError("invalid json: a number is expected")
    number = int(value.text)
    if number not in _INT64:
        raise MetadataError("invalid json: a number is out of range")
    return number


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise MetadataError("invalid json: a text is expected")
    return value
