"""Engine tests run under a clock that jumps when nothing is left to do, and in memory-backed folders."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from trio.testing import MockClock

from tests.parts.clocks import working_clock


@pytest.fixture
def quick_clock() -> Iterator[MockClock]:
    """Time jumps once everything has been waiting, threads included."""
    with working_clock() as clock:
        yield clock


@pytest.fixture
def home() -> Iterator[Path]:
    """A folder in memory where there is one: the state's syncs cost nothing there."""
    shared = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="mountsync-test-", dir=shared if shared.is_dir() else None))
    yield made
    shutil.rmtree(made)


INTERNAL: list[object] = []


def _no_noise(_logger: object, _method: str, event: dict[str, object]) -> dict[str, object]:
    if event.get("event") == "internal error":
        INTERNAL.append(event.get("exc_info"))
    raise structlog.DropEvent


@pytest.fixture(autouse=True)
def no_internal_errors() -> Iterator[list[object]]:
    """Logs are dropped; an internal error fails the test, unless the test takes it out of the list."""
    INTERNAL.clear()
    structlog.configure(processors=[_no_noise])
    yield INTERNAL
    structlog.reset_defaults()
    assert INTERNAL == []
