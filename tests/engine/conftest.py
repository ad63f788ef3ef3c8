"""Engine tests run under a clock that jumps when nothing is left to do, and in memory-backed folders."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from trio.testing import MockClock


@pytest.fixture
def quick_clock() -> MockClock:
    """Time jumps once everything has been waiting for 10 ms (threads may be at work meanwhile)."""
    return MockClock(autojump_threshold=0.01)


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder in memory where there is one: the state's syncs cost nothing there."""
    shared = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="mountsync-test-", dir=shared if shared.is_dir() else None))
    yield made
    shutil.rmtree(made)
