"""Every error of mountsync, classified where it is born.

MountsyncError
├── UsageError               bad arguments
│   └── ConfigError          bad configuration file or option
├── PathError                about one path; the rest can go on
│   ├── NotFound
│   ├── AlreadyExists
│   ├── IsADirectory
│   ├── NotADirectory
│   ├── DirectoryNotEmpty
│   ├── NameRefused          the name cannot be held there
│   ├── NameTooLong
│   ├── PermissionDenied
│   ├── ReadOnly
│   ├── Unsupported          the operation does not exist there
│   ├── NoAttribute          no such extended attribute
│   ├── TooLarge
│   ├── NoSpace
│   ├── QuotaExceeded
│   ├── Stale                the object is not the one that was expected
│   ├── Corrupt              the bytes cannot be what was written
│   └── Busy                 held by someone; trying again may help
├── Unreachable              the storage does not answer; transient
│   └── Throttled            it asks us to slow down; transient
├── AccessRefused            credentials are missing or refused
├── StateError               the local state cannot be used
│   ├── StateLocked
│   ├── StateDamaged
│   └── StateVersion
├── MountError               the mount point cannot be used
└── Halted                   a safety stop; a person must confirm

`errno_of`, `exit_code_of` and `describe` are the only tables that give errors a number or a wire form.
"""

from __future__ import annotations

import errno
from typing import ClassVar


class MountsyncError(Exception):
    """A failure with a sentence for the user: the thing, the reason, the next step.

    `transient` tells whether the same call may work later without anybody's hand.
    """

    transient: ClassVar[bool] = False

    def __init__(self, reason: str, *, path: str | None = None, hint: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.path = path
        self.hint = hint

    def __str__(self) -> str:
        text = f"{printable(self.path)}: {self.reason}" if self.path is not None else self.reason
        return f"{text}; {self.hint}" if self.hint else text


class UsageError(MountsyncError):
    """The caller asked for something that makes no sense."""


class ConfigError(UsageError):
    """A configuration file or a backend option is wrong."""


class PathError(MountsyncError):
    """One path failed; the work on others can go on."""


class NotFound(PathError):
    """Nothing is there. Raised only when the storage said so, never for "could not look"."""


class AlreadyExists(PathError):
    """Something is there where nothing was expected."""


class IsADirectory(PathError):
    """A file was expected and a directory is there."""


class NotADirectory(PathError):
    """A directory was expected and something else is there."""


class DirectoryNotEmpty(PathError):
    """A directory cannot go while it has entries."""


class NameRefused(PathError):
    """The storage cannot hold this name."""


class NameTooLong(PathError):
    """The storage cannot hold a name of this length."""


class PermissionDenied(PathError):
    """The storage refuses this operation on this path."""


class ReadOnly(PathError):
    """Nothing can be changed there."""


class Unsupported(PathError):
    """The storage has no such operation."""


class NoAttribute(PathError):
    """The file has no extended attribute of that name."""


class TooLarge(PathError):
    """The content is larger than the storage can hold."""


class NoSpace(PathError):
    """The disk or the remote is full."""

    transient = True


class QuotaExceeded(PathError):
    """The account's quota is used up."""

    transient = True


class Stale(PathError):
    """The object is not, or no longer, the one that was expected."""


class Corrupt(PathError):
    """The content is damaged: a short body, a missing chunk, a wrong digest."""


class Busy(PathError):
    """Something else holds the path now; trying again may help."""

    transient = True


class Unreachable(MountsyncError):
    """The storage does not answer. Offline is a state, not a failure of the path."""

    transient = True


class Throttled(Unreachable):
    """The storage asks us to wait; `retry_after` is in seconds, None when it did not say."""

    def __init__(self, reason: str, *, retry_after: float | None = None, path: str | None = None) -> None:
        super().__init__(reason, path=path)
        self.retry_after = retry_after


class AccessRefused(MountsyncError):
    """Credentials are missing, wrong or lack a right."""


class StateError(MountsyncError):
    """The local state folder cannot be used; nothing in it was changed."""


class StateLocked(StateError):
    """Another process uses the state; `pid` is its process id, None when unknown."""

    def __init__(self, reason: str, *, pid: int | None, hint: str | None = None) -> None:
        super().__init__(reason, hint=hint)
        self.pid = pid


class StateDamaged(StateError):
    """The state database is damaged."""


class StateVersion(StateError):
    """The state was written by another version."""


class MountError(MountsyncError):
    """The mount point cannot be used."""


class Halted(MountsyncError):
    """A safety stop: nothing is changed until a person confirms."""


_ERRNO: tuple[tuple[type[BaseException], int], ...] = (
    (NotFound, errno.ENOENT),
    (AlreadyExists, errno.EEXIST),
    (IsADirectory, errno.EISDIR),
    (NotADirectory, errno.ENOTDIR),
    (DirectoryNotEmpty, errno.ENOTEMPTY),
    (NameTooLong, errno.ENAMETOOLONG),
    (NameRefused, errno.EINVAL),
    (PermissionDenied, errno.EACCES),
    (ReadOnly, errno.EROFS),
    (Unsupported, errno.ENOTSUP),
    (NoAttribute, errno.ENODATA),
    (TooLarge, errno.EFBIG),
    (NoSpace, errno.ENOSPC),
    (QuotaExceeded, errno.EDQUOT),
    (Stale, errno.ESTALE),
    (Busy, errno.EBUSY),
    (Corrupt, errno.EIO),
    (Unreachable, errno.ENETUNREACH),
    (AccessRefused, errno.EACCES),
    (UsageError, errno.EINVAL),
)

_EXIT_CODE: tuple[tuple[type[BaseException], int], ...] = (
    (UsageError, 2),
    (Halted, 5),
    (PathError, 3),
    (MountsyncError, 4),
)


def errno_of(error: BaseException) -> int:
    """The errno that a program sees; EIO for whatever is not in the table."""
    if isinstance(error, OSError) and error.errno:
        return error.errno
    return next((number for kind, number in _ERRNO if isinstance(error, kind)), errno.EIO)


def exit_code_of(error: BaseException) -> int:
    """The process exit code: 2 usage, 3 paths failed, 4 fatal, 5 halted."""
    return next((code for kind, code in _EXIT_CODE if isinstance(error, kind)), 4)


def describe(error: BaseException) -> dict[str, str]:
    """The form of an error on the control socket and in `--json`: class, message, and path if any."""
    form = {"class": type(error).__name__, "message": str(error)}
    path = getattr(error, "path", None)
    return form | {"path": printable(path)} if isinstance(path, str) else form


_FROM_ERRNO: dict[int, type[MountsyncError]] = {
    errno.ENOENT: NotFound,
    errno.EEXIST: AlreadyExists,
    errno.EISDIR: IsADirectory,
    errno.ENOTDIR: NotADirectory,
    errno.ENOTEMPTY: DirectoryNotEmpty,
    errno.ENAMETOOLONG: NameTooLong,
    errno.EINVAL: NameRefused,
    errno.EILSEQ: NameRefused,
    errno.EACCES: PermissionDenied,
    errno.EPERM: PermissionDenied,
    errno.EROFS: ReadOnly,
    errno.ENOTSUP: Unsupported,
    errno.EFBIG: TooLarge,
    errno.EXDEV: Unsupported,
    errno.ENOSPC: NoSpace,
    errno.EDQUOT: QuotaExceeded,
    errno.ESTALE: Stale,
    errno.EBUSY: Busy,
    errno.ETXTBSY: Busy,
    errno.EMFILE: Busy,
    errno.ENFILE: Busy,
    errno.ENETUNREACH: Unreachable,
    errno.EHOSTUNREACH: Unreachable,
    errno.ENOTCONN: Unreachable,
    errno.ETIMEDOUT: Unreachable,
    errno.ECONNREFUSED: Unreachable,
    errno.ECONNRESET: Unreachable,
}


def from_os_error(error: OSError, path: str | None = None) -> MountsyncError:
    """The class that stands for an operating system error on `path`."""
    kind = _FROM_ERRNO.get(error.errno or 0, PathError)
    return kind((error.strerror or str(error)).lower(), path=path)


def alone_in(error: BaseException) -> BaseException:
    """The error in a group, of groups: the first of ours, else the first; what is no group, itself."""
    leaves: list[BaseException] = []
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseExceptionGroup):
            waiting += one.exceptions
        else:
            leaves.append(one)
    return next((one for one in leaves if isinstance(one, MountsyncError)), leaves[0])


def printable(text: str | None) -> str:
    """Text that is safe on a terminal: control characters and undecodable bytes are escaped."""
    if text is None:
        return ""
    safe = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in safe)
