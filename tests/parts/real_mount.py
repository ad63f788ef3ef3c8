"""A real `mountsync mount` of a local folder, or of a remote over one, in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from mountsync.content.store import Store
from mountsync.control.client import ask_sync
from mountsync.fuse.mountpoint import unmount
from mountsync.model.status import Status
from mountsync.state.database import Database
from mountsync.vfs import fsck
from tests.parts.readable import readable_within
from tests.parts.shell import run_here
from tests.parts.trees import differences, programs_leftovers

_KEPT = ("PATH", "PYTHONPATH", "LANG", "VIRTUAL_ENV")
READY_S = 30.0
PATIENCE_S = 60.0


class Mounted:
    """One remote and one folder; mounted, killed and mounted again as often as a test likes.

    `options` of the constructor hold for every start; those of `start` come after them and win.
    """

    def __init__(
        self, home: Path, *options: str, remote: Path | None = None, spec: str | None = None
    ) -> None:
        """`spec` is what is mounted, when it is not the folder `remote` itself."""
        self.home = home
        self.remote = remote or home / "remote"
        self.spec = spec or str(self.remote)
        self.path = home / "mnt"
        self.cache = home / "cache"
        self.log = home / "mount.log"
        self.options = options
        self.more: dict[str, str] = {}
        """Variables that the command sees besides."""
        self.process: subprocess.Popen[str] | None = None
        for folder in (self.remote, self.path):
            folder.mkdir(parents=True, exist_ok=True)

    @property
    def environment(self) -> dict[str, str]:
        """What the command sees: nothing of the user who runs the tests."""
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        return kept | {
            "HOME": str(self.home),
            "XDG_STATE_HOME": str(self.home / "state"),
            "XDG_CONFIG_HOME": str(self.home / "config"),
            "MOUNTSYNC_CONFIG": str(self.home / "config.toml"),
            **self.more,
        }

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "mountsync", *words]

    def run(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """A `mountsync` command to its end; `code` None: any exit code is right."""
        done = subprocess.run(
            self.command(*words),
            env=self.environment,
            cwd=self.home,
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE_S,
            stdin=subprocess.DEVNULL,
        )
        assert code is None or done.returncode == code, (
            f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        )
        return done

    def mount_command(self, *options: str) -> list[str]:
        usual = ("--cache-dir", str(self.cache), "--write-delay", "0.1s", "--poll-interval", "60s")
        return self.command("mount", self.spec, str(self.path), *usual, *self.options, *options)

    def start(self, *options: str) -> Mounted:
        """Mounts; returns when the mount says that it is ready."""
        assert self.process is None
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.mount_command(*options),
                env=self.environment,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        assert self.process.stdout is not None
        said = self.process.stdout.readline() if readable_within(self.process.stdout, READY_S) else "nothing"
        if said != f"mounted {self.spec} on {self.path}\n":
            self.kill9()
            raise AssertionError(f"the mount said {said!r}\n{self.log.read_text()}")
        return self

    remount = start

    def forget_cache(self) -> None:
        """The next start finds no state at all."""
        assert self.process is None
        self.cache = self.cache.with_name(self.cache.name + "-again")

    def tell(self, command: str, **args: object) -> object:
        """One command over the control socket."""
        return ask_sync(self.cache / "control.sock", command, within=PATIENCE_S, **args)

    def status(self) -> Status:
        found = self.tell("status")
        assert isinstance(found, Status)
        return found

    def flush(self) -> Status:
        """A full cycle; afterwards nothing is left to do and nothing went wrong."""
        found = self.tell("flush", timeout=PATIENCE_S)
        assert isinstance(found, Status)
        assert found.pending == 0, found
        assert found.problems == [], found.problems
        assert found.conflicts == [], found.conflicts
        return found

    def until(self, holds: Callable[[], bool], *, within: float = PATIENCE_S) -> None:
        """Waits for something that the mount does by itself."""
        end = time.monotonic() + within
        while not holds():
            assert time.monotonic() < end, f"waited {within} s in vain\n{self.log.read_text()}"
            assert self.process is None or self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)

    def settle(self) -> None:
        """Waits until everything is on the remote, without asking for it."""
        self.until(lambda: (found := self.status()).pending == 0 and found.state in ("settled", "watching"))

    def kill9(self) -> None:
        """The process dies at once; the mount point stays, dead."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self._reap()

    def umount(self) -> None:
        """An orderly end: everything is on the remote, nothing is mounted, no complaint in the log."""
        done = run_here(["umount", str(self.path)], self.environment, self.home)
        assert done.code == 0, done
        assert self.process is not None
        assert self.process.wait(READY_S) == 0
        self._reap()
        assert not os.path.ismount(self.path)
        assert self.bugs() == ""
        assert self.check() == []

    def _reap(self) -> None:
        assert self.process is not None and self.process.stdout is not None
        self.process.wait(READY_S)
        self.process.stdout.close()
        self.process = None

    def bugs(self) -> str:
        """The log, when it tells of a bug: handlers map what they do not expect and log it."""
        said = self.log.read_text()
        return said if "Traceback" in said or "[error" in said else ""

    def check(self) -> list[str]:
        """Broken invariants of the state; only while nothing is mounted."""
        database = Database(str(self.cache / "state.db"))
        try:
            return fsck.check(database, Store(str(self.cache / "content")))
        finally:
            database.close()

    def agree(self, folder: str = "", *, ignore: Callable[[str], bool] = lambda path: False) -> None:
        """The remote holds exactly what the mount shows, and no file that programs leave lying about."""
        here, there = self.path / folder, self.remote / folder
        found = differences(here, there, ignore=ignore)
        assert found == [], "\n".join(found[:40])
        left = programs_leftovers(there)
        assert left == [], left

    def end(self) -> None:
        """Whatever happened: no process, no mount."""
        if self.process is not None:
            self.kill9()
        while os.path.ismount(self.path) or _is_dead(self.path):
            if not unmount(str(self.path), lazy=True):
                break


def _is_dead(path: Path) -> bool:
    try:
        os.stat(path)
    except OSError:
        return True
    return False


def inodes(root: Path) -> Mapping[str, tuple[int, int]]:
    """Inode number and mtime of every regular file: what a second upload would change."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            with suppress(FileNotFoundError):  # it was renamed meanwhile
                info = os.lstat(path)
                found[os.path.relpath(path, root)] = (info.st_ino, info.st_mtime_ns)
    return found
