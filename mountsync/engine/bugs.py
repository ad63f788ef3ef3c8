"""Errors that should not exist: they are logged and shown, and end nothing but what they were about."""

from __future__ import annotations

import structlog

_log = structlog.get_logger(__name__)


def note_bug(error: Exception) -> str:
    """Logs an error that is not one of ours; gives a sentence about it for people."""
    _log.error("internal error", exc_info=error)
    leaf: BaseException = error
    while isinstance(leaf, BaseExceptionGroup):
        leaf = leaf.exceptions[0]
    return f"internal error: {type(leaf).__name__}: {leaf}"
