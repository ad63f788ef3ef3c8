"""Programs that write at random, and the memory of what each of them was told is done."""

from __future__ import annotations

import hashlib
import os
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

SIZES = [0, 1, 300, 4096, 60_000, 66_000, 400_000, 1_500_000]
PAGE = 4096


@dataclass
class Doubt:
    """A step that had begun when the mount died: where it worked, and what may be found there."""

    holds: Callable[[dict[str, bytes]], bool] = lambda found: True
    paths: frozenset[str] = frozenset()


@dataclass
class Program:
    """Works in a folder of its own, one step after the other, until the mount is gone.

    `files` is what it knows to be done: content by path. `known` has the digests of all contents that
    any of its files ever had in full.
    """

    name: str
    chance: random.Random
    files: dict[str, bytes] = field(default_factory=dict)
    known: set[str] = field(default_factory=set)
    doubt: Doubt = field(default_factory=Doubt)
    steps: int = 0
    """How many changes were told done."""
    failure: BaseException | None = None
    serial: int = 0
    came_back: list[str] = field(default_factory=list)
    """Old versions that were there again after a kill, and what had been done to them."""
    history: list[str] = field(default_factory=list)
    """What was done, for whoever has to find out why something is missing."""

    def work(self, root: Path, ended: threading.Event) -> None:
        """Steps until the event is set or the mount is gone."""
        verbs = [self.create] * 5 + [self.overwrite] * 3 + [self.save] * 3 + [self.append] * 2
        verbs += [self.patch] * 2 + [
            self.cut,
            self.rename,
            self.rename,
            self.unlink,
            self.unlink,
            self.move_folder,
        ]
        try:
            (root / self.name).mkdir(exist_ok=True)
            while not ended.is_set():
                verb = self.chance.choice(verbs)
                if self.files or verb == self.create:
                    verb(root)
                    if self.doubt.paths:
                        self.history.append(f"{verb.__name__} {sorted(self.doubt.paths)}")
                        self.steps += 1
                    self.doubt = Doubt()
        except OSError as error:
            if not ended.is_set():
                error.add_note("\n".join(self.history[-20:]))
                self.failure = error
        except BaseException as error:
            self.failure = error

    def _bytes(self) -> bytes:
        return self.chance.randbytes(self.chance.choice(SIZES))

    def _some(self) -> str:
        return self.chance.choice(sorted(self.files))

    def _fresh(self) -> str:
        self.serial += 1
        folder = self.chance.choice(["", "a/", "a/b/", f"c{self.chance.randrange(3)}/"])
        return f"{self.name}/{folder}f{self.serial}"

    def _done(self, path: str, data: bytes) -> None:
        self.files[path] = data
        self.known.add(sha256(data))

    def _begins(self, path: str, after: bytes, *, torn: bool) -> None:
        """`torn`: a beginning of the new content may be found too, for nobody was told that it is done."""
        before = self.files.get(path)

        def holds(found: dict[str, bytes]) -> bool:
            got = found.get(path)
            return got in (before, after) or (torn and got is not None and after.startswith(got))

        self.known.add(sha256(after))
        self.doubt = Doubt(holds, frozenset({path}))

    def create(self, root: Path) -> None:
        path, data = self._fresh(), self._bytes()
        self._begins(path, data, torn=True)
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
        self._done(path, data)

    def overwrite(self, root: Path) -> None:
        path, data = self._some(), self._bytes()
        self._begins(path, data, torn=True)
        (root / path).write_bytes(data)
        self._done(path, data)

    def save(self, root: Path) -> None:
        """As editors do: a temporary file, sync, rename over."""
        path, data = self._some(), self._bytes()
        self.serial += 1
        temporary = f"{path}.new{self.serial}"
        self._begins(path, data, torn=False)
        self.doubt = Doubt(self.doubt.holds, frozenset({path, temporary}))
        with open(root / temporary, "wb") as file:
            file.write(data)
            os.fsync(file.fileno())
        os.rename(root / temporary, root / path)
        self._done(path, data)

    def append(self, root: Path) -> None:
        path = self._some()
        data = self.files[path] + self.chance.randbytes(self.chance.choice([1, 5_000, 70_000]))
        self._begins(path, data, torn=True)
        with open(root / path, "ab") as file:
            file.write(data[len(self.files[path]) :])
        self._done(path, data)

    def patch(self, root: Path) -> None:
        """In place, in one page, synced; the file stays open meanwhile."""
        path = self._some()
        old = self.files[path]
        if len(old) < PAGE:
            return
        at = self.chance.randrange(len(old) // PAGE) * PAGE
        data = old[:at] + self.chance.randbytes(PAGE) + old[at + PAGE :]
        self._begins(path, data, torn=False)
        fd = os.open(root / path, os.O_RDWR)
        try:
            os.pwrite(fd, data[at : at + PAGE], at)
            os.fsync(fd)
            self._done(path, data)
        finally:
            with suppress(OSError):
                os.close(fd)

    def cut(self, root: Path) -> None:
        path = self._some()
        data = self.files[path][: self.chance.randrange(len(self.files[path]) + 1)]
        self._begins(path, data, torn=False)
        os.truncate(root / path, len(data))
        self._done(path, data)

    def rename(self, root: Path) -> None:
        """To a new name, or over another file."""
        source = self._some()
        target = self._fresh() if self.chance.random() < 0.6 else self._some()
        data, replaced = self.files[source], self.files.get(target)
        if source == target:
            return

        def holds(found: dict[str, bytes]) -> bool:
            return (found.get(source), found.get(target)) in ((data, replaced), (None, data))

        self.doubt = Doubt(holds, frozenset({source, target}))
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        os.rename(root / source, root / target)
        del self.files[source]
        self.files[target] = data

    def unlink(self, root: Path) -> None:
        path = self._some()
        data = self.files[path]
        self.doubt = Doubt(lambda found: found.get(path) in (data, None), frozenset({path}))
        os.unlink(root / path)
        del self.files[path]

    def move_folder(self, root: Path) -> None:
        self.serial += 1
        old, new = f"{self.name}/a/", f"{self.name}/moved{self.serial}/"
        inside = {path: data for path, data in self.files.items() if path.startswith(old)}
        if not inside:
            return
        moved = {new + path.removeprefix(old): data for path, data in inside.items()}
        paths = frozenset(inside) | frozenset(moved)

        def holds(found: dict[str, bytes]) -> bool:
            return {path: data for path, data in found.items() if path in paths} in (inside, moved)

        self.doubt = Doubt(holds, paths)
        os.rename(root / old, root / new)
        for path in inside:
            del self.files[path]
        self.files |= moved

    def judge(self, found: dict[str, bytes]) -> list[str]:
        """What is wrong with what is there after the mount came back; then takes it for the truth."""
        mine = {path: data for path, data in found.items() if path.startswith(self.name + "/")}
        wrong = []
        if not self.doubt.holds(mine):
            wrong.append(f"{sorted(self.doubt.paths)}: torn or lost in the last step")
        for path in sorted((self.files.keys() | mine.keys()) - self.doubt.paths):
            if self._came_back(path, mine):
                self.came_back.append(f"{path}: {_size(mine.get(path))}")
                self.came_back += [f"    {step}" for step in self.history if path in step][-6:]
            elif mine.get(path) != self.files.get(path):
                wrong.append(f"{path}: {_size(mine.get(path))} instead of {_size(self.files.get(path))}")
                wrong += [f"    {step}" for step in self.history if path in step][-6:]
        self.history.append(f"the mount died in {sorted(self.doubt.paths)}")
        self.files = dict(mine)
        self.known |= {sha256(data) for data in mine.values()}
        self.doubt = Doubt()
        return wrong

    def _came_back(self, path: str, mine: dict[str, bytes]) -> bool:
        """Whether an old version of ours is there again, beside all that has to be there."""
        got, wanted = mine.get(path), self.files.get(path)
        if got is None or got == wanted or sha256(got) not in self.known:
            return False
        beside = [data for other, data in mine.items() if other.startswith(f"{path} (conflict ")]
        return wanted is None or wanted in beside


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _size(data: bytes | None) -> str:
    return "nothing" if data is None else f"{len(data)} bytes {sha256(data)[:8]}"


class Crowd:
    """Several programs at once."""

    def __init__(self, seed: int, count: int) -> None:
        self.programs = [Program(f"p{number}", random.Random(f"{seed} {number}")) for number in range(count)]
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []
        self._before: list[int] = []

    def begin(self, root: Path) -> None:
        self._ended.clear()
        self._before = [program.steps for program in self.programs]
        self._threads = [
            threading.Thread(target=program.work, args=(root, self._ended)) for program in self.programs
        ]
        for thread in self._threads:
            thread.start()

    def until_all_worked(self) -> None:
        """Waits until each program has made a change since `begin`, or has failed: `join` tells why."""
        latest = time.monotonic() + 60
        for program, before, thread in zip(self.programs, self._before, self._threads, strict=True):
            while program.steps == before and thread.is_alive():
                assert time.monotonic() < latest, f"{program.name} does not get on"
                time.sleep(0.01)

    def expect_the_end(self) -> None:
        """From now on errors are no failures."""
        self._ended.set()

    def join(self) -> None:
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a program hangs although the mount is dead"
        for program in self.programs:
            if program.failure is not None:
                raise program.failure

    def work_until(self, root: Path, seconds: float, end: Callable[[], None]) -> None:
        """Works for some time, at least one change of each program, and on until `end` has come."""
        self.begin(root)
        time.sleep(seconds)
        self.until_all_worked()
        self.expect_the_end()
        end()
        self.join()

    def judge(self, root: Path, *, alone: bool = True) -> list[str]:
        """What is wrong below `root`; not `alone`: others work there too, in folders of their own."""
        found = {}
        tops = [root] if alone else [root / program.name for program in self.programs]
        for folder, _, names in (step for top in tops for step in os.walk(top)):
            for name in names:
                path = Path(folder, name)
                found[str(path.relative_to(root))] = path.read_bytes()
        wrong = [sentence for program in self.programs for sentence in program.judge(found)]
        owned = tuple(program.name + "/" for program in self.programs)
        return wrong + [f"{path}: whose is this?" for path in found if not path.startswith(owned)]

    @property
    def known(self) -> set[str]:
        return set().union(*(program.known for program in self.programs))
