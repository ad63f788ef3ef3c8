"""Times in an object's metadata: the key `mtime`, seconds since 1970 as decimal text. Pure.

The form is rclone's: up to nine decimals, no zeros at the end, a minus before 1970.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import Final

from mountsync.model.entry import sayable

KEY: Final = "mtime"
_FORM: Final = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,18}))?")
_SECOND: Final = 1_000_000_000


def to_text(mtime_ns: int) -> str:
    """Nanoseconds since 1970 as metadata."""
    seconds, rest = divmod(abs(mtime_ns), _SECOND)
    decimals = f".{rest:09}".rstrip("0").rstrip(".")
    return f"{'-' if mtime_ns < 0 else ''}{seconds}{decimals}"


def from_text(text: str | None) -> int | None:
    """Nanoseconds since 1970; None when it is no such text."""
    found = _FORM.fullmatch(text or "")
    if found is None:
        return None
    sign, seconds, decimals = found.groups()
    value = int(seconds) * _SECOND + int((decimals or "0")[:9].ljust(9, "0"))
    return sayable(-value if sign else value)


def whole_seconds(when: datetime) -> int:
    """The time of an upload in nanoseconds; a header and a listing agree only to the second."""
    return int(when.timestamp()) * _SECOND
