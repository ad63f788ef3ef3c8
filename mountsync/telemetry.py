"""Logging: readable lines on a terminal, JSON on request, never a secret.

Import it late: commands that log nothing should not pay for structlog.
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TextIO

import structlog

from mountsync.errors import MountsyncError, exit_code_of, from_os_error, printable

_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_SECRET_KEY: Final = re.compile(
    r"secret|password|passwd|token_id|credential|authorization|api_?key", re.IGNORECASE
)
_SECRET_TEXT: Final = re.compile(
    r"""(?xi)
      (?P<lead> \b (?: secret | password | passwd | authorization | api_?key | [a-z_]*secret[a-z_]* )
        ["']? \s* [=:] \s* (?: bearer \s+ )? ["']? ) (?P<value> [^\s"',;&]+ )
    | \b (?P<modal> (?: ak | as ) - [A-Za-z0-9]{12,} )
    | (?P<scheme> [a-z][a-z0-9+.-]* :// [^/\s:@]* : ) (?P<userinfo> [^/\s@]+ ) (?= @ )
    """
)
STARS: Final = "***"


def configure(*, level: str = "info", form: str = "auto", file: Path | None = None) -> TextIO:
    """Sets up logging for this process; `form` is `auto`, `human` or `json`.

    `auto` means human lines on a terminal and in files, with colours only on a terminal. What libraries
    log, warnings and worse, and our rooms that use `logging`, leave in the same form. Raises the
    path's error when `file` cannot be opened; it is made with mode 0600 and appended to. Returns the
    stream, for whoever wants to close it after the last line.
    """
    stream = _open(file) if file is not None else sys.stderr
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=form == "json"),
            structlog.processors.format_exc_info,
            _without_secrets,
            _renderer(form, stream),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    _bridge(_LEVELS[level])
    return stream


def log_failure(error: MountsyncError) -> None:
    """The last line of a process that cannot go on."""
    structlog.get_logger(__name__).error(
        "ended by a failure",
        reason=error.reason,
        error=type(error).__name__,
        path=error.path,
        next_step=error.hint,
        exit_code=exit_code_of(error),
    )


def utc(seconds: float) -> str:
    """A moment, in seconds since 1970, as lines of the log say it: ISO 8601, UTC."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


class _Bridge(logging.Handler):
    """Lines of the standard library's `logging`, on their way into the one log."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = max(number for number in (10, 20, 30, 40, 50, 0) if number <= record.levelno)
            line = structlog.get_logger(record.name)
            line.log(level or 10, record.getMessage(), exc_info=record.exc_info or None)
        except Exception:  # noqa: BLE001 - as every handler of `logging`: whoever logs must not fail
            self.handleError(record)


def _bridge(level: int) -> None:
    root = logging.getLogger()
    root.handlers = [*(each for each in root.handlers if not isinstance(each, _Bridge)), _Bridge()]
    logging.getLogger("mountsync").setLevel(level)


def without_secrets(text: str) -> str:
    """The text with whatever looks like a credential replaced by stars."""

    def hide(found: re.Match[str]) -> str:
        return (found["lead"] or found["scheme"] or "") + STARS

    return _SECRET_TEXT.sub(hide, text)


def _open(file: Path) -> TextIO:
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600, exist_ok=True)
        return file.open("a", encoding="utf-8", errors="backslashreplace", buffering=1)
    except OSError as error:
        raise from_os_error(error, str(file)) from error


def _without_secrets(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key, value in event.items():
        if _SECRET_KEY.search(key):
            event[key] = STARS
        elif isinstance(value, str):
            cleaned = without_secrets(value)
            event[key] = cleaned if key == "exception" else printable(cleaned)
    return event


def _renderer(form: str, stream: TextIO) -> structlog.typing.Processor:
    if form == "json":
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=0)
