"""The folders that are measured: native, rclone mount, mountsync mount."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path


class Target:
    """A folder with a remote behind it. `remote` is None where there is none."""

    name = "native"

    def __init__(self, place: Path) -> None:
        self.place = place / self.name
        self.folder = self.place / "mnt"
        self.remote: Path | None = None
        self.folder.mkdir(parents=True)

    def start(self) -> None:
        """Makes the folder usable."""

    def stop(self) -> None:
        """Unmounts, everything replicated."""

    def settle(self) -> None:
        """Returns when nothing waits for upload."""

    def forget(self) -> None:
        """Starts again with an empty cache."""

    @property
    def pid(self) -> int | None:
        return None


class Mounted(Target):
    """A mount of a local folder."""

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self.remote = self.place / "remote"
        self.cache = self.place / "cache"
        self.remote.mkdir()
        self.process: subprocess.Popen[bytes] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def start(self) -> None:
        with (self.place / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log, env=self.environment())
        wait_for(lambda: os.path.ismount(self.folder), f"{self.name} to mount")

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def stop(self) -> None:
        if self.process is None:
            return
        try:
            self.unmount()
            self.process.wait(60)
        except subprocess.SubprocessError:
            self.process.kill()
            subprocess.run(["fusermount3", "-uz", str(self.folder)], check=False)
        self.process = None

    def unmount(self) -> None:
        subprocess.run(["fusermount3", "-u", str(self.folder)], check=True)

    def forget(self) -> None:
        self.settle()
        self.stop()
        shutil.rmtree(self.cache, ignore_errors=True)
        self.start()

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None


class Rclone(Mounted):
    """rclone as its users run it for a disk-like folder."""

    name = "rclone"

    def __init__(self, place: Path) -> None:
        super().__init__(place)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def command(self) -> list[str]:
        options = ["--vfs-cache-mode", "full", "--vfs-write-back", "1s", "--cache-dir", str(self.cache)]
        control = ["--rc", "--rc-no-auth", "--rc-addr", f"127.0.0.1:{self.port}"]
        return [
            "rclone",
            "mount",
            "--config",
            "/dev/null",
            str(self.remote),
            str(self.folder),
            *options,
            *control,
        ]

    def settle(self) -> None:
        wait_for(lambda: self._waiting() == 0, "rclone to upload", 600)

    def _waiting(self) -> int:
        url = f"http://127.0.0.1:{self.port}/vfs/stats"
        with urllib.request.urlopen(urllib.request.Request(url, method="POST")) as reply:
            cache = json.load(reply)["diskCache"]
        return int(cache["uploadsInProgress"]) + int(cache["uploadsQueued"])


class Mountsync(Mounted):
    """mountsync with its defaults, but for the write delay, which is rclone's."""

    name = "mountsync"

    def command(self) -> list[str]:
        options = ["--cache-dir", str(self.cache), "--write-delay", "1s"]
        return ["mountsync", "mount", str(self.remote), str(self.folder), *options]

    def environment(self) -> dict[str, str]:
        return dict(os.environ) | {
            "XDG_STATE_HOME": str(self.place / "state"),
            "MOUNTSYNC_CONFIG": "/dev/null",
        }

    def settle(self) -> None:
        self._mountsync("flush", str(self.folder))

    def unmount(self) -> None:
        self._mountsync("umount", str(self.folder))

    def _mountsync(self, *args: str) -> None:
        subprocess.run(
            ["mountsync", *args], check=True, env=self.environment(), stderr=subprocess.DEVNULL, timeout=300
        )


TARGETS = {"native": Target, "rclone": Rclone, "mountsync": Mountsync}


def wait_for(condition: object, what: str, limit: float = 60) -> None:
    """Polls a condition; it is the client of other programs and has no event to wait for."""
    end = time.monotonic() + limit
    while not condition():  # type: ignore[operator]
        if time.monotonic() > end:
            raise TimeoutError(f"waited {limit} s for {what}")
        time.sleep(0.05)
