"""Problems that storages and plans tell of, as the errors that they are."""

from __future__ import annotations

from mountsync import errors
from mountsync.errors import Busy, MountsyncError, PathError, printable
from mountsync.model.entry import Problem
from mountsync.paths import RelPath


def as_error(path: RelPath, problem: Problem) -> MountsyncError:
    """The error of a path that could not be read or decided about; one that may pass is Busy at least."""
    kind = getattr(errors, problem.error, PathError)
    if problem.transient and not kind.transient:
        kind = Busy
    found: MountsyncError = kind(problem.reason, path=path)
    return found


def reason_in(text: str, path: RelPath) -> str:
    """What the text of an error says of `path`, without the path itself: whoever shows it names that."""
    return text.removeprefix(f"{printable(path)}: ")
