"""`mountsync fsck`: is the local state of a mount sound, can every object of a remote be read."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import click
import trio

from mountsync.cli.forms import Damage, Verified
from mountsync.cli.looking import see
from mountsync.cli.output import counted, emit_json, shown
from mountsync.cli.remotes import BackendOptions, absolute_spec, configuration, opened, remote_command
from mountsync.cli.running import mount_at
from mountsync.cli.voice import say
from mountsync.content.store import Store
from mountsync.control.directory import plain
from mountsync.errors import PathError, StateDamaged, StateLocked, UsageError
from mountsync.formats.remote_spec import is_local_path, is_remote_name
from mountsync.formats.sizes import human_size
from mountsync.model.entry import Entry, Kind
from mountsync.paths import RelPath
from mountsync.settings import state_folder, state_root
from mountsync.state.database import Database, StateLock
from mountsync.state.journal import Journal
from mountsync.state.tree import Tree
from mountsync.storage.api import Storage, SupportsHashes
from mountsync.storage.chunker import ChunkerStorage
from mountsync.storage.chunker import fsck as chunks
from mountsync.vfs.fsck import check
from mountsync.vfs.recovery import recover
from mountsync.vfs.survey import Survey, survey


@remote_command()
@click.argument("target", metavar="MOUNTPOINT-or-REMOTE")
@click.option("--cache-dir", metavar="DIR", help="The state folder, if the mount has its own.")
@click.option(
    "--repair",
    is_flag=True,
    help="Mend the local state as the next mount would; finish half-done replacements in a chunker.",
)
@click.option("--read", "read_all", is_flag=True, help="Also read every byte of the remote.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def fsck(
    *,
    target: str,
    cache_dir: str | None,
    repair: bool,
    read_all: bool,
    as_json: bool,
    backend_options: BackendOptions,
) -> int:
    """Verify the local state of a mount (which must not be mounted now), then the remote.

    Exit code: 3 when something is damaged, 4 when the state cannot be used at all.
    """
    spec = remote_of(target)
    folder = Path(cache_dir).absolute() if cache_dir else state_folder(spec, state_root())
    damages: list[Damage] = []
    checked = 0
    if (folder / "state.db").exists():
        checked, damages = _check_state(folder, repair=repair, quiet=as_json)
    elif cache_dir:
        raise UsageError(f"{folder} holds no state of mountsync")

    async def look() -> tuple[int, list[Damage]]:
        async with opened(spec, backend_options) as storage:
            return await _check_remote(storage, repair=repair, read_all=read_all)

    objects, wrong = trio.run(look)
    damages += wrong
    _report(Verified(subject=target, checked=checked + objects, damages=damages), as_json=as_json)
    return 3 if any(not damage.repaired for damage in damages) else 0


def remote_of(target: str) -> str:
    """The remote that a mount point, a section's name or a spec stands for."""
    record = mount_at(target) if is_local_path(target) else None
    if record is not None:
        raise StateLocked(
            f"{target} is mounted by process {record.pid}", pid=record.pid, hint="unmount it first"
        )
    mounts = configuration().mounts
    if is_remote_name(target) and target in mounts:
        return absolute_spec(str(mounts[target].get("remote", "")))
    for section in mounts.values():
        place = section.get("mountpoint")
        if is_local_path(target) and place and plain(Path(str(place))) == plain(Path(target)):
            return absolute_spec(str(section.get("remote", "")))
    return absolute_spec(target)


def _report(verified: Verified, *, as_json: bool) -> None:
    if as_json:
        emit_json(verified)
        return
    for damage in verified.damages:
        where = f"{damage.path}: " if damage.path is not None else ""
        say(f"{where}{damage.what}" + (" (repaired)" if damage.repaired else ""))
    click.echo(
        f"{counted(verified.checked, 'entry')} checked, {counted(len(verified.damages), 'damage')} found"
    )


def _check_state(folder: Path, *, repair: bool, quiet: bool) -> tuple[int, list[Damage]]:
    lock = StateLock(str(folder))
    try:
        damages = _damages_of(folder, repair=repair)
        left = survey(folder)
    finally:
        lock.release()
    if not quiet:
        _tell(left)
    return left.known, damages


def _damages_of(folder: Path, *, repair: bool) -> list[Damage]:
    try:
        database = Database(str(folder / "state.db"))
    except StateDamaged as error:
        return [Damage(path=str(folder), what=str(error), repaired=False)]
    with contextlib.closing(database):
        store = Store(str(folder / "content"))
        found = list(_flaws(database, store))
        if repair and found:
            recovered(database, store)
        remaining = set(_flaws(database, store)) if repair else set(found)
    return [Damage(path=None, what=each, repaired=each not in remaining) for each in found]


def _flaws(database: Database, store: Store) -> Iterator[str]:
    for (line,) in database.rows("PRAGMA integrity_check"):
        if line != "ok":
            yield f"database: {line}"
    yield from check(database, store)


def recovered(database: Database, store: Store) -> None:
    """What the start of a mount does."""
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    recover(database, Tree(database), Journal(database), store, now_ns=time.time_ns(), boot=boot)


def _tell(left: Survey) -> None:
    click.echo(
        f"{counted(left.known, 'entry')} known, {counted(len(left.unsent), 'change')} not on the remote yet, "
        f"{counted(left.content_files, 'content file')} of {human_size(left.content_bytes)}"
    )
    for each in left.unsent:
        where = f", content in {each.content}" if each.content is not None else ""
        click.echo(f"  not on the remote: {shown(each.path)} ({human_size(each.size)}{where})")
    if left.unreadable is not None:
        click.echo(f"  the rest of the database cannot be read: {left.unreadable}")


async def _check_remote(storage: Storage, *, repair: bool, read_all: bool) -> tuple[int, list[Damage]]:
    damages = await _check_chunks(storage, repair=repair) if isinstance(storage, ChunkerStorage) else []
    seen = await see(storage, recursive=True)
    known = {damage.path for damage in damages if not damage.repaired}
    damages += [
        Damage(path=path, what=each.reason, repaired=False)
        for path, each in seen.problems
        if path not in known
    ]
    if read_all:
        for path, entry in seen.entries:
            if entry.kind is Kind.FILE and path not in known:
                damages += await _read_through(storage, path, entry)
    return len(seen.entries), damages


async def _check_chunks(storage: ChunkerStorage, *, repair: bool) -> list[Damage]:
    """What is wrong with files in chunks; with `repair`, what was finished is told as repaired."""
    found = await chunks.check(storage)
    left = {finding.path: finding for finding in (await chunks.repair(storage, found) if repair else found)}
    return [
        Damage(
            path=finding.path,
            what=f"{finding.fault}: {left.get(finding.path, finding).reason}",
            repaired=finding.path not in left,
        )
        for finding in found
    ]


async def _read_through(storage: Storage, path: RelPath, entry: Entry) -> list[Damage]:
    """Reads a file to its end; a wrong length or digest, or an error, is damage."""
    length = 0
    try:
        wanted = await _digests_kept(storage, path, entry)
        running = {name: hashlib.new(name, usedforsecurity=False) for name in wanted}
        async with storage.read(path, expect=entry.token) as pieces:
            async for piece in pieces:
                length += len(piece)
                for digest in running.values():
                    await trio.to_thread.run_sync(digest.update, piece)
    except PathError as error:
        return [Damage(path=path, what=error.reason, repaired=False)]
    if length != entry.size:
        return [Damage(path=path, what=f"{length} bytes instead of {entry.size}", repaired=False)]
    wrong = [name for name, digest in running.items() if digest.hexdigest() != wanted[name]]
    return [Damage(path=path, what=f"its content does not have its {name}", repaired=False) for name in wrong]


async def _digests_kept(storage: Storage, path: RelPath, entry: Entry) -> dict[str, str]:
    """The digests that the remote keeps of a file, by the name of the algorithm."""
    kept = dict(await storage.hashes(path, expect=entry.token)) if isinstance(storage, SupportsHashes) else {}
    return kept if entry.digest is None else kept | {"sha256": entry.digest}
