"""Random reads, writes, truncations and maps of one file, each compared with what it must be."""

from __future__ import annotations

import mmap
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

LIMIT = 260_000
"""Beyond 64 KiB, so that contents move between the database and content files."""


class Exerciser:
    """One file and the bytes that it must hold."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.random = random.Random(seed)
        self.bytes = bytearray()
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT)
        self.log: list[str] = []

    def _range(self, limit: int) -> tuple[int, int]:
        start = self.random.randrange(limit)
        size = min(limit - start, 1 + self.random.choice((10, 5000, 66_000)) * self.random.randrange(1, 3))
        return start, size

    def write(self) -> None:
        start, size = self._range(LIMIT)
        data = self.random.randbytes(size)
        os.pwrite(self.fd, data, start)
        self._put(start, data)

    def _put(self, start: int, data: bytes) -> None:
        if start > len(self.bytes):
            self.bytes.extend(bytes(start - len(self.bytes)))
        self.bytes[start : start + len(data)] = data

    def read(self) -> None:
        start, size = self._range(LIMIT)
        assert os.pread(self.fd, size, start) == self.bytes[start : start + size]

    def truncate(self) -> None:
        size = self.random.choice((0, 1, 4096, 65_536, 65_537, self.random.randrange(LIMIT)))
        if self.random.random() < 0.5:
            os.ftruncate(self.fd, size)
        else:
            os.truncate(self.path, size)
        del self.bytes[size:]
        self.bytes.extend(bytes(size - len(self.bytes)))

    def map_read(self) -> None:
        if self.bytes:
            with mmap.mmap(self.fd, len(self.bytes), prot=mmap.PROT_READ) as view:
                start, size = self._range(len(self.bytes))
                assert view[start : start + size] == self.bytes[start : start + size]

    def map_write(self) -> None:
        if self.bytes:
            with mmap.mmap(self.fd, len(self.bytes)) as view:
                start, size = self._range(len(self.bytes))
                data = self.random.randbytes(size)
                view[start : start + size] = data
                self._put(start, data)
                if self.random.random() < 0.3:
                    view.flush()

    def reopen(self) -> None:
        os.close(self.fd)
        self.fd = os.open(self.path, os.O_RDWR)

    def sync(self) -> None:
        os.fsync(self.fd)

    def append(self) -> None:
        data = self.random.randbytes(self.random.randrange(1, 9000))
        if len(self.bytes) + len(data) <= LIMIT:
            with open(self.path, "ab", buffering=0) as file:
                file.write(data)
            self.bytes.extend(data)

    def run(self, steps: int) -> None:
        verbs: list[Callable[[], None]] = [
            self.write, self.write, self.read, self.read, self.truncate, self.map_read, self.map_write,
            self.reopen, self.sync, self.append,
        ]  # fmt: skip
        for _ in range(steps):
            verb = self.random.choice(verbs)
            self.log.append(verb.__name__)
            verb()
            assert os.fstat(self.fd).st_size == len(self.bytes), self.log[-5:]
        os.close(self.fd)
        assert self.path.read_bytes() == self.bytes, self.log[-5:]


@pytest.mark.parametrize("words", [(), ("no-writeback",), ("quick-barrier",)])
def test_random_operations(new_mount, words: tuple[str, ...]) -> None:
    mount = new_mount(*words)
    wanted = {}
    for seed in range(6):
        exerciser = Exerciser(mount.path / f"f{seed}", seed)
        exerciser.run(600)
        wanted[f"f{seed}"] = bytes(exerciser.bytes)
    with open("/proc/sys/vm/drop_caches", "w") as knob:
        knob.write("1")
    assert {name: (mount.path / name).read_bytes() for name in wanted} == wanted
    assert mount.stop() == ""
    assert mount.check() == []
    mount = new_mount(*words)
    assert {name: (mount.path / name).read_bytes() for name in wanted} == wanted
    mount.stop()
