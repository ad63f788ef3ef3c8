"""Keys of a bucket and paths below a prefix of it. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mountsync.paths import MAX_NAME_BYTES, RelPath
from mountsync.storage.api import NameRules

_MAX_KEY_BYTES: Final = 1024


@dataclass(frozen=True, slots=True)
class Keys:
    """`prefix` has no slashes at its ends."""

    prefix: str

    @property
    def rules(self) -> NameRules:
        """The names that a key can hold. S3 counts the whole key."""
        used = len(self.below(RelPath("")).encode())
        return NameRules(max_path_bytes=_MAX_KEY_BYTES - used, utf8_only=True)

    def key(self, path: RelPath) -> str:
        """Where the object of `path` is."""
        return f"{self.prefix}/{path}" if self.prefix else path

    def below(self, path: RelPath) -> str:
        """What all keys below the directory `path` begin with."""
        key = self.key(path).rstrip("/")
        return f"{key}/" if key else ""

    def path(self, key: str) -> RelPath | None:
        """The path of a key; None for a marker of a directory and for what no file system can hold."""
        text = key[len(self.below(RelPath(""))) :]
        return RelPath(text) if all(map(_is_name, text.split("/"))) else None


def _is_name(part: str) -> bool:
    return part not in ("", ".", "..") and "\0" not in part and len(part.encode()) <= MAX_NAME_BYTES
