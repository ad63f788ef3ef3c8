"""How much programs ask of the folder at the moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Traffic:
    """Counted by whoever takes requests from the kernel, read by whoever works in the background."""

    requests: int = 0
    """Requests since the start."""
