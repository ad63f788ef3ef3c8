"""Names that live for a moment, as those of locks and temporary files, leave nothing on the remote."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable

import pytest

from tests.parts.real_mount import Mounted


@pytest.mark.parametrize("seed", [1, 3])
def test_renamed_while_it_is_uploaded(new_mount: Callable[..., Mounted], seed: int) -> None:
    mount = new_mount("--write-delay", "0.02s").start()
    chance = random.Random(seed)

    def pause() -> None:
        if chance.random() < 0.6:
            time.sleep(chance.uniform(0, 0.05))

    for number in range(30):
        lock = mount.path / "index.lock"
        lock.write_bytes(chance.randbytes(chance.choice([0, 100, 70_000])))
        pause()
        lock.rename(mount.path / "index")
        pause()
        first, second, last = (mount.path / f"{name}{number}" for name in ("tmp", ".tmp-", "final"))
        first.write_bytes(b"x" * chance.choice([10, 300_000]))
        pause()
        first.rename(second)
        pause()
        second.rename(last)
        if chance.random() < 0.3:
            os.link(last, first)
            pause()
            os.unlink(first)
    mount.flush()
    mount.agree()
    assert len(os.listdir(mount.remote)) == 31
    mount.umount()
