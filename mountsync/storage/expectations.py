"""The look just before a step, for storages that know entries by their tokens."""

from __future__ import annotations

from mountsync.errors import AlreadyExists, Stale
from mountsync.model.entry import Entry
from mountsync.paths import RelPath
from mountsync.storage.api import ABSENT, Expect


def refuse_stale(there: Entry | None, expect: Expect, path: RelPath) -> None:
    """Raises Stale unless what is there is what was expected."""
    if expect is ABSENT and there is not None:
        raise Stale("something is there where nothing was expected", path=path)
    if expect is not None and expect is not ABSENT and (there is None or there.token != expect):
        raise Stale("it is not the version that was expected", path=path)


def refuse_target(there: Entry | None, replace: Expect, path: RelPath) -> None:
    """The same for the target of a move or a copy: AlreadyExists where nothing was expected."""
    if there is not None and replace is ABSENT:
        raise AlreadyExists("something is there already", path=path)
    refuse_stale(there, replace, path)
