"""Real mounts of a local folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.parts.real_mount import Mounted


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.path.exists("/dev/fuse"):
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="/dev/fuse does not exist"))


@pytest.fixture
def new_mount(tmp_path: Path) -> Iterator[Callable[..., Mounted]]:
    """Makes a mount with options of its own, not started yet; its state is where the commands look."""
    made: list[Mounted] = []

    def make(*options: str) -> Mounted:
        made.append(Mounted(tmp_path, *options))
        return made[-1]

    yield make
    for mount in made:
        mount.end()
