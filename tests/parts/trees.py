"""Compares folders and watches one: what the remote holds, at every time."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from mountsync.formats.local_names import LocalNames

OURS = ".mountsync"
_BLOCK = 1 << 20


def walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Relative path and attributes of everything below, our own folder on a remote left out."""
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        for name in sorted(os.listdir(root / folder)):
            path = os.path.join(folder, name)
            if path == OURS:
                continue
            info = os.lstat(root / path)
            yield path, info
            if stat.S_ISDIR(info.st_mode):
                waiting.append(path)


def sha256(path: Path) -> str:
    with open(path, "rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def describe(root: Path, path: str, info: os.stat_result) -> str:
    """Kind, mode, time and content: all that has to be the same on both sides."""
    mode = f"{stat.S_IMODE(info.st_mode):04o}"
    if stat.S_ISDIR(info.st_mode):
        return f"folder {mode}"
    if stat.S_ISLNK(info.st_mode):
        return f"link to {os.readlink(root / path)}"
    if stat.S_ISREG(info.st_mode):
        return f"file {mode} {info.st_size} bytes {info.st_mtime_ns} {sha256(root / path)}"
    return "special"


def tree(root: Path, ignore: Callable[[str], bool] = lambda path: False) -> dict[str, str]:
    """What `describe` says of everything below; special files are left out, they never travel."""
    found = {path: describe(root, path, info) for path, info in walk(root) if not ignore(path)}
    return {path: said for path, said in found.items() if said != "special"}


def differences(here: Path, there: Path, *, ignore: Callable[[str], bool] = lambda path: False) -> list[str]:
    """One sentence per path that is not the same in both folders."""
    a, b = tree(here, ignore), tree(there, ignore)
    return [
        f"{path}: {a.get(path, 'absent')} in {here}, {b.get(path, 'absent')} in {there}"
        for path in sorted(a.keys() | b.keys())
        if a.get(path) != b.get(path)
    ]


def programs_leftovers(root: Path) -> list[str]:
    """Temporary and lock files of programs, and unfinished files of ours."""
    local = LocalNames()
    return [
        path
        for path, _ in walk(root)
        if local.holds_name(os.path.basename(path))
        or ".mountsync-tmp-" in path
        or path.endswith((".lock", "-journal", "-wal", "-shm", ".tmp", "~lock"))
    ]


class Witness:
    """Reads every file of a folder again and again, whenever it is another one, and keeps its digest.

    `with Witness(remote) as witness: …` — then `witness.seen` holds all contents of each path, and
    `witness.names` every name that ever stood there.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.seen: dict[str, set[str]] = {}
        self.versions: dict[str, set[int]] = {}
        """Inode numbers: how often a path was written."""
        self._known: dict[str, tuple[int, int, int]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.failure: BaseException | None = None

    def __enter__(self) -> Witness:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(30)
        if self.failure is not None:
            raise self.failure

    def _watch(self) -> None:
        try:
            while not self._ended.wait(0.01):
                self._look("")
            self._look("")
        except BaseException as error:
            self.failure = error

    def _look(self, folder: str) -> None:
        try:
            entries = list(os.scandir(self._root / folder))
        except (FileNotFoundError, NotADirectoryError):
            return
        for entry in entries:
            path = os.path.join(folder, entry.name)
            if path == OURS or ".mountsync-tmp-" in entry.name:
                continue  # unfinished files are hidden by their name
            if entry.is_dir(follow_symlinks=False):
                self._look(path)
            elif entry.is_file(follow_symlinks=False):
                self._read(path)

    def _read(self, path: str) -> None:
        try:
            with open(self._root / path, "rb", buffering=0) as file:
                info = os.fstat(file.fileno())
                key = (info.st_ino, info.st_size, info.st_mtime_ns)
                if self._known.get(path) == key:
                    return
                self._known[path] = key
                self.versions.setdefault(path, set()).add(info.st_ino)
                self.seen.setdefault(path, set()).add(hashlib.file_digest(file, "sha256").hexdigest())
        except FileNotFoundError:
            return
