"""The state of a pair: where it is, and that only one process at a time has it."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mountsync.errors import StateLocked
from mountsync.state.database import StateLock, make_folder
from mountsync.state.pairs import FILE, PairState, copied


def pair_id(a: str, b: str) -> str:
    """The name of a pair of normalised specs, the same on each start; it is also its folder's name."""
    joined = f"{a}\0{b}".encode("utf-8", "surrogateescape")
    readable = [re.sub(r"[^A-Za-z0-9]+", "-", spec).strip("-")[-20:].strip("-") for spec in (a, b)]
    return f"pair-{'-'.join(filter(None, readable))}-{hashlib.sha256(joined).hexdigest()[:12]}"


@contextmanager
def opened_state(folder: Path, *, dry_run: bool) -> Iterator[PairState]:
    """The pair's state. Raises StateLocked while another process works on the pair.

    In a dry run it is a copy, nothing on the disk changes, and no lock is needed.
    """
    if dry_run:
        state, temporary = copied(str(folder))
        try:
            yield state
        finally:
            state.close()
            shutil.rmtree(temporary)
        return
    make_folder(str(folder))
    lock = _locked(folder)
    try:
        state = PairState(str(folder / FILE))
        try:
            yield state
        finally:
            state.close()
    finally:
        lock.release()


def _locked(folder: Path) -> StateLock:
    try:
        return StateLock(str(folder))
    except StateLocked as error:
        who = f"process {error.pid}" if error.pid else "another process"
        raise StateLocked(
            f"{who} syncs this pair now", pid=error.pid, hint="wait for it, or end it; nothing needs a reset"
        ) from error
