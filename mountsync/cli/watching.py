"""`status` and `flush`: what mounts do, and making both sides agree."""

from __future__ import annotations

import sys

import click
import trio

from mountsync.cli.forms import Failed, Mounts, Silent
from mountsync.cli.jobs import ask_daemon, is_job, jobs_now
from mountsync.cli.output import emit_json, exit_code_of_status, status_lines
from mountsync.cli.running import Duration, chosen_mount, status_of, while_showing
from mountsync.control.client import Client
from mountsync.control.directory import MountRecord, running
from mountsync.errors import MountsyncError
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
        trio.run(_watch, target)
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
    answers = trio.run(_ask_all)
    jobs = list(jobs_now())
    if as_json:
        alive = [answer for _, answer in answers if isinstance(answer, Status)]
        silent = [answer for _, answer in answers if isinstance(answer, Silent)]
        emit_json(Mounts(mounts=alive, silent=silent, jobs=jobs))
    else:
        texts = [_text_of(*answer) for answer in answers] + ["\n".join(status_lines(job)) for job in jobs]
        click.echo("\n".join(texts) or "nothing is mounted, and no job runs")
    codes = [_code_of(answer) for _, answer in answers]
    return max([*codes, *(exit_code_of_status(job, finished=False) for job in jobs)], default=0)


def _text_of(record: MountRecord, answer: Status | Silent) -> str:
    if isinstance(answer, Status):
        return "\n".join(status_lines(answer))
    return f"{record.remote} on {record.mountpoint}\n  {answer.error.message}"


def _code_of(answer: Status | Silent) -> int:
    return exit_code_of_status(answer, finished=False) if isinstance(answer, Status) else 4


async def _ask_all() -> list[tuple[MountRecord, Status | Silent]]:
    """Every mount's status; in the place of one that does not answer, why."""
    records = running()
    answers: dict[str, Status | Silent] = {}

    async def one(record: MountRecord) -> None:
        try:
            answers[record.mountpoint] = await status_of(record)
        except MountsyncError as error:
            failed = Failed(class_=type(error).__name__, message=str(error))
            answers[record.mountpoint] = Silent(mountpoint=record.mountpoint, error=failed)

    async with trio.open_nursery() as nursery:
        for record in records:
            nursery.start_soon(one, record)
    return [(record, answers[record.mountpoint]) for record in records]


async def _watch(target: str | None) -> None:
    from rich.live import Live  # noqa: PLC0415 - only for a live view
    from rich.text import Text  # noqa: PLC0415

    if not sys.stdout.isatty():
        await _watch_lines(target)
    with Live(auto_refresh=False) as live:
        while True:
            live.update(Text(await _text_now(target)), refresh=True)
            await trio.sleep(0.5)


async def _watch_lines(target: str | None) -> None:
    said = ""
    while True:
        text = await _text_now(target)
        if text != said:
            click.echo(text)
            sys.stdout.flush()
            said = text
        await trio.sleep(2)


async def _text_now(target: str | None) -> str:
    if target is not None:
        return "\n".join(status_lines(await status_of(chosen_mount(target))))
    return "\n".join(_text_of(*answer) for answer in await _ask_all()) or "nothing is mounted"


@click.command()
@click.argument("target", metavar="[MOUNTPOINT or JOB]", required=False)
@click.option("--timeout", type=Duration(), help="Give up waiting after TIME; the work goes on.")
@click.option("--json", "as_json", is_flag=True, help="Print the status afterwards as JSON.")
def flush(*, target: str | None, timeout: float | None, as_json: bool) -> int:
    """Make a full cycle now, in both directions, and wait until both sides agree.

    Exit code: 0 when they do, 1 when conflicts or changes are left, 3 when paths have problems, 4 when
    the remote is out of reach, 5 when a safety stop stands.
    """

    async def work(client: Client) -> Status:
        found: Status = await client.request("flush", timeout=timeout)
        return found

    async def run() -> Status:
        return await while_showing(chosen_mount(target), work)

    after: Status = ask_daemon("flush", job=target, timeout=timeout) if is_job(target) else trio.run(run)
    code = exit_code_of_status(after, finished=True)
    if as_json:
        emit_json(after)
    elif code:
        click.echo("\n".join(status_lines(after)), err=True)
    return code
