"""What rclone's error texts mean. Pure.

The remote control gives a status and a sentence. 404 comes only when the remote said so. Most else is
500 with the words of the backend; those that the local system or common services use are known here.
What is not known is an Unclear: the caller finds out whether the remote can be reached at all.
"""

from __future__ import annotations

from typing import Final

from mountsync.errors import (
    AccessRefused,
    ConfigError,
    DirectoryNotEmpty,
    IsADirectory,
    MountsyncError,
    NameTooLong,
    NoSpace,
    NotADirectory,
    NotFound,
    PathError,
    PermissionDenied,
    QuotaExceeded,
    ReadOnly,
    Throttled,
    Unreachable,
    Unsupported,
)


class Unclear(PathError):
    """rclone failed with words that say nothing about the reason's kind."""

    transient = True


_MISSING: Final = 404
_BY_WORDS: Final[tuple[tuple[str, type[MountsyncError]], ...]] = (
    ("didn't find section in config file", ConfigError),
    ("failed to load config file", ConfigError),
    ("couldn't decrypt config", ConfigError),
    ("unable to decrypt config", ConfigError),
    ("didn't find backend called", ConfigError),
    ("is a directory not a file", IsADirectory),
    ("is a directory", IsADirectory),
    ("is a file not a directory", NotADirectory),
    ("not a directory", NotADirectory),
    ("directory not empty", DirectoryNotEmpty),
    ("file name too long", NameTooLong),
    ("name too long", NameTooLong),
    ("no space left on device", NoSpace),
    ("quota exceeded", QuotaExceeded),
    ("storagequotaexceeded", QuotaExceeded),
    ("insufficient storage", QuotaExceeded),
    ("read-only file system", ReadOnly),
    ("no such file or directory", NotFound),
    ("permission denied", PermissionDenied),
    ("operation not permitted", PermissionDenied),
    ("can't set -v", Unsupported),
    ("not supported", Unsupported),
    ("too many requests", Throttled),
    ("ratelimitexceeded", Throttled),
    ("invalid_grant", AccessRefused),
    ("couldn't find root directory id", AccessRefused),
    ("unauthorized", AccessRefused),
    ("invalidaccesskeyid", AccessRefused),
    ("signaturedoesnotmatch", AccessRefused),
    ("connection refused", Unreachable),
    ("connection reset", Unreachable),
    ("no such host", Unreachable),
    ("network is unreachable", Unreachable),
    ("no route to host", Unreachable),
    ("i/o timeout", Unreachable),
    ("context deadline exceeded", Unreachable),
    ("tls handshake", Unreachable),
    ("unexpected eof", Unreachable),
)


def refusal(status: int, words: str, path: str | None) -> MountsyncError:
    """The error for an answer that is not a success; `words` are rclone's."""
    if status == _MISSING:
        return NotFound("nothing is there", path=path)
    folded = words.lower()
    kind = next((kind for text, kind in _BY_WORDS if text in folded), Unclear)
    return kind(f"rclone says: {words.strip()[:300]}", path=path)
