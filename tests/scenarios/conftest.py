"""Real mounts for scenarios."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.parts.real_mount import Mounted


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What real programs do takes seconds on a machine at rest, and minutes on one that has much to do."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.timeout(300))
            if not os.path.exists("/dev/fuse"):
                item.add_marker(pytest.mark.skip(reason="/dev/fuse does not exist"))


@pytest.fixture
def new_mount(tmp_path: Path) -> Iterator[Callable[..., Mounted]]:
    """Makes a mount with options of its own, not started yet; the second one gets other folders."""
    made: list[Mounted] = []

    def make(*options: str) -> Mounted:
        home = tmp_path / f"home{len(made)}"
        home.mkdir()
        made.append(Mounted(home, *options))
        return made[-1]

    yield make
    for mount in made:
        mount.end()


@pytest.fixture
def mounted(new_mount: Callable[..., Mounted]) -> Mounted:
    """A running mount of an empty remote."""
    return new_mount().start()


@pytest.fixture(scope="session")
def programs_mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mounted]:
    """One mount for all programs, with so short a delay that uploads go on while they work."""
    mount = Mounted(tmp_path_factory.mktemp("programs"), "--write-delay", "0.02s")
    try:
        mount.start()
        yield mount
        mount.umount()
    finally:
        mount.end()


@pytest.fixture
def place(programs_mount: Mounted, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A fresh folder in the mount; at the end the remote must hold exactly what the mount shows."""
    name = re.sub(r"\W+", "-", request.node.name)
    folder = programs_mount.path / name
    folder.mkdir()
    yield folder
    programs_mount.flush()
    programs_mount.agree(name)
    assert programs_mount.bugs() == ""


@pytest.fixture
def on_remote(programs_mount: Mounted, place: Path) -> Callable[[], Path]:
    """Flushes; gives the folder of the remote that stands for `place`."""

    def flushed() -> Path:
        programs_mount.flush()
        return programs_mount.remote / place.name

    return flushed
