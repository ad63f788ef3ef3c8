"""Which new names a side takes: its refusals, and names that it cannot tell apart."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from mountsync.paths import RelPath, ancestors
from mountsync.reconcile.settings import SideRules


def fold(path: str, rules: SideRules) -> str:
    """The form under which the side would find `path`; equal forms are one name there."""
    if rules.unicode_normalizing or not rules.case_sensitive:
        path = unicodedata.normalize("NFC", path)
    return path if rules.case_sensitive else unicodedata.normalize("NFC", path.casefold())


class Names:
    """The names of one side. Asking for a new one claims it, so that a later equal one is refused."""

    def __init__(self, rules: SideRules, held: Iterable[RelPath]) -> None:
        self._rules = rules
        self._held = held
        self._folding = rules.unicode_normalizing or not rules.case_sensitive
        self._owner: dict[str, RelPath] | None = None
        self._answers: dict[RelPath, str | None] = {}

    def refusal(self, path: RelPath) -> str | None:
        """Why the side cannot hold `path` (or a directory above it), None when it can."""
        answer = None
        for part in (*reversed(ancestors(path)), path):
            if part not in self._answers:
                self._answers[part] = answer or self._refusal(part)
            answer = self._answers[part]
        return answer

    def _refusal(self, path: RelPath) -> str | None:
        reason = self._rules.refusal(path)
        if reason is not None or not self._folding:
            return reason
        owner = self._owners().setdefault(fold(path, self._rules), path)
        return None if owner == path else f"the name cannot be told from {owner!r} there"

    def _owners(self) -> dict[str, RelPath]:
        if self._owner is None:
            self._owner = {}
            for path in self._held:
                self._owner.setdefault(fold(path, self._rules), path)
        return self._owner
