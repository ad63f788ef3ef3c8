"""Runs the real command in a process of its own, with a home of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Outcome:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def error_line(self) -> str:
        """The one line on standard error; fails when there is none or more."""
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("mountsync: "), self.err
        return lines[0].removeprefix("mountsync: ")


class Shell:
    """A user with an empty home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = home / "config.toml"
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "VIRTUAL_ENV") if name in os.environ}
        self.environment = kept | {
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "MOUNTSYNC_CONFIG": str(self.config),
            "TZ": "UTC",
        }

    def run(self, *args: str | bytes, **environment: str) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-m", "mountsync", *args],
            env=self.environment | environment,
            cwd=self.home,
            capture_output=True,
            check=False,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        out, err = (text.decode("utf-8", "surrogateescape") for text in (done.stdout, done.stderr))
        assert "Traceback" not in err, err
        return Outcome(done.returncode, out, err)
