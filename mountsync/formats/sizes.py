"""Sizes, durations and rates as users of rclone write them.

A size without a unit counts KiB; `B K M G T P E` and `Ki`, `KiB`, … are all powers of 1024, in any
case; `off` means no limit. A duration without a unit counts seconds. A rate is a size per second.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from mountsync.errors import UsageError

MAX_SIZE: Final = (1 << 63) - 1
"""The largest size that can be written, in bytes."""

_UNITS: Final = "BKMGTPE"
_SIZE: Final = re.compile(
    r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:([BKMGTPE])|([KMGTPE])IB?)?", re.ASCII | re.IGNORECASE
)
_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]*)?|\.[0-9]+)(ms|s|m|h|d|w)", re.ASCII)
_BARE_NUMBER: Final = re.compile(r"[0-9]+(?:\.[0-9]*)?|\.[0-9]+", re.ASCII)
_SECONDS: Final = {
    "w": Fraction(7 * 86_400),
    "d": Fraction(86_400),
    "h": Fraction(3600),
    "m": Fraction(60),
    "s": Fraction(1),
    "ms": Fraction(1, 1000),
}


def parse_size(text: str) -> int | None:
    """Bytes; None for `off`. Raises UsageError for anything that is not a size."""
    if text.strip().lower() == "off":
        return None
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        raise UsageError(
            f"{text!r} is not a size", hint="write 4M, 1.5G, 100B or off; a bare number counts KiB"
        )
    unit = (found[2] or found[3] or "K").upper()
    size = int(Fraction(found[1]) * 1024 ** _UNITS.index(unit))
    if size > MAX_SIZE:
        raise UsageError(f"{text!r} is too large for a size", hint="the limit is 8E")
    return size


def format_size(size: int | None) -> str:
    """The shortest exact text that `parse_size` reads as this size: `100Mi`, `10B`, `off`."""
    if size is None:
        return "off"
    for power in range(len(_UNITS) - 1, 0, -1):
        if size and size % 1024**power == 0:
            return f"{size // 1024**power}{_UNITS[power]}i"
    return f"{size}B"


def human_size(size: int) -> str:
    """About this size, for a person: `1.5 GiB`, `999 B`."""
    value, power = float(size), 0
    while value >= 1023.95 and power < len(_UNITS) - 1:
        value, power = value / 1024, power + 1
    return f"{value:.1f} {_UNITS[power]}iB" if power else f"{size} B"


def parse_duration(text: str) -> float:
    """Seconds of `5s`, `1m30s`, `250ms`, `2d`, or a bare number. Raises UsageError otherwise."""
    stripped = text.strip()
    if _BARE_NUMBER.fullmatch(stripped):
        return float(stripped)
    parts = _DURATION_PART.findall(stripped)
    if not parts or "".join(number + unit for number, unit in parts) != stripped:
        raise UsageError(f"{text!r} is not a duration", hint="write 5s, 1m30s, 2h or a number of seconds")
    return float(sum((Fraction(number) * _SECONDS[unit] for number, unit in parts), Fraction(0)))


def format_duration(seconds: float) -> str:
    """Text that `parse_duration` reads as this duration, to the millisecond: `1m30s`, `0s`."""
    left = round(seconds * 1000)
    text = ""
    for unit, length in _SECONDS.items():
        count, left = divmod(left, int(length * 1000))
        text += f"{count}{unit}" if count else ""
    return text or "0s"


@dataclass(frozen=True, slots=True)
class Bandwidth:
    """Limits in bytes per second; None where there is none."""

    up: int | None = None
    down: int | None = None


def parse_bandwidth(text: str) -> Bandwidth:
    """A limit for both directions, or `UP:DOWN`: `10M`, `1M:off`, `off`. Raises UsageError otherwise."""
    up, colon, down = text.partition(":")
    return Bandwidth(_rate(up, text), _rate(down if colon else up, text))


def _rate(part: str, whole: str) -> int | None:
    try:
        rate = parse_size(part)
    except UsageError as error:
        raise UsageError(
            f"{whole!r} is not a bandwidth limit",
            hint="write 10M, 1M:off (up:down) or off; bare numbers count KiB/s",
        ) from error
    return rate or None
