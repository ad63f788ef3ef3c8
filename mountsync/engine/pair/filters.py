"""Patterns in the syntax of gitignore: what they match does not exist for a sync, on either side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mountsync.errors import UsageError
from mountsync.model.plan import ConflictPolicy
from mountsync.paths import OURS, RelPath, ancestors, parent_of
from mountsync.reconcile.settings import Policy

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_CACHE: Final = 100_000


def compiled(patterns: Sequence[str]) -> GitIgnoreSpec:
    """The patterns, compiled. Raises UsageError for one that is none."""
    import pathspec  # noqa: PLC0415 - slow to load, and many have no patterns

    try:
        return pathspec.GitIgnoreSpec.from_lines(patterns)
    except ValueError as error:
        raise UsageError(f"a filter cannot be read: {error}", hint="write gitignore patterns") from error


class Filter:
    """Tells what is invisible. As in git, nothing below an excluded directory comes back.

    A folder of ours (`.mountsync`) is hidden wherever it is: it belongs to another sync or mount.
    """

    def __init__(self, patterns: Sequence[str] = (), only: RelPath | None = None) -> None:
        """With `only` nothing but that file or link is visible, and it by `patterns` too."""
        self._only = only
        self._spec = compiled(patterns) if any(line.strip() for line in patterns) else None
        self._folders: dict[RelPath, bool] = {}

    def hides(self, path: RelPath, *, is_directory: bool) -> bool:
        """Whether `path` is invisible, by its own name or by a directory above it."""
        if OURS in path and OURS in path.split("/"):
            return True
        if self._only is not None and (is_directory or path != self._only):
            return True
        if self._spec is None:
            return False
        above = parent_of(path)
        if above and self._hides_folder(above):
            return True
        if is_directory:
            return self._hides_folder(path)
        return bool(self._spec.match_file(path))

    def hides_any(self, path: RelPath) -> bool:
        """Whether `path` is invisible whatever is there."""
        return self.hides(path, is_directory=False)

    def _hides_folder(self, path: RelPath) -> bool:
        known = self._folders.get(path)
        if known is None:
            if len(self._folders) > _CACHE:
                self._folders.clear()
            known = self._folders[path] = self._matches_folder(path)
        return known

    def _matches_folder(self, path: RelPath) -> bool:
        assert self._spec is not None
        return any(self._spec.match_file(at + "/") for at in (path, *ancestors(path)))


def policy_of(default: ConflictPolicy, patterns: Sequence[tuple[str, ConflictPolicy]]) -> Policy:
    """The policy of each path: that of the last pattern that matches it, else the default."""
    if not patterns:
        return lambda _path: default
    specs = [(compiled([pattern]), policy) for pattern, policy in reversed(patterns)]

    def policy(path: RelPath) -> ConflictPolicy:
        return next((policy for spec, policy in specs if spec.match_file(path)), default)

    return policy
