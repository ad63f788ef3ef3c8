"""What one side holds, by path."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mountsync.model.entry import Entry, Problem
from mountsync.paths import ROOT, RelPath, ancestors

Listing = Mapping[RelPath, Entry]
"""Path to Entry, of one side at one time. The root itself is not in it."""


@dataclass(frozen=True, slots=True)
class Scan:
    """A listing and the paths that could not be listed; a problem covers all that is below its path."""

    entries: Listing
    problems: Mapping[RelPath, Problem] = field(default_factory=dict)

    def is_known(self, path: RelPath) -> bool:
        """Whether absence of `path` from the entries means that it does not exist."""
        if not self.problems:
            return True
        return not any(place in self.problems for place in (path, *ancestors(path), ROOT))
