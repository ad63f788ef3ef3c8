"""Names of unfinished files, and how those that a crash left behind are found again.

An unfinished file lies in the folder where it will stand, so that it inherits what a file there
inherits, under `.OWNER.mountsync-tmp-RUNSERIAL`. OWNER is a random number that is kept in the state
folder: nobody but the same state folder's next process removes it. Folders in which this process
made such files are noted (NUL-ended, in `local-….attempts`) before the first one is made there, so
that recovery looks at them and not at the whole tree. A note is not synced: it survives the death of
the process; after a power cut an unfinished file may stay, hidden.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import re
import secrets
import threading
from pathlib import Path
from typing import Final

from mountsync.paths import RelPath, from_bytes, to_bytes

MARK: Final = ".mountsync-tmp-"
_NAME: Final = re.compile(r"\.[0-9a-f]{12}\.mountsync-tmp-[0-9a-f]{8,}")


def is_temporary(name: str) -> bool:
    """Whether a name is one that we, here or elsewhere, give to unfinished files."""
    return MARK in name and _NAME.fullmatch(name) is not None


class Temporaries:
    """Makes names for unfinished files of one storage and remembers where they are.

    Safe to use from several threads. With a state folder the owner's number and the notes are kept
    there; while another process holds them, or without one, the number is made for this process only.
    """

    def __init__(self, folder: bytes, state_dir: Path | None) -> None:
        self._run = secrets.token_hex(4)
        self._serial = itertools.count()
        self._lock = threading.Lock()
        self._noted: set[RelPath] = set()
        self._file = _open_notes(folder, state_dir)
        self._owner, self.left = self._load()
        """`left`: folders in which an earlier process may have left something."""

    def _load(self) -> tuple[str, frozenset[RelPath]]:
        if self._file is None:
            return secrets.token_hex(6), frozenset()
        owner, *folders = os.pread(self._file, os.fstat(self._file).st_size, 0).split(b"\0")
        if not re.fullmatch(rb"[0-9a-f]{12}", owner):
            owner = secrets.token_hex(6).encode()
            os.ftruncate(self._file, 0)
            os.write(self._file, owner + b"\0")
            return owner.decode(), frozenset()
        return owner.decode(), frozenset(map(from_bytes, folders[:-1]))  # a last one without its end is torn

    def name(self, folder: RelPath) -> bytes:
        """A new name for an unfinished file in `folder`; the folder is noted before this returns."""
        if folder not in self._noted:
            with self._lock:
                if self._file is not None:
                    os.write(self._file, to_bytes(folder) + b"\0")
                self._noted.add(folder)
        return f".{self._owner}{MARK}{self._run}{next(self._serial):x}".encode()

    def is_abandoned(self, name: str) -> bool:
        """Whether a name was given by an earlier process of this owner."""
        ours = f".{self._owner}{MARK}"
        return name.startswith(ours) and not name.startswith(ours + self._run) and is_temporary(name)

    def forget_left(self) -> None:
        """Drops the notes of earlier processes once their files are gone."""
        with self._lock:
            if self._file is not None:
                os.ftruncate(self._file, len(self._owner) + 1)
                os.write(self._file, b"".join(to_bytes(folder) + b"\0" for folder in self._noted))
            self.left = frozenset()

    def close(self) -> None:
        """Gives the notes back. Safe to call twice."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _open_notes(folder: bytes, state_dir: Path | None) -> int | None:
    """The notes, locked for us; None when there is no state folder or another process has them."""
    if state_dir is None:
        return None
    state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = f"local-{hashlib.sha256(folder).hexdigest()[:16]}.attempts"
    fd = os.open(state_dir / name, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        return None
    return fd
