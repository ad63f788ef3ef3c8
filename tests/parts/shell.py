"""Runs the real command in a process of its own, with a home of its own."""

from __future__ import annotations

import contextlib
import gc
import io
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

from mountsync.cli.main import run


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


def _text(stream: io.TextIOWrapper) -> str:
    stream.flush()
    with stream:
        buffer = stream.buffer
        assert isinstance(buffer, io.BytesIO)
        return buffer.getvalue().decode("utf-8", "surrogateescape")


def run_here(args: Sequence[str], environment: Mapping[str, str], home: Path) -> Outcome:
    """One command in this process, as if it were one of its own with this environment."""
    out, err = io.TextIOWrapper(io.BytesIO()), io.TextIOWrapper(io.BytesIO())
    before, looks = dict(os.environ), gc.get_threshold()
    os.environ.clear()
    os.environ.update(environment)
    try:
        with contextlib.chdir(home), redirect_stdout(out), redirect_stderr(err):
            code = run(args)
    finally:
        os.environ.clear()
        os.environ.update(before)
        # A command looks for garbage as seldom as can be; garbage of a server in this process holds files.
        gc.unfreeze()
        gc.set_threshold(*looks)
    texts = [_text(stream) for stream in (out, err)]
    assert "Traceback" not in texts[1], texts[1]
    return Outcome(code, *texts)


class Shell:
    """A user with an empty home."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.config = home / "config.toml"
        names = ("PATH", "PYTHONPATH", "LANG", "VIRTUAL_ENV")
        kept = {name: os.environ[name] for name in names if name in os.environ}
        self.environment = kept | {
            "HOME": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "MOUNTSYNC_CONFIG": str(self.config),
            "TZ": "UTC",
        }

    def here(self, *args: str, **environment: str) -> Outcome:
        """As `run`, in this process: for many cases of one kind, of which `run` has tried one."""
        return run_here(args, self.environment | environment, self.home)

    def run(self, *args: str | bytes, before: Sequence[str] = (), **environment: str) -> Outcome:
        """One command in a process of its own; `before` are the words that start it otherwise."""
        done = subprocess.run(
            [*before, sys.executable, "-m", "mountsync", *args],
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
