"""A program on a terminal of its own, as a person sees it."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

PATIENCE_S = 60.0
_ESCAPES = re.compile(r"\x1b(\[[0-9;?=>]*[A-Za-z]|\][^\x07]*\x07|[()][A-Z0-9]|[=>78])")


class Terminal:
    """Starts a program; `type` writes keys, `until` waits for text, `seen` is free of escape sequences."""

    def __init__(
        self,
        words: Sequence[str],
        environment: Mapping[str, str],
        cwd: Path,
        *,
        lines: int = 40,
        columns: int = 120,
    ) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        self.raw = ""
        self.process = subprocess.Popen(
            words,
            env={"TERM": "xterm-256color", "LANG": "C.UTF-8", **environment},
            cwd=cwd,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - before exec, one call
        )
        os.close(theirs)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE_S)
        os.close(self._ours)

    @property
    def seen(self) -> str:
        """All that was written so far, without escape sequences."""
        return _ESCAPES.sub("", self.raw).replace("\r", "")

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def until(self, text: str, *, after: int = 0) -> int:
        """Waits until `text` was written, from the position `after` on; gives the position behind it."""
        end = time.monotonic() + PATIENCE_S
        while (found := self.seen.find(text, after)) < 0:
            assert time.monotonic() < end, f"{text!r} never came:\n{self.seen[-3000:]}"
            if not self._read() and self.seen.find(text, after) < 0:
                raise AssertionError(f"it ended without {text!r}:\n{self.seen[-3000:]}")
        return found + len(text)

    def end(self) -> int:
        """Waits for the program to end by itself; its exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE_S)

    def interrupt(self) -> int:
        """Presses Ctrl-C until the program ends: one may come between two looks of its line editor."""
        for _ in range(int(PATIENCE_S)):
            self.type("\x03")
            end = time.monotonic() + 1
            while time.monotonic() < end:
                ready, _, _ = select.select([self._ours], [], [], 0.1)
                if ready and not self._read():
                    return self.process.wait(PATIENCE_S)
        raise AssertionError(f"Ctrl-C does not end it:\n{self.seen[-3000:]}")

    def _read(self) -> bool:
        ready, _, _ = select.select([self._ours], [], [], PATIENCE_S)
        assert ready, f"it hangs:\n{self.seen[-3000:]}"
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # EIO: nobody has the other end any more
            return False
        self.raw += data.decode("utf-8", "replace")
        return bool(data)
