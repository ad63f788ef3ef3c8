"""Which errno a program sees for an exception. No handler ever lets another exception out."""

from __future__ import annotations

import errno
import logging

import pyfuse3

from mountsync.errors import MountsyncError, errno_of
from mountsync.vfs.absent import ChildrenAbsent, ContentAbsent

_log = logging.getLogger(__name__)


def failure(error: Exception) -> pyfuse3.FUSEError:
    """The answer to the kernel. What is not an expected failure is logged, with its trace, and is EIO."""
    if isinstance(error, pyfuse3.FUSEError):
        return error
    if isinstance(error, (MountsyncError, OSError)):
        return pyfuse3.FUSEError(errno_of(error))
    if isinstance(error, (ContentAbsent, ChildrenAbsent)):
        _log.error("fetching brings nothing: %r", error)
        return pyfuse3.FUSEError(errno.EIO)
    _log.error("a request of the kernel failed", exc_info=error)
    return pyfuse3.FUSEError(errno.EIO)
