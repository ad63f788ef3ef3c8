"""`daemon`, `start` and `stop`: jobs that keep pairs in sync, and what other commands ask of them."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import click
import trio

from mountsync.cli.forms import Stopped
from mountsync.cli.lazy import loading
from mountsync.cli.output import status_lines
from mountsync.cli.remotes import absolute_spec, configuration, known_remotes
from mountsync.cli.running import ANSWER_S, while_asking
from mountsync.control.client import open_client
from mountsync.control.jobs import JOB_COMMANDS, Jobs, daemon_folder, daemon_socket
from mountsync.engine.pair.job import JobSettings
from mountsync.engine.pair.opening import pair_id
from mountsync.engine.pair.reading import pair_options
from mountsync.errors import ConfigError, MountError, MountsyncError, Unreachable, UsageError
from mountsync.formats.sizes import parse_duration
from mountsync.model.status import Status
from mountsync.settings import Endpoint, parse_endpoint, state_root
from mountsync.storage.api import Storage

_START_S: Final = 20.0
_PATIENT: Final = frozenset({"flush", "resolve", "start", "stop", "stop-all"})
"""Commands that wait for work under way."""


def load_job(name: str) -> JobSettings:
    """A `[job.NAME]` of the configuration. Raises ConfigError."""
    config = configuration()
    section = config.job(name)
    where = f"{config.path}: [job.{name}] "
    for key in ("a", "b"):
        if not section.get(key):
            raise ConfigError(f"{where}{key}: it is missing", hint="a job needs the remotes a and b")
    a, b = (absolute_spec(str(section[key])) for key in ("a", "b"))
    identity = pair_id(a, b)
    options = pair_options(name, section, where)
    intervals = {
        field: parse_duration(str(section[key]))
        for key, field in (("watcher_interval", "interval"), ("write_delay", "write_delay"))
        if key in section
    }
    return JobSettings(
        name=name, a=a, b=b, options=options, pair_id=identity, state_dir=state_root() / identity, **intervals
    )


async def _open(spec: str) -> Storage:
    return await known_remotes({}).open(spec)


class _Endpoint(click.ParamType[Endpoint]):
    """`HOST:PORT`."""

    name = "HOST:PORT"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Endpoint:
        try:
            return parse_endpoint(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


@click.command()
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    help="How much is logged.  [default: info]",
)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "human", "json"]),
    default="auto",
    help="How the log is written.  [default: auto]",
)
@click.option("--metrics", type=_Endpoint(), help="Serve figures for Prometheus there.")
def daemon(*, log_level: str, log_format: str, metrics: Endpoint | None) -> None:
    """Keep pairs in sync: run the jobs that `mountsync start` named, until SIGTERM.

    Runs in the foreground; `mountsync start` starts one in the background when none runs. Jobs are
    `[job.NAME]` sections of the configuration. With systemd use Type=notify.
    """
    with loading(without="rich"):  # structlog would take it for tracebacks
        from mountsync import daemon as serving  # noqa: PLC0415 - heavy
        from mountsync import telemetry  # noqa: PLC0415 - as above

    telemetry.configure(level=log_level, form=log_format)
    trio.run(serving.run, load_job, _open, metrics)


@click.command()
@click.argument("job")
@click.option("--dry-run", "-n", is_flag=True, help="Only say what it would do first; start nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def start(*, job: str, dry_run: bool, as_json: bool) -> int:
    """Keep the pair of `[job.JOB]` in sync from now on, also after a restart of the daemon.

    A job that runs already is started again with what the configuration says now.
    """
    settings = load_job(job)
    if dry_run:
        from mountsync.cli.syncing import plan_first_run  # noqa: PLC0415 - heavy

        return plan_first_run(settings, as_json=as_json)
    _be_there()
    _tell(ask_daemon("start", job=job), as_json=as_json)
    return 0


@click.command()
@click.argument("job", required=False)
@click.option("--all", "everything", is_flag=True, help="Stop every job.")
@click.option("--daemon", "whole", is_flag=True, help="End the daemon; its jobs come back with it.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def stop(*, job: str | None, everything: bool, whole: bool, as_json: bool) -> None:
    """Stop keeping a pair in sync. Nothing is lost; `mountsync start JOB` goes on.

    Returns when what was under way has ended. Nothing on either side changes, so there is no --dry-run.
    """
    if sum((job is not None, everything, whole)) != 1:
        raise click.UsageError("say what to stop: JOB, --all or --daemon")
    stopped = [job] if job is not None else [each.name for each in jobs_now()]
    if job is not None:
        ask_daemon("stop", job=job)
    else:
        ask_daemon("shutdown" if whole else "stop-all")
    if as_json:
        from mountsync.cli.output import emit_json  # noqa: PLC0415 - only here

        emit_json(Stopped(stopped=stopped, daemon=whole))


def _tell(found: Status, *, as_json: bool) -> None:
    from mountsync.cli.output import emit_json  # noqa: PLC0415 - only here

    if as_json:
        emit_json(found)
    else:
        click.echo("\n".join(status_lines(found)))


def _be_there() -> None:
    """Starts the daemon in the background unless it runs."""
    if _answers():
        return
    folder = daemon_folder()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    log = folder / "daemon.log"
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "mountsync", "daemon"],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(descriptor)
    end = time.monotonic() + _START_S
    while not _answers():
        if process.poll() is not None and not _answers():
            raise MountError("the daemon ended at once", path=str(log), hint="its log says why")
        if time.monotonic() > end:
            raise Unreachable("the daemon does not answer", path=str(log), hint="its log may say why")
        time.sleep(0.05)


def _answers() -> bool:
    try:
        ask_daemon("status")
    except MountError:
        return False
    return True


def ask_daemon(cmd: str, /, **args: Any) -> Any:
    """One command to the daemon. Raises MountError when none runs, Unreachable when it is silent."""

    async def run() -> Any:
        with trio.move_on_after(float("inf") if cmd in _PATIENT else ANSWER_S):
            async with open_client(daemon_socket(), JOB_COMMANDS) as client:
                return await client.request(cmd, **args)
        raise Unreachable("the daemon does not answer", hint="is its process stopped? see its log")

    try:
        return trio.run(run)
    except MountError as error:
        raise MountError("no daemon runs", hint="mountsync start JOB") from error


def flush_job(job: str, timeout: float | None) -> Status:
    """A whole run of a job now; how it gets on is shown on standard error. Raises as `ask_daemon`."""

    async def run() -> Status:
        async with open_client(daemon_socket(), JOB_COMMANDS) as client:
            flushed = client.request("flush", job=job, timeout=timeout)
            return await while_asking(partial(client.request, "job-state", job=job), flushed)

    return trio.run(run)


def jobs_now() -> Sequence[Status]:
    """Every job of the daemon; none when no daemon runs."""
    if not daemon_socket().exists():
        return ()
    try:
        found: Jobs = ask_daemon("status")
    except MountsyncError:
        return ()
    return found.jobs


def is_job(target: str | None) -> bool:
    """Whether the text names a job that runs, and no path."""
    if target is None or "/" in target or not daemon_socket().exists():
        return False
    return any(job.name == target for job in jobs_now())
