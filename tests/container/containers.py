"""Containers of the image under test, run by podman."""

from __future__ import annotations

import itertools
import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

PATIENCE_S = 60.0
_numbers = itertools.count()


def podman(*words: str, code: int | None = 0, within: float = 120) -> subprocess.CompletedProcess[str]:
    """One command to its end; `code` None: any exit code is right."""
    done = subprocess.run(
        [*_engine(), *words], capture_output=True, text=True, check=False, timeout=within,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert code is None or done.returncode == code, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done


def _engine() -> list[str]:
    """podman, with the runtime that works on hosts whose control groups are of both versions."""
    return ["podman", *(["--runtime", "runc"] if shutil.which("runc") else [])]


def _limits() -> list[str]:
    """No more than this machine gives us; the usual ones need a right that not every root has."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return ["--ulimit", f"nofile={files}:{files}", "--ulimit", "nproc=4096:4096"]


class Host:
    """A folder of the host whose mounts are shared with containers, and all containers of one test."""

    def __init__(self, image: str, home: Path) -> None:
        self.image = image
        self.home = home
        self.prefix = f"mountsync-test-{os.getpid()}-{next(_numbers)}"
        self.shown = self.folder("shown")
        subprocess.run(["mount", "--bind", self.shown, self.shown], check=True)
        subprocess.run(["mount", "--make-rshared", self.shown], check=True)
        self.remote = self.folder("remote")

    def folder(self, name: str) -> Path:
        """A folder that belongs to the user of the image."""
        path = self.home / name
        path.mkdir(parents=True)
        os.chown(path, 1000, 1000)
        return path

    def name(self, short: str) -> str:
        return f"{self.prefix}-{short}"

    def run(self, *words: str, options: tuple[str, ...] = (), code: int | None = 0) -> str:
        """A command in a new container, to its end; its output."""
        return podman(
            "run", "--rm", "--network", "none", *_limits(), *options, self.image, *words, code=code
        ).stdout

    def start(self, short: str, *words: str, options: tuple[str, ...] = ()) -> Container:
        """A container that goes on."""
        podman(
            *("run", "-d", "--name", self.name(short), "--network", "none", *_limits()),
            *("--device", "/dev/fuse", "--cap-add", "SYS_ADMIN", *options, self.image, *words),
        )
        return Container(self.name(short))

    def mount(self, short: str, *words: str, options: tuple[str, ...] = ()) -> Container:
        """A container that mounts the remote on `shown`, and is ready."""
        usual = ("-v", f"{self.remote}:/shared", "-v", f"{self.shown}:/mnt/remote:rshared")
        usual += ("-v", f"{self.name('state')}:/state")
        made = self.start(
            short, "mount", "/shared", "/mnt/remote", "--allow-other", *words, options=(*usual, *options)
        )
        made.until_ready()
        return made

    def end(self) -> None:
        """Whatever happened: no container, no volume, no mount."""
        listed = podman("ps", "-aq", "--filter", f"name={self.prefix}").stdout.split()
        if listed:
            podman("rm", "-f", "-v", "-t", "0", *listed)
        volumes = podman("volume", "ls", "-q", "--filter", f"name={self.prefix}").stdout.split()
        if volumes:
            podman("volume", "rm", "-f", *volumes)
        while subprocess.run(["umount", "-Rl", self.shown], check=False, capture_output=True).returncode == 0:
            pass


class Container:
    """One container that runs."""

    def __init__(self, name: str) -> None:
        self.name = name

    def exec(self, *words: str) -> tuple[int, str]:
        """A command in it: exit code and output."""
        done = podman("exec", self.name, *words, code=None)
        return done.returncode, done.stdout

    def log(self) -> str:
        done = podman("logs", self.name)
        return done.stdout + done.stderr

    def inspect(self) -> dict[str, Any]:
        [found] = json.loads(podman("inspect", self.name).stdout)
        assert isinstance(found, dict)
        return found

    def until(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < end, self.log()
            time.sleep(0.05)

    def runs(self) -> bool:
        return bool(self.inspect()["State"]["Running"])

    def until_ready(self) -> None:
        self.until(lambda: "mounted " in self.log() or not self.runs())
        assert self.runs(), self.log()

    def stop(self, grace: int) -> tuple[int, float]:
        """As `docker stop`: exit code, and seconds that it took."""
        began = time.monotonic()
        podman("stop", "-t", str(grace), self.name)
        return self.inspect()["State"]["ExitCode"], time.monotonic() - began
