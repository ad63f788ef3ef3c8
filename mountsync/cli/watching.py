"""`status` and `flush`: what mounts do, and making both sides agree."""

from __future__ import annotations

import click
import trio

from mountsync.cli.forms import Failed, Mounts, Silent
from mountsync.cli.jobs import ask_daemon, flush_job, is_job
from mountsync.cli.output import emit_json, exit_code_of_status, overview_lines, status_lines
from mountsync.cli.running import Duration, chosen_mount, status_of, while_showing
from mountsync.control.client import Client
from mountsync.control.overview import Seen, look
from mountsync.model.status import Status


@click.command()
@click.argument("target", metavar="[MOUNTPOINT or JOB]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print JSON (schema: docs/json.schema.json).")
@click.option("--watch", is_flag=True, help="Keep showing it, until Ctrl-C.")
def status(*, target: str | None, as_json: bool, watch: bool) -> int:
    """Show what mounts and jobs do: state, what is not replicated, transfers, conflicts, problems.

    Exit code: 1 when conflicts wait, 3 when paths have problems, 5 when a safety stop stands, 4 when a
    mount failed or does not answer.
    """
    if watch:
        from mountsync.cli import live  # noqa: PLC0415 - only for a live view

        live.check_target(target)
        trio.run(live.watch, target)
    return _show_one(target, as_json=as_json) if target is not None else _show_all(as_json=as_json)


def _show_one(target: str, *, as_json: bool) -> int:
    found: Status
    if is_job(target):
        found = ask_daemon("job-state", job=target)
    else:
        found = trio.run(status_of, chosen_mount(target))
    if as_json:
        emit_json(found)
    else:
        click.echo("\n".join(status_lines(found)))
    return exit_code_of_status(found, finished=False)


def _show_all(*, as_json: bool) -> int:
    found = trio.run(look)
    if as_json:
        silent = [_silent(seen) for seen in found.mounts if seen.status is None]
        alive = [seen.status for seen in found.mounts if seen.status is not None]
        emit_json(Mounts(mounts=alive, silent=silent, jobs=list(found.jobs)))
    else:
        click.echo("\n".join(overview_lines(found)))
    codes = [exit_code_of_status(status, finished=False) for status in found.statuses]
    return max([*codes, *(4 for seen in found.mounts if seen.status is None)], default=0)


def _silent(seen: Seen) -> Silent:
    failed = Failed(class_=type(seen.error).__name__, message=str(seen.error))
    return Silent(mountpoint=seen.record.mountpoint, error=failed)


@click.command()
@click.argument("target", metavar="[MOUNTPOINT or JOB]", required=False)
@click.option("--timeout", type=Duration(), help="Give up waiting after TIME; the work goes on.")
@click.option("--json", "as_json", is_flag=True, help="Print the status afterwards as JSON.")
def flush(*, target: str | None, timeout: float | None, as_json: bool) -> int:
    """Make a full cycle now, in both directions, and wait until both sides agree.

    Exit code: 0 when they do, 1 when conflicts or changes are left or the job is paused, 3 when paths have
    problems, 4 when the remote is out of reach, 5 when a safety stop stands.
    """

    async def work(client: Client) -> Status:
        found: Status = await client.request("flush", timeout=timeout)
        return found

    async def run() -> Status:
        return await while_showing(chosen_mount(target), work)

    after = flush_job(target, timeout) if is_job(target) and target is not None else trio.run(run)
    code = exit_code_of_status(after, finished=True)
    if as_json:
        emit_json(after)
    elif code:
        click.echo("\n".join(status_lines(after)), err=True)
    return code
