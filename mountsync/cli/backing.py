"""`backups`: what syncs replaced or deleted, and how to have it back."""

from __future__ import annotations

import time

import click
import trio

from mountsync.cli.forms import KeptObject, KeptObjects
from mountsync.cli.output import counted, emit_json, shown
from mountsync.cli.remotes import BackendOptions, RemoteCommand, opened
from mountsync.engine.pair.backups import Kept, kept_in, restore
from mountsync.errors import NotFound, UsageError
from mountsync.formats.sizes import human_size
from mountsync.paths import RelPath, is_within, rel_path


@click.group()
def backups() -> None:
    """List and restore what `bisync`, `copy` and `sync` replaced or deleted.

    It lies on the side that it was on, in .mountsync/backups/JOB/TIME/PATH; times are UTC.
    """


@backups.command(name="list", cls=RemoteCommand)
@click.argument("remote")
@click.argument("path", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def list_(*, remote: str, path: str | None, as_json: bool, backend_options: BackendOptions) -> None:
    """List the kept versions on REMOTE, oldest first; with PATH only those at and below it."""
    found = trio.run(_find, remote, path, None, backend_options)
    _tell(remote, found, as_json=as_json)


@backups.command(name="restore", cls=RemoteCommand)
@click.argument("remote")
@click.argument("path", required=False)
@click.option(
    "--time", "stamp", metavar="TIME", help="Of which run, as `backups list` shows it.  [default: newest]"
)
@click.option(
    "--all", "everything", is_flag=True, help="Everything that the run of --time replaced or deleted."
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def restore_(
    *,
    remote: str,
    path: str | None,
    stamp: str | None,
    everything: bool,
    as_json: bool,
    backend_options: BackendOptions,
) -> None:
    """Bring PATH on REMOTE, a file or all in a folder, back as it was before a run changed it.

    What stands there now goes to the backups in its turn. The next sync takes the restored version to
    the other side.
    """
    if path is None and not (everything and stamp):
        raise UsageError("say what to restore", hint="give PATH, or --all with --time")

    async def run() -> list[Kept]:
        found = _newest(await _find(remote, path, stamp, backend_options))
        if not found:
            raise NotFound(
                "no kept version is there", path=path or stamp, hint="see `mountsync backups list`"
            )
        async with opened(remote, backend_options) as storage:
            for kept in found:
                await restore(storage, kept, now_ns=time.time_ns(), job=kept.job)
        return found

    _tell(remote, trio.run(run), as_json=as_json)


def _newest(found: list[Kept]) -> list[Kept]:
    """The newest version of each path."""
    return list({kept.path: kept for kept in sorted(found, key=lambda kept: kept.stamp)}.values())


async def _find(remote: str, path: str | None, stamp: str | None, flags: BackendOptions) -> list[Kept]:
    top = RelPath("") if path is None else rel_path(path.strip("/"))
    async with opened(remote, flags) as storage:
        found = await kept_in(storage)
    return [kept for kept in found if is_within(kept.path, top) and stamp in (None, kept.stamp)]


def _tell(remote: str, found: list[Kept], *, as_json: bool) -> None:
    if as_json:
        forms = [KeptObject(job=k.job, stamp=k.stamp, path=k.path, size=k.entry.size) for k in found]
        emit_json(KeptObjects(remote=remote, backups=forms))
        return
    for kept in found:
        click.echo(f"{kept.stamp:<20} {human_size(kept.entry.size):>10}  {shown(kept.path)}")
    click.echo(counted(len(found), "version"))
