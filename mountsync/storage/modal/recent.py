"""What this process wrote a moment ago: enough to tell apart what Modal's times cannot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mountsync.storage.modal.transport import NativeEntry

_KEEP: Final = 120.0
_SWEEP_AT: Final = 2000


@dataclass(frozen=True, slots=True)
class _Written:
    size: int
    mtime: int
    fingerprint: str
    variant: str
    at: float


class Recent:
    """Our latest writes by path. Those without a variant are forgotten after two minutes."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._written: dict[str, _Written] = {}
        self._sweep_at = _SWEEP_AT

    def note(self, path: str, native: NativeEntry, fingerprint: str, before: NativeEntry | None) -> str:
        """Remembers a write that came out as `native`; returns its variant.

        `before` is what was seen there just before. The variant is empty unless another content was
        there with the same size in the same second.
        """
        last = self._written.get(path)
        if last is not None and (last.size, last.mtime) == (native.size, native.mtime):
            variant = last.variant if last.fingerprint == fingerprint else fingerprint
        elif before is not None and (before.size, before.mtime) == (native.size, native.mtime):
            variant = fingerprint
        else:
            variant = ""
        self._written[path] = _Written(native.size, native.mtime, fingerprint, variant, self._now())
        self._sweep()
        return variant

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
            path: write for path, write in self._written.items() if write.variant or write.at > horizon
        }
        self._sweep_at = max(_SWEEP_AT, 2 * len(self._written))
