"""The options of a chunker, checked together and against the storage below it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from mountsync.errors import ConfigError
from mountsync.formats.chunk_names import DEFAULT_NAME_FORMAT, MAX_CHUNKS, NameFormat, name_format
from mountsync.formats.sizes import MAX_SIZE
from mountsync.storage.api import Storage, SupportsCopy, SupportsMove
from mountsync.storage.options import Option, OptionKind

HASH_TYPES: Final = ("none", "md5", "sha1", "md5all", "sha1all", "md5quick", "sha1quick")
DEFAULT_CHUNK_SIZE: Final = 2 << 30

OPTIONS: tuple[Option, ...] = (
    Option("remote", required=True, help="the remote that holds the chunks, for example work:photos"),
    Option(
        "chunk_size",
        OptionKind.SIZE,
        default=DEFAULT_CHUNK_SIZE,
        minimum=1,
        help="files larger than this are split; a bare number counts KiB",
    ),
    Option(
        "hash_type",
        OptionKind.CHOICE,
        default="md5",
        choices=HASH_TYPES,
        help="the hash kept for files in chunks; `all` keeps one for small files too",
    ),
    Option("name_format", default=DEFAULT_NAME_FORMAT, help="names of chunks: * is the file, # the number"),
    Option("start_from", OptionKind.INT, default=1, minimum=0, help="the number of the first chunk"),
    Option(
        "meta_format",
        OptionKind.CHOICE,
        default="simplejson",
        choices=("simplejson", "none"),
        help="the form of the metadata object; `none` keeps no hashes and cannot see a missing last chunk",
    ),
    Option("fail_hard", OptionKind.BOOL, default=False, help="a listing reports damaged files as failed"),
    Option("fail_on_bad_chunks", OptionKind.BOOL, help="the former name of fail_hard"),
    Option(
        "transactions",
        OptionKind.CHOICE,
        default="rename",
        choices=("rename", "norename", "auto"),
        help="whether chunks are renamed when an upload is complete",
    ),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """What the options mean together."""

    chunk_size: int = DEFAULT_CHUNK_SIZE
    """Bytes."""
    hash_type: str = "md5"
    names: NameFormat = field(default_factory=name_format)
    metadata: bool = True
    fail_hard: bool = False
    norename: bool = False

    @property
    def hash_name(self) -> str | None:
        """`md5` or `sha1`: what the metadata of a file in chunks holds."""
        return None if self.hash_type == "none" else self.hash_type.removesuffix("all").removesuffix("quick")

    @property
    def hashes_all(self) -> bool:
        """Whether small files need metadata where the base does not know the hash by itself."""
        return self.hash_type.endswith("all")

    def identity(self, base: str) -> str:
        """Names the files that these settings show on a base with this identity."""
        return f"chunker:{self.names.text}:{self.names.start_from}:{self.metadata}:{base}"

    @property
    def max_size(self) -> int:
        """The largest file in bytes."""
        return min(MAX_SIZE, self.chunk_size * MAX_CHUNKS)


def settings_of(options: Mapping[str, object], base: Storage) -> Settings:
    """The settings that these options make over `base`. Raises ConfigError for what cannot be."""
    _refuse_base(base)
    metadata = options.get("meta_format", "simplejson") == "simplejson"
    hash_type = str(options.get("hash_type", "md5"))
    norename = _norename(str(options.get("transactions", "rename")), base)
    if not metadata and hash_type != "none":
        raise ConfigError(
            f"chunker: hash_type {hash_type} needs metadata, and meta_format is none",
            hint="set hash_type to none, or meta_format to simplejson",
        )
    if not metadata and norename:
        raise ConfigError(
            "chunker: transactions without rename need metadata, and meta_format is none",
            hint="set transactions to rename, or meta_format to simplejson",
        )
    start_from = options.get("start_from", 1)
    assert isinstance(start_from, int)
    return Settings(
        chunk_size=_chunk_size(options.get("chunk_size", DEFAULT_CHUNK_SIZE)),
        hash_type=hash_type,
        names=name_format(str(options.get("name_format") or ""), start_from),
        metadata=metadata,
        fail_hard=bool(options.get("fail_hard") or options.get("fail_on_bad_chunks")),
        norename=norename,
    )


def _refuse_base(base: Storage) -> None:
    if base.info.type == "chunker":
        raise ConfigError(
            "chunker: its remote is a chunker too, and the names of the chunks of both would be the same",
            hint="point it at the storage below the other chunker, with a chunk_size that suits both",
        )
    if not isinstance(base, SupportsMove | SupportsCopy):
        raise ConfigError(
            f"chunker: a storage of type {base.info.type} can neither move nor copy objects",
            hint="use a remote that can, chunks are renamed when an upload is complete",
        )


def _chunk_size(value: object) -> int:
    if not isinstance(value, int) or value < 1:
        raise ConfigError("chunker: chunk_size must be at least one byte", hint="100M is a usual size")
    return value


def _norename(transactions: str, base: Storage) -> bool:
    return transactions == "norename" or (transactions == "auto" and not isinstance(base, SupportsMove))
