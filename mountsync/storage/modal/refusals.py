"""What Modal's refusals mean: gRPC status first, text second. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from mountsync.errors import (
    AccessRefused,
    AlreadyExists,
    DirectoryNotEmpty,
    IsADirectory,
    MountsyncError,
    NameRefused,
    NotADirectory,
    NotFound,
    PathError,
    PermissionDenied,
    Throttled,
    Unreachable,
    Unsupported,
)


class UnclearAbsence(NotFound):
    """Something is not there: the path, or the whole volume. Whoever sees it must ask."""


class MaybeOurs(AlreadyExists):
    """Something is there, and it may be what an earlier attempt of this very call has made."""


class TooManyFiles(PathError):
    """Modal refuses to list so much at once."""


class TryAgain(Unreachable):
    """A step that changes something did not come through; another attempt may.

    Only who asked for it can see whether it is still wanted, so nothing below repeats it. `error` is what
    to raise when there is to be no other attempt; `doubtful`: the step may have taken effect.
    """

    def __init__(self, error: MountsyncError, *, doubtful: bool, retry_after: float | None = None) -> None:
        """`retry_after`: seconds that the server asked for."""
        super().__init__(str(error))
        self.error = error
        self.doubtful = doubtful
        self.retry_after = retry_after


class UrlRefused(Unreachable):
    """A block URL is not accepted (any more); a new one may be."""


RETRIED: Final = frozenset({"DEADLINE_EXCEEDED", "UNAVAILABLE", "CANCELLED", "INTERNAL", "UNKNOWN"})
"""Statuses after which the same call may succeed at once; the outcome of the failed one is unknown."""

LATER: Final = "try again later; status.modal.com tells of disturbances"
_OTHER_NAME: Final = "choose another name"
_BY_TEXT: Final[tuple[tuple[str, type[PathError], str], ...]] = (
    ("too many files", TooManyFiles, "Modal refuses to list so many files at once"),
    ("already exists", AlreadyExists, "something is there already"),
    ("non-directory parent", NotADirectory, "a folder above it is a file there"),
    ("is not a directory", NotADirectory, "is not a directory"),
    ("is a directory", IsADirectory, "is a directory"),
    ("is not empty", DirectoryNotEmpty, "the directory is not empty"),
)
_HINTS: Final[dict[type[PathError], str]] = {
    TooManyFiles: "spread them over several folders, with `modal volume cp` and `modal volume rm`",
    NotADirectory: "choose another path, or move that file away",
}
_TEXT_STATUSES: Final = frozenset({"INVALID_ARGUMENT", "FAILED_PRECONDITION", "ABORTED", "ALREADY_EXISTS"})


def refusal(status: str, message: str, path: str | None) -> MountsyncError:
    """The error for a gRPC `status` (its name) with `message`, about `path`."""
    if status in _TEXT_STATUSES:
        return _by_text(status, message, path)
    maker = _BY_STATUS.get(status)
    if maker is not None:
        return maker(message, path)
    return Unreachable(f"Modal answered {status}: {message}", path=path, hint=LATER)


def _by_text(status: str, message: str, path: str | None) -> MountsyncError:
    lowered = message.lower()
    for text, kind, reason in _BY_TEXT:
        if text in lowered:
            return kind(reason, path=path, hint=_HINTS.get(kind))
    if status == "ALREADY_EXISTS":
        return AlreadyExists("something is there already", path=path)
    if status == "INVALID_ARGUMENT":
        return NameRefused(f"Modal does not accept this: {message}", path=path, hint=_OTHER_NAME)
    if "client version" in lowered:
        return AccessRefused(f"Modal refuses this client: {message}", hint="update the package `modal`")
    return PathError(f"Modal refused: {message}", path=path, hint=LATER)


def _not_found(message: str, path: str | None) -> MountsyncError:
    if message.startswith('path "'):
        return NotFound("nothing is there", path=path)
    return UnclearAbsence(f"not found: {message}", path=path)


_BY_STATUS: Final[dict[str, Callable[[str, str | None], MountsyncError]]] = {
    "NOT_FOUND": _not_found,
    "UNAUTHENTICATED": lambda message, _: AccessRefused(
        f"Modal refuses the credentials: {message}", hint="check the token with `modal token info`"
    ),
    "PERMISSION_DENIED": lambda message, path: PermissionDenied(
        f"Modal forbids it: {message}",
        path=path,
        hint="ask the owner of the workspace for the right, or use another token",
    ),
    "RESOURCE_EXHAUSTED": lambda message, path: Throttled(f"Modal asks to slow down: {message}", path=path),
    "OUT_OF_RANGE": lambda message, path: NameRefused(
        f"Modal does not accept this: {message}", path=path, hint=_OTHER_NAME
    ),
    "UNIMPLEMENTED": lambda message, path: Unsupported(
        f"Modal does not offer this: {message}", path=path, hint="update mountsync"
    ),
    "DATA_LOSS": lambda message, path: PathError(
        f"Modal reports lost data: {message}", path=path, hint="put the file there again, and tell Modal"
    ),
}
