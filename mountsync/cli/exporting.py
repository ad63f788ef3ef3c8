"""`mountsync export`: a readable copy of what is on this machine, of a mount that runs or that cannot."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import click

from mountsync.cli.checking import recovered, remote_of
from mountsync.cli.forms import Exported, Failed
from mountsync.cli.output import counted, emit_json, shown
from mountsync.cli.running import mount_at
from mountsync.cli.voice import say
from mountsync.content.store import Store
from mountsync.errors import UsageError, describe, from_os_error
from mountsync.formats.remote_spec import is_local_path
from mountsync.formats.sizes import human_size
from mountsync.settings import state_folder, state_root
from mountsync.state.database import Database, StateLock
from mountsync.vfs.copies import Item, is_ordinary, items

_STATE: Final = "user.mountsync.state"
_ELSEWHERE: Final = (b"cloud", b"partial")
_SAY_S: Final = 5.0


@dataclass(slots=True)
class _Tally:
    """What was copied so far; `links` leads from a file to the first of its names."""

    files: int = 0
    size: int = 0
    missing: list[str] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)
    links: dict[int, bytes] = field(default_factory=dict)
    times: list[tuple[bytes, int]] = field(default_factory=list)
    said: float = field(default_factory=time.monotonic)


@click.command()
@click.argument("target", metavar="MOUNTPOINT")
@click.argument("directory", metavar="DIR")
@click.option("--cache-dir", metavar="DIR", help="The state folder, if the mount has its own.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON (schema: docs/json.schema.json).")
def export(*, target: str, directory: str, cache_dir: str | None, as_json: bool) -> int:
    """Copy what is on this machine of a mount into the empty or new folder DIR.

    Works while it is mounted, and when it is not: then from its state folder, without asking the remote.
    MOUNTPOINT may also be the remote, or NAME of a `[mount.NAME]` section. Files whose bytes are only on
    the remote are not downloaded; they are counted, and named by --json.

    Exit code: 3 when something that is here could not be copied.
    """
    goal = _empty(Path(directory))
    tally = _Tally()
    running = mount_at(target) if is_local_path(target) or ":" not in target else None
    if running is not None:
        _copy_all(_mounted(os.fsencode(running.mountpoint), tally), goal, tally)
    else:
        _copy_state(_state_of(target, cache_dir), goal, tally)
    _report(tally, as_json=as_json)
    return 3 if tally.failed else 0


def _empty(goal: Path) -> bytes:
    try:
        goal.mkdir(parents=True, exist_ok=True)
        if any(goal.iterdir()):
            raise UsageError(f"{goal} is not empty", hint="name a new folder")
    except OSError as error:
        raise from_os_error(error, str(goal)) from error
    return os.fsencode(goal)


def _state_of(target: str, cache_dir: str | None) -> Path:
    folder = Path(cache_dir).absolute() if cache_dir else state_folder(remote_of(target), state_root())
    if not (folder / "state.db").exists():
        raise UsageError(
            f"there is no state of {target} on this machine", hint="name its remote, or its --cache-dir"
        )
    return folder


def _copy_state(folder: Path, goal: bytes, tally: _Tally) -> None:
    lock = StateLock(str(folder))
    try:
        with contextlib.closing(Database(str(folder / "state.db"))) as database:
            store = Store(str(folder / "content"))
            recovered(database, store)
            _copy_all(items(database, store), goal, tally)
    finally:
        lock.release()


def _mounted(root: bytes, tally: _Tally) -> Iterator[Item]:
    """Everything in a running mount, parents first; what cannot be looked at is noted as failed.

    Looking at the state of a file downloads nothing.
    """
    waiting = [b""]
    while waiting:
        folder = waiting.pop()
        with _noted(folder, tally):
            for name in os.listdir(os.path.join(root, folder)):
                path = os.path.join(folder, name)
                with _noted(path, tally):
                    item = _item(os.path.join(root, path), path)
                    if stat.S_ISDIR(item.mode):
                        waiting.append(path)
                    yield item


def _item(place: bytes, path: bytes) -> Item:
    found = os.lstat(place)
    here = stat.S_ISREG(found.st_mode) and os.getxattr(place, _STATE) not in _ELSEWHERE
    return Item(
        path=path,
        mode=found.st_mode,
        mtime_ns=found.st_mtime_ns,
        size=found.st_size,
        link=found.st_ino,
        target=os.readlink(place) if stat.S_ISLNK(found.st_mode) else None,
        open=partial(os.open, place, os.O_RDONLY | os.O_CLOEXEC) if here else None,
        missing=stat.S_ISREG(found.st_mode) and not here,
    )


@contextlib.contextmanager
def _noted(path: bytes, tally: _Tally) -> Iterator[None]:
    """What the system refuses is noted, and the rest goes on."""
    try:
        yield
    except OSError as error:
        tally.failed.append(_failed(from_os_error(error, os.fsdecode(path or b"."))))


def _copy_all(found: Iterator[Item], goal: bytes, tally: _Tally) -> None:
    for item in found:
        with _noted(item.path, tally):
            _copy(item, os.path.join(goal, item.path), tally)
        _tell(tally)
    for path, mtime_ns in reversed(tally.times):
        with contextlib.suppress(OSError):
            os.utime(path, ns=(mtime_ns, mtime_ns))


def _failed(error: Exception) -> Failed:
    told = describe(error)
    return Failed(class_=told["class"], message=told["message"], path=told.get("path"))


def _copy(item: Item, goal: bytes, tally: _Tally) -> None:
    if item.missing:
        tally.missing.append(os.fsdecode(item.path))
    elif not is_ordinary(item):
        return
    elif item.target is not None:
        os.symlink(item.target, goal)
        os.utime(goal, ns=(item.mtime_ns, item.mtime_ns), follow_symlinks=False)
    elif stat.S_ISDIR(item.mode):
        os.mkdir(goal, 0o700 | stat.S_IMODE(item.mode))
        tally.times.append((goal, item.mtime_ns))
    elif item.link in tally.links:
        os.link(tally.links[item.link], goal)
    else:
        _copy_file(item, goal)
        tally.links[item.link] = goal
        tally.files += 1
        tally.size += item.size


def _copy_file(item: Item, goal: bytes) -> None:
    assert item.open is not None
    with open(item.open(), "rb", buffering=0) as source, open(goal, "xb", buffering=0) as copy:
        shutil.copyfileobj(source, copy, 1 << 20)
        os.fchmod(copy.fileno(), stat.S_IMODE(item.mode) & 0o777)
        os.utime(copy.fileno(), ns=(item.mtime_ns, item.mtime_ns))


def _tell(tally: _Tally) -> None:
    """A line now and then; on a terminal the same one again and again."""
    now = time.monotonic()
    terminal = sys.stderr.isatty()
    if now - tally.said > (0.25 if terminal else _SAY_S):
        tally.said = now
        line = f"{counted(tally.files, 'file')} of {human_size(tally.size)} copied"
        click.echo(f"\r\x1b[K{line}" if terminal else line, err=True, nl=not terminal)


def _report(tally: _Tally, *, as_json: bool) -> None:
    if sys.stderr.isatty():
        click.echo("\r\x1b[K", err=True, nl=False)
    if as_json:
        emit_json(Exported(files=tally.files, bytes=tally.size, missing=tally.missing, failed=tally.failed))
        return
    for failed in tally.failed:
        say(failed.message)
    click.echo(f"{counted(tally.files, 'file')} of {human_size(tally.size)} copied")
    if tally.missing:
        first = shown(tally.missing[0])
        click.echo(f"{counted(len(tally.missing), 'file')} only on the remote, {first} among them")
