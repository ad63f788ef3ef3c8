"""Which mounts run now, and where each of them listens.

Each running mount keeps one small file in `$XDG_STATE_HOME/mountsync/running/`, named after its mount
point. A file whose process is gone is left over from a crash and is removed by whoever meets it.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from pathlib import Path

import msgspec

from mountsync.control import wire
from mountsync.errors import MountError
from mountsync.settings import state_root


class MountRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=False):
    """A running mount, as others find it."""

    name: str
    remote: str
    mountpoint: str
    pid: int
    started: str
    """The process's start, as the kernel counts it, so that a reused pid is not taken for the mount."""
    socket: str
    state_dir: str


def announce(*, name: str, remote: str, mountpoint: Path, state_dir: Path, socket: Path) -> MountRecord:
    """Makes this process's mount known to the commands; `withdraw` ends it."""
    pid = os.getpid()
    record = MountRecord(
        name=name,
        remote=remote,
        mountpoint=str(mountpoint),
        pid=pid,
        started=_start_of(pid) or "",
        socket=str(socket),
        state_dir=str(state_dir),
    )
    target = _file_of(mountpoint)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = target.with_suffix(f".{pid}.new")
    fresh.write_bytes(wire.encode(record))
    fresh.rename(target)
    return record


def withdraw(record: MountRecord) -> None:
    """Forgets a mount that `announce` made known, unless another process has taken its place."""
    target = _file_of(Path(record.mountpoint))
    if _load(target) == record:
        target.unlink(missing_ok=True)


def running() -> list[MountRecord]:
    """Every mount of this user whose process lives, by mount point."""
    found = []
    with suppress(FileNotFoundError):
        for file in sorted((state_root() / "running").glob("*.json")):
            record = _load(file)
            if record is not None and _lives(record):
                found.append(record)
            else:
                file.unlink(missing_ok=True)
    return sorted(found, key=lambda record: record.mountpoint)


def holder_of(path: Path) -> tuple[MountRecord, str]:
    """The running mount that holds `path`, and the path relative to its root.

    Only text is compared, so that a hanging or dead mount cannot stop the search. Raises MountError.
    """
    wanted = plain(path)
    inside = [record for record in running() if wanted.is_relative_to(record.mountpoint)]
    if not inside:
        raise MountError("no mount of mountsync is there", path=str(path), hint="see `mountsync status`")
    nearest = max(inside, key=lambda record: len(record.mountpoint))
    relative = wanted.relative_to(nearest.mountpoint)
    return nearest, "" if relative == Path() else str(relative)


def plain(path: Path) -> Path:
    """Absolute, links of the parent folders resolved, the last part untouched: it may be a dead mount."""
    absolute = Path(os.path.abspath(os.path.expanduser(path)))
    try:
        return Path(os.path.realpath(absolute.parent)) / absolute.name
    except OSError:
        return absolute


def _file_of(mountpoint: Path) -> Path:
    digest = hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:24]
    return state_root() / "running" / f"{digest}.json"


def _load(file: Path) -> MountRecord | None:
    try:
        return wire.decode(file.read_bytes(), MountRecord)
    except (OSError, msgspec.DecodeError):
        return None


def is_killed(record: MountRecord) -> bool:
    """Whether the process was killed and cannot end: a zombie whose other threads wait in the kernel."""
    with suppress(OSError):
        return _stat_of(record.pid)[0] == "Z" and _lives(record)
    return False


def _lives(record: MountRecord) -> bool:
    return _start_of(record.pid) == record.started


def _start_of(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat; None when there is no such process."""
    with suppress(OSError):
        return _stat_of(pid)[19]
    return None


def _stat_of(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the third one, the state, on."""
    text = Path(f"/proc/{pid}/stat").read_bytes()
    return text.rpartition(b")")[2].decode("ascii").split()
