"""A tracer beside a process of the product: it sees the process's system calls, or holds them back."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.parts.readable import readable_within


@contextmanager
def traced(pid: int, log: Path, *options: str) -> Iterator[None]:
    """Writes system calls of a process and its threads to `log`. Skips the test where nobody may trace."""
    command = ["strace", "-f", *options, "-o", str(log), "-p", str(pid)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as tracer:
        assert tracer.stderr is not None
        assert readable_within(tracer.stderr, 30)
        said = tracer.stderr.readline()
        if "not permitted" in said:
            pytest.skip("processes cannot be traced here")
        assert "attached" in said, said
        try:
            yield
        finally:
            tracer.send_signal(signal.SIGINT)
