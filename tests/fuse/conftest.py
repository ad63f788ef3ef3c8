"""Real mounts: one that is shared by tests with a folder of their own each, and private ones."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mountsync.content.store import Store
from mountsync.fuse.mountpoint import unmount
from mountsync.state.database import Database
from mountsync.vfs import fsck

SCRIPT = str(Path(__file__).parent / "standalone_mount.py")
_numbers = itertools.count()


class Mount:
    """A mount in a process of its own."""

    def __init__(self, home: Path, *words: str) -> None:
        self.state, self.path = home / "state", home / "mnt"
        self.words = words
        for folder in (self.state, self.path):
            if folder.name not in os.listdir(home):  # a dead mount point exists, but cannot be looked at
                folder.mkdir(parents=True)
        self.process: subprocess.Popen[str] | None = None

    def start(self) -> Mount:
        self.process = subprocess.Popen(
            [sys.executable, SCRIPT, str(self.state), str(self.path), *self.words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline().strip()
        if said != "ready":
            rest = self.process.stdout.read()
            self.process.wait(60)
            pytest.fail(f"the mount did not start: {said}\n{rest}")
        return self

    def kill(self) -> None:
        """The process dies as by power of the system; the mount point stays, dead."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self._wait()

    def stop(self) -> str:
        """An orderly end; what the process said besides `ready`."""
        assert self.process is not None
        self.process.terminate()
        return self._wait()

    def _wait(self) -> str:
        assert self.process is not None and self.process.stdout is not None
        said = self.process.stdout.read()
        self.process.wait(60)
        self.process.stdout.close()
        self.process = None
        return said

    def check(self) -> list[str]:
        """Broken invariants of the state; only while nothing is mounted."""
        database = Database(str(self.state / "state.db"))
        try:
            return fsck.check(database, Store(str(self.state / "content")))
        finally:
            database.close()

    def end(self) -> None:
        """Whatever happened: no process, no mount."""
        if self.process is not None:
            self.process.kill()
            self._wait()
        unmount(str(self.path), lazy=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not os.path.exists("/dev/fuse"):
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="/dev/fuse does not exist"))


@pytest.fixture(scope="session")
def shared_mount() -> Iterator[Mount]:
    home = Path(tempfile.mkdtemp(prefix="mountsync-test-"))
    home.chmod(0o755)  # other users must get as far as the mount
    mount = Mount(home, "allow-other")
    try:
        mount.start()
        yield mount
        said = mount.stop()
        assert said == "", f"the mount complained: {said}"
        assert mount.check() == []
    finally:
        mount.end()
        shutil.rmtree(home)


def as_nobody(action: Callable[[], int]) -> int:
    """What `action` returns (0 to 99) in a process of an ordinary user; its errno + 100 when refused."""
    pid = os.fork()
    if pid == 0:
        code = 99
        try:
            os.setgid(65534)
            os.setgroups([])
            os.setuid(65534)
            code = action()
        except OSError as error:
            code = 100 + (error.errno or 0)
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.fixture
def nobody() -> Callable[[Callable[[], int]], int]:
    return as_nobody


@pytest.fixture
def folder(shared_mount: Mount) -> Path:
    """A fresh folder in the shared mount."""
    made = shared_mount.path / f"t{next(_numbers)}"
    made.mkdir()
    return made


@pytest.fixture
def new_mount(tmp_path: Path) -> Iterator[Callable[..., Mount]]:
    """Makes and starts a mount of one's own; called again, with the same state."""
    made: list[Mount] = []

    def start(*words: str) -> Mount:
        mount = Mount(tmp_path, *words)
        made.append(mount)
        return mount.start()

    yield start
    for mount in made:
        mount.end()


class Raises:
    """`with raises(errno.X):` — an OSError of exactly that number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, value: BaseException | None, trace: object) -> bool:
        assert value is not None, f"nothing was raised instead of {os.strerror(self.number)}"
        if not isinstance(value, OSError):
            return False
        assert value.errno == self.number, f"{value!r} instead of {os.strerror(self.number)}"
        return True


@pytest.fixture
def raises() -> type[Raises]:
    return Raises
