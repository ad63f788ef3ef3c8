"""The command `mountsync`, also as `python -m mountsync`. Imports nothing before it must."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import NoReturn


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    if "_MOUNTSYNC_COMPLETE" in os.environ:
        from mountsync.cli.completion import answer  # noqa: PLC0415 - only when a shell asks

        sys.stdout.write(answer(os.environ.get("COMP_LINE", "")))
        return
    from mountsync.cli.main import run  # noqa: PLC0415 - late: an entry point must import quickly

    _leave(run(sys.argv[1:]))


def _leave(code: int) -> NoReturn:
    """Ends the process. All is closed by now: taking the interpreter apart would last a tenth of a second."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):  # read by nobody, or closed
            stream.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
