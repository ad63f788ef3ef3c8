"""What was uploaded just before a `kill -9` is known to be our own, whatever was done to it meanwhile."""

from __future__ import annotations

import os
import random
from collections.abc import Callable

from tests.parts.real_mount import Mounted

FILES = 400


def killed_in_the_first_cycle(mount: Mounted, then: Callable[[str], None]) -> list[str]:
    """Uploads many files; while they arrive does something to the first ones, and dies at once."""
    mount.tell("pause")
    for number in range(FILES):
        (mount.path / f"file{number:03}").write_bytes(random.Random(number).randbytes(50_000))
    mount.tell("resume", confirm=False)
    mount.until(lambda: len(os.listdir(mount.remote)) >= 5)
    arrived = sorted(name for name in os.listdir(mount.remote) if name.startswith("file"))
    for name in arrived:
        then(name)
    mount.kill9()
    mount.remount("--write-delay", "0.05s")
    mount.settle()
    mount.flush()
    mount.agree()
    return arrived


def test_unlinked_after_its_upload(new_mount: Callable[..., Mounted]) -> None:
    mount = new_mount("--write-delay", "0s").start()
    arrived = killed_in_the_first_cycle(mount, lambda name: (mount.path / name).unlink())
    assert arrived
    assert len(os.listdir(mount.path)) == FILES - len(arrived)


def test_renamed_after_its_upload(new_mount: Callable[..., Mounted]) -> None:
    mount = new_mount("--write-delay", "0s").start()
    arrived = killed_in_the_first_cycle(
        mount, lambda name: (mount.path / name).rename(mount.path / f"new{name}")
    )
    assert len(os.listdir(mount.path)) == FILES
    assert not any((mount.path / name).exists() for name in arrived)


def test_written_again_after_its_upload(new_mount: Callable[..., Mounted]) -> None:
    mount = new_mount("--write-delay", "0s").start()
    arrived = killed_in_the_first_cycle(mount, lambda name: rewrite(mount, name))
    assert [name for name in os.listdir(mount.path) if "conflict" in name] == []
    assert {(mount.path / name).read_bytes() for name in arrived} == {b"second version"}


def rewrite(mount: Mounted, name: str) -> None:
    (mount.path / name).write_bytes(b"second version")
