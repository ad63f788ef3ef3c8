"""Names as rclone's remote control gives and takes them.

rclone shows control characters as their pictures (U+2401 for 0x01, U+2421 for 0x7f) on every remote, and
quotes a picture that is really in a name with U+201B. Its quoting is not reversible in all cases, so names
with a picture or the quote are refused, both ways, rather than guessed at. Source: rclone's documentation
of file name encodings, and runs of rclone 1.75.2.
"""

from __future__ import annotations

from typing import Final

_TO_PICTURES: Final = {code: 0x2400 + code for code in range(1, 0x20)} | {0x7F: 0x2421}
_FROM_PICTURES: Final = {picture: code for code, picture in _TO_PICTURES.items()}
_QUOTE: Final = "\u201b"
_REPLACED: Final = "\ufffd"

FORBIDDEN: Final = frozenset({_QUOTE, _REPLACED, "\u2400", *map(chr, _FROM_PICTURES)})
"""Characters that no name may hold: the pictures, rclone's quote, and what it puts for bad UTF-8."""

DOTS: Final = frozenset({"\uff0e", "\uff0e\uff0e"})
"""Whole names that rclone would take for `.` and `..`."""


def to_rclone(path: str) -> str:
    """A path of ours as rclone wants it."""
    return path.translate(_TO_PICTURES)


def from_rclone(path: str) -> str | None:
    """A path that rclone gave as ours; None when it cannot be told what it really is."""
    if _QUOTE in path or _REPLACED in path or "\u2400" in path:
        return None
    return path.translate(_FROM_PICTURES)
