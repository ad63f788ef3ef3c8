"""Commands that change a remote directly: mkdir, rm."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final

import click
import trio

from mountsync.cli.remotes import BackendOptions, opened_above, remote_command
from mountsync.cli.voice import say
from mountsync.errors import DirectoryNotEmpty, IsADirectory, NotFound, PathError, Unsupported, printable
from mountsync.model.entry import Entry, Kind, Problem
from mountsync.paths import RelPath, name_of, order_key
from mountsync.storage.api import Storage, SupportsBarrier, SupportsDirectories

_NAMED: Final = 3
"""Names that are said; the others are counted."""


@remote_command()
@click.argument("remote")
def mkdir(*, remote: str, backend_options: BackendOptions) -> None:
    """Make the folder that REMOTE names, and those above it; no error when it is there."""

    async def make() -> None:
        async with opened_above(remote, backend_options) as (storage, path):
            if not isinstance(storage, SupportsDirectories):
                kind = storage.info.type
                raise Unsupported(f"{kind} remotes have no folders without files", path=path)
            await storage.make_directory(path)
            await _settle(storage)

    trio.run(make)


@remote_command()
@click.argument("remote")
@click.option("-r", "--recursive", is_flag=True, help="A folder and all that is in it.")
def rm(*, remote: str, recursive: bool, backend_options: BackendOptions) -> int:
    """Remove the file that REMOTE names, or with -r the folder."""

    async def remove() -> int:
        async with opened_above(remote, backend_options) as (storage, path):
            failed = await _remove(storage, path, recursive=recursive)
            await _settle(storage)
            return failed

    return 3 if trio.run(remove) else 0


async def _settle(storage: Storage) -> None:
    if isinstance(storage, SupportsBarrier):
        await storage.barrier()


async def _remove(storage: Storage, path: RelPath, *, recursive: bool) -> int:
    """Removes what is at `path`; the number of paths that could not be removed, each told."""
    entry = await storage.stat(path)
    if entry is None:
        raise NotFound("there is nothing of this name", path=path)
    if entry.kind is not Kind.DIRECTORY:
        await storage.delete(path, expect=entry.token)
        return 0
    if not recursive:
        raise IsADirectory("it is a folder", path=path, hint="use -r to remove it with all that is in it")
    return 0 if await _remove_empty(storage, path) else await _remove_tree(storage, path)


async def _remove_empty(storage: Storage, path: RelPath) -> bool:
    """Removes the folder if it is empty; whether that was all. Raises when it can never go.

    Asked first, so that nothing in it is removed when the folder itself is to stay.
    """
    if not isinstance(storage, SupportsDirectories):
        return False
    try:
        await storage.remove_directory(path)
    except DirectoryNotEmpty:
        return False
    return True


async def _remove_tree(storage: Storage, path: RelPath) -> int:
    files: list[tuple[RelPath, Entry]] = []
    folders: list[RelPath] = [path]
    failed = 0
    async with storage.list(path, recursive=True) as batches:
        async for batch in batches:
            for found, item in batch:
                if isinstance(item, Problem):
                    say(f"{found}: {item.reason}")
                    failed += 1
                elif item.kind is Kind.DIRECTORY:
                    folders.append(found)
                else:
                    files.append((found, item))
    failed += await _delete_files(storage, files)
    if isinstance(storage, SupportsDirectories):
        for folder in sorted(folders, key=order_key, reverse=True):
            failed += await _told(partial(_remove_folder, storage), folder)
    return failed


async def _remove_folder(storage: SupportsDirectories, folder: RelPath) -> None:
    try:
        await storage.remove_directory(folder)
    except DirectoryNotEmpty as error:
        raise DirectoryNotEmpty(await _in_the_way(storage, folder), path=folder) from error


async def _in_the_way(storage: SupportsDirectories, folder: RelPath) -> str:
    """Why a folder stays that was emptied as far as it is shown."""
    names: list[str] = []
    if isinstance(storage, Storage):
        async with storage.list(folder, recursive=False) as batches:
            names = [name_of(found) async for batch in batches for found, _ in batch if found != folder]
    if not names:
        return "what is left in it is not shown, for it is of the storage or of mountsync (`.mountsync`)"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"it still holds {', '.join(map(printable, sorted(names)[:_NAMED]))}{more}"


async def _delete_files(storage: Storage, files: list[tuple[RelPath, Entry]]) -> int:
    """Deletes several at a time; the number of those that could not be deleted, each told."""
    failed = 0
    waiting = iter(files)

    async def worker() -> None:
        nonlocal failed
        for path, entry in waiting:
            failed += await _told(partial(storage.delete, expect=entry.token), path)

    async with trio.open_nursery() as nursery:
        for _ in range(max(1, storage.info.concurrency)):
            nursery.start_soon(worker)
    return failed


async def _told(work: Callable[[RelPath], Awaitable[None]], path: RelPath) -> int:
    try:
        await work(path)
    except PathError as error:
        say(str(error))
        return 1
    return 0
