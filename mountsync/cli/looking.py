"""Commands that look at a remote: ls, lsd, lsl, lsf, cat, hashsum. They change nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import click
import trio

from mountsync.cli import hashing
from mountsync.cli.forms import Digests, Entries, FileDigest, ListedEntry, ListedProblem
from mountsync.cli.output import emit_json, shown
from mountsync.cli.remotes import BackendOptions, opened, opened_above, remote_command, single_file
from mountsync.cli.voice import say
from mountsync.errors import IsADirectory, NotADirectory, NotFound, UsageError
from mountsync.model.entry import Entry, Kind, Problem
from mountsync.paths import ROOT, RelPath, name_of, order_key
from mountsync.storage.api import Storage
from mountsync.storage.presence import insist_there

_remote = click.argument("remote")
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON (schema: docs/json.schema.json).")
_recursive = click.option("-R", "--recursive", is_flag=True, help="Also what is in folders below.")


@dataclass(slots=True)
class Seen:
    """What a remote holds below one folder, sorted, and what could not be looked at."""

    entries: list[tuple[RelPath, Entry]] = field(default_factory=list)
    problems: list[tuple[RelPath, Problem]] = field(default_factory=list)


async def see(storage: Storage, *, recursive: bool) -> Seen:
    """Lists a storage from its root. Raises what its `list` raises."""
    seen = Seen()
    async with storage.list(ROOT, recursive=recursive) as batches:
        async for batch in batches:
            for path, item in batch:
                if isinstance(item, Problem):
                    seen.problems.append((path, item))
                else:
                    seen.entries.append((path, item))
    seen.entries.sort(key=lambda pair: order_key(pair[0]))
    seen.problems.sort(key=lambda pair: order_key(pair[0]))
    return seen


async def _see_there(storage: Storage, remote: str, *, recursive: bool) -> Seen:
    """As `see`. Raises NotFound when nothing is there because the storage's root is not."""
    seen = await see(storage, recursive=recursive)
    if not seen.entries and not seen.problems:
        await insist_there(storage, remote)
    return seen


async def _look(remote: str, flags: BackendOptions, *, recursive: bool) -> Seen:
    """What is in the folder that `remote` names, or the one file that it names."""
    try:
        async with opened(remote, flags) as storage:
            return await _see_there(storage, remote, recursive=recursive)
    except (NotFound, NotADirectory):
        single = await single_file(remote, flags)
        if single is None:
            raise
        place, entry = single
        return Seen(entries=[(RelPath(name_of(place.path)), entry)])


def _show(
    remote: str,
    flags: BackendOptions,
    *,
    recursive: bool,
    as_json: bool,
    wanted: Callable[[Entry], bool],
    line: Callable[[RelPath, Entry], str],
) -> int:
    async def look() -> Seen:
        return await _look(remote, flags, recursive=recursive)

    seen = trio.run(look)
    entries = [pair for pair in seen.entries if wanted(pair[1])]
    if as_json:
        emit_json(
            Entries(
                remote=remote,
                entries=[_form(*pair) for pair in entries],
                problems=[ListedProblem(path=path, reason=each.reason) for path, each in seen.problems],
            )
        )
    else:
        click.echo("".join(f"{line(path, entry)}\n" for path, entry in entries), nl=False)
        for path, each in seen.problems:
            say(f"{path}: {each.reason}")
    return 3 if seen.problems else 0


def _form(path: RelPath, entry: Entry) -> ListedEntry:
    stamp = entry.mtime_ns
    return ListedEntry(
        path=path,
        kind=entry.kind.value,
        size=entry.size,
        mtime=None if stamp is None else _iso(stamp),
        mtime_ns=stamp,
        target=entry.target,
        sha256=entry.digest,
    )


def _iso(ns: int) -> str:
    moment = datetime.fromtimestamp(ns // 10**9, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f"{moment}.{ns % 10**9:09d}Z"


def _local_time(ns: int | None, *, fraction: bool) -> str:
    if ns is None:
        return "-" * 19
    text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(ns // 10**9))
    return f"{text}.{ns % 10**9:09d}" if fraction else text


def _is_file(entry: Entry) -> bool:
    return entry.kind is not Kind.DIRECTORY


@remote_command()
@_remote
@_json
def ls(*, remote: str, as_json: bool, backend_options: BackendOptions) -> int:
    """List the files of REMOTE and below: size in bytes, path."""
    return _show(
        remote,
        backend_options,
        recursive=True,
        as_json=as_json,
        wanted=_is_file,
        line=lambda path, entry: f"{entry.size:9d} {shown(path)}",
    )


@remote_command()
@_remote
@_json
def lsl(*, remote: str, as_json: bool, backend_options: BackendOptions) -> int:
    """List the files of REMOTE and below: size in bytes, local time, path."""
    return _show(
        remote,
        backend_options,
        recursive=True,
        as_json=as_json,
        wanted=_is_file,
        line=lambda path, entry: (
            f"{entry.size:9d} {_local_time(entry.mtime_ns, fraction=True)} {shown(path)}"
        ),
    )


@remote_command()
@_remote
@_recursive
@_json
def lsd(*, remote: str, recursive: bool, as_json: bool, backend_options: BackendOptions) -> int:
    """List the folders of REMOTE: -1, local time, -1, name, as rclone does."""
    return _show(
        remote,
        backend_options,
        recursive=recursive,
        as_json=as_json,
        wanted=lambda entry: not _is_file(entry),
        line=lambda path, entry: (
            f"{-1:12d} {_local_time(entry.mtime_ns, fraction=False)} {-1:9d} {shown(path)}"
        ),
    )


_COLUMNS: Final[dict[str, Callable[[RelPath, Entry], str]]] = {
    "p": lambda path, entry: shown(path) + ("" if _is_file(entry) else "/"),
    "s": lambda _, entry: str(entry.size if _is_file(entry) else -1),
    "t": lambda _, entry: _local_time(entry.mtime_ns, fraction=False),
}


@remote_command()
@_remote
@_recursive
@click.option("--format", "columns", default="p", show_default=True, help="Columns: p path, s size, t time.")
@click.option("--separator", default=";", show_default=True, help="What stands between columns.")
@click.option("--files-only", is_flag=True, help="No folders.")
@click.option("--dirs-only", is_flag=True, help="Only folders.")
@_json
def lsf(
    *,
    remote: str,
    recursive: bool,
    columns: str,
    separator: str,
    files_only: bool,
    dirs_only: bool,
    as_json: bool,
    backend_options: BackendOptions,
) -> int:
    """List names in REMOTE, folders with a slash at the end, for scripts."""
    if not columns or any(letter not in _COLUMNS for letter in columns):
        raise UsageError(f"--format: {columns!r} is not made of p, s and t")
    return _show(
        remote,
        backend_options,
        recursive=recursive,
        as_json=as_json,
        wanted=lambda entry: not (files_only and not _is_file(entry)) and not (dirs_only and _is_file(entry)),
        line=lambda path, entry: separator.join(_COLUMNS[letter](path, entry) for letter in columns),
    )


@remote_command()
@click.argument("remotes", metavar="REMOTE...", nargs=-1, required=True)
@click.option("--offset", type=int, default=0, help="Begin here; negative: so many bytes from the end.")
@click.option("--count", type=click.IntRange(min=0), help="At most so many bytes.")
def cat(*, remotes: tuple[str, ...], offset: int, count: int | None, backend_options: BackendOptions) -> None:
    """Write the content of files to standard output, one after the other."""

    async def copy() -> None:
        for remote in remotes:
            async with opened_above(remote, backend_options) as (storage, path):
                await _copy_out(storage, path, offset, count)

    trio.run(copy)


async def _copy_out(storage: Storage, path: RelPath, offset: int, count: int | None) -> None:
    entry = await file_at(storage, path)
    start = offset if offset >= 0 else max(0, entry.size + offset)
    output: Any = sys.stdout.buffer
    async with storage.read(path, start, count, expect=entry.token) as pieces:
        async for piece in pieces:
            await trio.to_thread.run_sync(output.write, piece)
    await trio.to_thread.run_sync(output.flush)


async def file_at(storage: Storage, path: RelPath) -> Entry:
    """The file at `path`. Raises NotFound, IsADirectory, or NotFound for a link."""
    entry = await storage.stat(path)
    if entry is None:
        raise NotFound("there is no such file", path=path)
    if entry.kind is Kind.DIRECTORY:
        raise IsADirectory("it is a folder", path=path, hint="name a file")
    if entry.kind is Kind.SYMLINK:
        raise NotFound(f"it is a link to {entry.target!r}", path=path, hint="name a file")
    return entry


@remote_command()
@click.argument("algorithm", metavar="sha256|md5|sha1", type=click.Choice(["sha256", "md5", "sha1"]))
@_remote
@_json
def hashsum(*, algorithm: str, remote: str, as_json: bool, backend_options: BackendOptions) -> int:
    """Print the digest of each file of REMOTE and below, as sha256sum does.

    Digests that the remote knows are asked for; otherwise contents are read.
    """
    found: list[FileDigest] = []

    def take(path: str, digest: str) -> None:
        if as_json:
            found.append(FileDigest(path=path, digest=digest))
        else:
            click.echo(f"{digest}  {shown(path)}")

    async def work() -> list[ListedProblem]:
        return await _digests(remote, backend_options, algorithm, take)

    problems = trio.run(work)
    if as_json:
        emit_json(Digests(remote=remote, hash=algorithm, files=found, problems=problems))
    for each in () if as_json else problems:
        say(f"{each.path}: {each.reason}")
    return 3 if problems else 0


async def _digests(
    remote: str, flags: BackendOptions, algorithm: str, take: Callable[[str, str], None]
) -> list[ListedProblem]:
    single = await single_file(remote, flags)
    if single is not None:
        async with opened_above(remote, flags) as (storage, path):
            shown_as = _named(name_of(path), take)
            return await hashing.digest_all(storage, [(path, single[1])], algorithm, shown_as)
    async with opened(remote, flags) as storage:
        seen = await _see_there(storage, remote, recursive=True)
        files = [(path, entry) for path, entry in seen.entries if entry.kind is Kind.FILE]
        failed = await hashing.digest_all(storage, files, algorithm, take)
    return [ListedProblem(path=path, reason=each.reason) for path, each in seen.problems] + failed


def _named(name: str, take: Callable[[str, str], None]) -> Callable[[str, str], None]:
    return lambda _path, digest: take(name, digest)
