"""`backups`: what syncs replaced or deleted, and how to have it back."""

from __future__ import annotations

import sys
import time

import click
import trio

from mountsync.cli.forms import KeptObject, KeptObjects
from mountsync.cli.output import counted, emit_json, shown
from mountsync.cli.remotes import BackendOptions, RemoteCommand, opened
from mountsync.cli.running import Duration
from mountsync.engine.pair.backups import Kept, expired, kept_in, remove_runs, restore
from mountsync.engine.pair.options import DEFAULT_KEEP_RUNS, BackupRules
from mountsync.errors import NotFound, UsageError
from mountsync.formats.sizes import human_size
from mountsync.paths import RelPath, is_within, rel_path


@click.group()
def backups() -> None:
    """List, restore and remove what `bisync`, `copy` and `sync` replaced or deleted.

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
@click.option("--dry-run", "-n", is_flag=True, help="Only say what would come back.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def restore_(
    *,
    remote: str,
    path: str | None,
    stamp: str | None,
    everything: bool,
    dry_run: bool,
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
        if dry_run:
            return found
        async with opened(remote, backend_options) as storage:
            for number, kept in enumerate(found, 1):
                await restore(storage, kept, now_ns=time.time_ns(), job=kept.job)
                _count(number, len(found))
        return found

    _tell(remote, trio.run(run), as_json=as_json)


@backups.command(cls=RemoteCommand)
@click.argument("remote")
@click.option("--job", help="Only of this job, as `backups list --json` names it.")
@click.option(
    "--keep-backups", type=Duration(), default="30d", show_default=True, help="How long backups are kept."
)
@click.option(
    "--keep-runs",
    type=click.IntRange(min=0),
    default=DEFAULT_KEEP_RUNS,
    show_default=True,
    help="Of how many runs, the newest, they are kept.",
)
@click.option("--dry-run", "-n", is_flag=True, help="Only say what would go.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def prune(
    *,
    remote: str,
    job: str | None,
    keep_backups: float,
    keep_runs: int,
    dry_run: bool,
    as_json: bool,
    backend_options: BackendOptions,
) -> None:
    """Remove the versions of runs that are too old or too many, and list what went.

    Every sync does it for its own job; this is for jobs that run no more, and for making room.
    """
    rules = BackupRules(keep_backups / 86_400, keep_runs)

    async def run() -> list[Kept]:
        async with opened(remote, backend_options) as storage:
            gone = expired(await kept_in(storage, job=job), rules, now_ns=time.time_ns())
            if not dry_run:
                await remove_runs(storage, gone)
            return gone

    _tell(remote, trio.run(run), as_json=as_json)


def _count(done: int, total: int) -> None:
    """A line on a terminal that is written over until all is done."""
    if sys.stderr.isatty():
        click.echo(f"\r{done:,} of {total:,} restored", err=True, nl=done == total)


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
