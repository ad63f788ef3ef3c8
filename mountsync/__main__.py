"""The command `mountsync`, also as `python -m mountsync`. Imports nothing before it must."""

from __future__ import annotations

import os
import sys


def main() -> None:
    """Runs the command line and ends the process with its exit code."""
    if "_MOUNTSYNC_COMPLETE" in os.environ:
        from mountsync.cli.completion import answer  # noqa: PLC0415 - only when a shell asks

        sys.stdout.write(answer(os.environ.get("COMP_LINE", "")))
        return
    from mountsync.cli.main import run  # noqa: PLC0415 - late: an entry point must import quickly

    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
