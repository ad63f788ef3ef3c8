"""Names that stay on this machine: temporary and lock files of well-known programs.

A path is local-only when any part of it matches one of the patterns (shell wildcards, case kept). Such
files live in the mount like any other but never travel; a save that writes a temporary file and renames
it over the document travels as one new version of the document.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from mountsync.paths import RelPath, parts_of

DEFAULT_PATTERNS: Final = (
    ".~lock.*#",  # LibreOffice
    "~$*",  # Microsoft Office
    ".*.sw[a-p]",  # vim
    ".*.swpx",
    "4913",  # vim asks whether it may create files
    ".goutputstream-*",  # GLib
    ".fuse_hidden*",
    ".nfs[0-9a-f]*",
    ".Trash-*",  # freedesktop trash at the top of a volume
    ".#*",  # Emacs locks
    "#*#",  # Emacs auto-save
    ".~tmp~",  # rsync --delay-updates
    ".*.kate-swp",
    "*.kate-swp",
    ".directory.lock",
    "lost+found",
)


@dataclass(frozen=True, slots=True)
class LocalNames:
    """Decides which paths are local-only."""

    patterns: tuple[str, ...] = DEFAULT_PATTERNS
    _match: re.Pattern[str] | None = field(init=False, repr=False, compare=False, default=None)

    def __post_init__(self) -> None:
        if self.patterns:
            text = "|".join(fnmatch.translate(pattern) for pattern in self.patterns)
            object.__setattr__(self, "_match", re.compile(text, re.DOTALL))

    def holds_name(self, name: str) -> bool:
        """Whether a single name is local-only."""
        return self._match is not None and self._match.match(name) is not None

    def holds(self, path: RelPath) -> bool:
        """Whether a path, by any of its parts, is local-only."""
        return self._match is not None and any(self._match.match(part) for part in parts_of(path))

    @classmethod
    def extended(cls, more: Iterable[str]) -> LocalNames:
        """The usual patterns and more."""
        return cls((*DEFAULT_PATTERNS, *more))
