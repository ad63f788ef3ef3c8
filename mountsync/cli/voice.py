"""The one voice of failures."""

from __future__ import annotations

import sys

from mountsync.errors import printable


def say(line: str) -> None:
    """One line on standard error, under our name."""
    print(f"mountsync: {printable(line)}", file=sys.stderr, flush=True)  # noqa: T201 - the CLI's voice
