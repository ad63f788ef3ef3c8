"""What this process wrote a moment ago: enough to tell apart what Modal's times cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from mountsync.storage.modal.transport import NativeEntry

_KEEP: Final = 120.0
_SWEEP_AT: Final = 2000
_CLOCKS_AGREE: Final = (-2.0, 1.0)
"""Modal's time of a write of ours less our own time just after it, where both clocks are right."""
_UNKNOWN: Final = ""
"""The fingerprint of a content that we have not seen."""


@dataclass(slots=True)
class _Second:
    """Our writes at one path in the last second in which there were any."""

    mtime: int
    size: int = 0
    """Of the latest one."""
    variant: str = ""
    at: float = 0.0
    owners: dict[int, str] = field(default_factory=dict)
    """By size, the fingerprint of the content whose token has no variant."""


class Recent:
    """Our latest writes by path. Those without a variant are forgotten after two minutes."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began = now()
        self._written: dict[str, _Second] = {}
        self._sweep_at = _SWEEP_AT

    def note(self, path: str, native: NativeEntry, fingerprint: str, before: NativeEntry | None) -> str:
        """Remembers a write that came out as `native`; returns its variant.

        `before` is what was seen there just before. The variant is empty unless another content may
        have been there with the same size in the same second: one of ours, the one that was seen, or
        one of an earlier process when that second began before this one.
        """
        second = self._written.get(path)
        if second is None or second.mtime != native.mtime:
            second = self._written[path] = _Second(native.mtime)
        seen = before is not None and (before.size, before.mtime) == (native.size, native.mtime)
        doubtful = seen or self._may_have_begun_before_us(native.mtime)
        owner = second.owners.setdefault(native.size, _UNKNOWN if doubtful else fingerprint)
        second.size, second.at = native.size, self._now()
        second.variant = "" if owner == fingerprint else fingerprint
        self._sweep()
        return second.variant

    def _may_have_begun_before_us(self, second: int) -> bool:
        """Whether an earlier process can have written in this second of Modal's, in which we just did."""
        now = self._now()
        least, most = _CLOCKS_AGREE
        if least < second - now < most:
            return second <= self._began
        return now < self._began + 2

    def variant_of(self, native: NativeEntry) -> str | None:
        """The variant of what is at its path when that is our own write; None when it is not."""
        last = self._written.get(native.path)
        if last is None or (last.size, last.mtime) != (native.size, native.mtime):
            return None
        return last.variant

    def _sweep(self) -> None:
        if len(self._written) < self._sweep_at:
            return
        horizon = self._now() - _KEEP
        self._written = {
            path: second for path, second in self._written.items() if second.variant or second.at > horizon
        }
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._written))
