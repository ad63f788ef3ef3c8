"""Runs ordinary programs, also those that want a terminal."""

from __future__ import annotations

import os
import pty
import shutil
import signal
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.parts.readable import readable_within

LIMIT_S = 240.0
"""Programs that take longer hang."""


def need(*programs: str) -> None:
    """Skips the test when a program is not installed."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def run(*words: str | Path, cwd: Path, env: Mapping[str, str] | None = None, stdin: str = "") -> str:
    """A program to its successful end; what it printed, errors too."""
    done = subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=os.environ | (env or {}),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=LIMIT_S,
    )
    assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}"
    return done.stdout


def shell(script: str, *, cwd: Path, env: Mapping[str, str] | None = None) -> str:
    """A shell script, every step of which must succeed."""
    return run("bash", "-euo", "pipefail", "-c", script, cwd=cwd, env=env)


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, words: Sequence[str | Path], *, cwd: Path) -> None:
        self._end, inner = pty.openpty()
        termios.tcsetwinsize(inner, (24, 80))
        self.process = subprocess.Popen(
            [str(word) for word in words],
            cwd=cwd,
            env={"PATH": os.environ["PATH"], "TERM": "xterm", "HOME": str(cwd.parent), "LANG": "C.UTF-8"},
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
        )
        os.close(inner)
        self.screen = b""

    def _read(self, seconds: float) -> bool:
        if not readable_within(self._end, seconds):
            return False
        try:
            self.screen += os.read(self._end, 65536)
        except OSError:  # the program has ended
            return False
        return True

    def until(self, text: bytes) -> None:
        """Waits until the program has shown `text` since the last keys."""
        end = time.monotonic() + LIMIT_S
        while text not in self.screen:
            assert time.monotonic() < end, self.screen
            self._read(0.1)

    def keys(self, text: bytes) -> None:
        """Types."""
        self.screen = b""
        os.write(self._end, text)

    def wait(self) -> int:
        """Its exit code; what it still shows is read, so that it is not held up."""
        end = time.monotonic() + LIMIT_S
        while self.process.poll() is None:
            if time.monotonic() > end:
                self.kill()
                raise AssertionError(f"it does not end: {self.screen!r}")
            self._read(0.02)
        os.close(self._end)
        return self.process.returncode

    def kill(self) -> None:
        """The program dies at once."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(LIMIT_S)
