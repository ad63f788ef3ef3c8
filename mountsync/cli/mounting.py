"""`mount` and `umount`."""

from __future__ import annotations

import os
import select
import shlex
import shutil
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
import trio

from mountsync.cli.lazy import loading
from mountsync.cli.output import status_lines
from mountsync.cli.remotes import BackendOptions, absolute_spec, configuration, known_remotes, remote_command
from mountsync.cli.running import mount_at, status_of, while_showing
from mountsync.cli.voice import say
from mountsync.config import Config
from mountsync.control.client import Client, ask_sync
from mountsync.control.directory import MountRecord, plain
from mountsync.control.mounts import condition, mountsync_mounts
from mountsync.errors import (
    MountError,
    MountsyncError,
    Unreachable,
    UsageError,
    exit_code_of,
    from_os_error,
    printable,
)
from mountsync.formats.remote_spec import is_local_path, is_remote_name
from mountsync.model.status import SessionState, Status
from mountsync.settings import MOUNT_OPTIONS, MountOption, MountSettings, mount_settings

_END_S: Final = 60.0
"""How long a mount may take to end once that is decided."""


class _Value(click.ParamType[object]):
    """A mount option's value, converted where it is parsed so that the error names the flag."""

    def __init__(self, option: MountOption) -> None:
        self._option = option
        self.name = option.metavar or "switch"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> object:
        try:
            return self._option.convert(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)


def _mount_flags(command: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(MOUNT_OPTIONS):
        command = _flag(option)(command)
    return command


def _flag(option: MountOption) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    text = option.help + (f"  [default: {option.default}]" if option.default else "")
    if not option.metavar:
        names = f"{option.flag}/--no-{option.flag[2:]}"
        return click.option(names, option.name, default=None, help=text)
    return click.option(option.flag, type=_Value(option), metavar=option.metavar, help=text)


@remote_command()
@click.argument("remote")
@click.argument("mountpoint", required=False)
@_mount_flags
@click.option("--daemon", is_flag=True, help="Return when the folder is ready; log to the state folder.")
@click.option("--ready-fd", type=int, default=1, hidden=True)
def mount(
    *,
    remote: str,
    mountpoint: str | None,
    daemon: bool,
    ready_fd: int,
    backend_options: BackendOptions,
    **flags: object,
) -> int:
    """Mount REMOTE at the empty folder MOUNTPOINT.

    REMOTE may also be NAME of a `[mount.NAME]` section of the configuration, which may name the mount
    point and any option. Each option is also an environment variable: --cache-size is
    MOUNTSYNC_CACHE_SIZE. Stays in the foreground until Ctrl-C or `mountsync umount`, unless --daemon.
    """
    settings = settings_of(remote, mountpoint, flags, backend_options, ready_fd)
    if daemon:
        return in_background(settings)
    return _serve(settings)


def settings_of(
    remote: str,
    mountpoint: str | None,
    flags: dict[str, object],
    backend_options: BackendOptions,
    ready_fd: int,
) -> MountSettings:
    """What to mount and how, from flags, environment and configuration.

    `remote` is a spec, or the name of a `[mount.NAME]` section. Raises UsageError and ConfigError.
    """
    config = configuration()
    section = _section(config, remote)
    values = option_values(config.defaults, f"{config.path}: ")
    values |= option_values(section, f"{config.path}: [mount.{remote}] ")
    values |= environment_values(os.environ)
    values |= {name: value for name, value in flags.items() if value is not None}
    place = mountpoint or section.get("mountpoint")
    if not place:
        raise UsageError("the mount point is missing", hint=f"mountsync mount {remote} MOUNTPOINT")
    spec = absolute_spec(str(section.get("remote", remote)))
    known_remotes(backend_options).resolve(spec)
    return mount_settings(
        name=remote,
        remote=spec,
        mountpoint=plain(Path(str(place))),
        values=values,
        backend_options=backend_options,
        config_path=config.path,
        ready_fd=ready_fd,
    )


def _section(config: Config, remote: str) -> Mapping[str, Any]:
    """The `[mount.NAME]` section when `remote` is a bare name, else nothing."""
    if not is_remote_name(remote) or is_local_path(remote):
        return {}
    if remote not in config.mounts and remote in config.remotes:
        raise UsageError(f"{remote!r} is a remote without its colon", hint=f"did you mean {remote + ':'!r}?")
    return config.mount(remote)


def option_values(section: Mapping[str, object], where: str) -> dict[str, object]:
    """The mount options of a section of the configuration, converted. Raises ConfigError."""
    known = {option.name: option for option in MOUNT_OPTIONS}
    return {
        name: known[name].value(given, f"{where}{name}") for name, given in section.items() if name in known
    }


def environment_values(environment: Mapping[str, str]) -> dict[str, object]:
    """The mount options that the environment gives, converted. Raises ConfigError."""
    return {
        option.name: option.value(environment[option.variable], option.variable)
        for option in MOUNT_OPTIONS
        if option.variable in environment
    }


def in_background(settings: MountSettings, *, quiet: bool = False) -> int:
    """Forks a process that mounts; returns when the folder is ready, or with what it failed."""
    log = settings.log_file or settings.state_dir / "mount.log"
    output = _private_log(log)
    began = os.fstat(output).st_size
    reading, writing = os.pipe()
    child = os.fork()  # no thread runs yet: trio starts in the child
    if child == 0:
        os.close(reading)
        _go_to_background(output)
        return _serve(replace(settings, ready_fd=writing, detach=True))
    os.close(writing)
    os.close(output)
    with open(reading, "rb") as pipe:
        said = pipe.read()
    if said:
        if not quiet:
            click.echo(os.fsdecode(said), nl=False)
        return 0
    _, status = os.waitpid(child, 0)
    _relay_failure(log, began)
    return os.waitstatus_to_exitcode(status) or 4


def _private_log(log: Path) -> int:
    try:
        log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise from_os_error(error, str(log)) from error


def _go_to_background(output: int) -> None:
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)


def _relay_failure(log: Path, began: int) -> None:
    """Says on standard error what the child said in its log."""
    with open(log, encoding="utf-8", errors="replace") as file:
        file.seek(began)
        lines = [line.rstrip() for line in file if line.startswith(("mountsync: ", "mount.mountsync: "))]
    for line in lines or [f"mountsync: the mount ended at once; see {log}"]:
        click.echo(line, err=True)


def _serve(settings: MountSettings) -> int:
    with loading(without="rich"):  # structlog would take it for tracebacks
        from mountsync import mount as mounting  # noqa: PLC0415 - the heaviest import there is
        from mountsync import telemetry  # noqa: PLC0415

    telemetry.configure(level=settings.log_level, form=settings.log_format, file=settings.log_file)
    try:
        mounting.run(settings)
    except MountsyncError as error:
        if settings.log_format != "json" or settings.ready_fd != 1:
            raise
        telemetry.log_failure(error)  # whoever reads JSON gets nothing else
        return exit_code_of(error)
    return 0


@click.command()
@click.argument("mountpoint")
@click.option("--now", is_flag=True, help="Do not wait for replication; it goes on at the next mount.")
@click.option("--if-mounted", is_flag=True, help="Nothing to unmount is no failure.")
def umount(*, mountpoint: str, now: bool, if_mounted: bool) -> int:
    """Wait until everything is on the remote, then unmount.

    When that cannot be, it says what is left and stays mounted; --now unmounts all the same, nothing is
    lost and the rest is uploaded after the next mount, unless a safety stop stands. A dead mount point is
    cleaned up.
    """
    record = mount_at(mountpoint)
    if record is None and if_mounted and str(plain(Path(mountpoint))) not in mountsync_mounts():
        return 0
    if record is None:
        _detach(plain(Path(mountpoint)))
        return 0
    code = _end_now(record) if now else trio.run(_drain, record)
    if code == 0:
        _wait_for_end(record)
    return code


def _end_now(record: MountRecord) -> int:
    with suppress(Unreachable):  # it may end before it answers
        ask_sync(Path(record.socket), "shutdown", within=_END_S, drain=False)
    return 0


async def _drain(record: MountRecord) -> int:
    async def work(client: Client) -> None:
        await client.request("shutdown", drain=True)

    try:
        await while_showing(record, work)
    except MountsyncError as error:
        if not _lives(record):
            return 0  # it ended before it answered
        say(f"{record.mountpoint}: not unmounted: {error}")
        status = await status_of(record)
        for line in [*status_lines(status), _way_out(record, status)]:
            click.echo(line, err=True)
        return exit_code_of(error)
    return 0


def _way_out(record: MountRecord, status: Status) -> str:
    if not SessionState(status.state).halted:
        return "--now unmounts all the same; the rest is uploaded after the next mount"
    place = printable(shlex.quote(record.mountpoint))
    return (
        "--now unmounts all the same; what is not on the remote stays in the state folder and is not uploaded"
        f" while the stop stands: `mountsync export {place} DIR` copies it out"
    )


def _lives(record: MountRecord) -> bool:
    return mount_at(record.mountpoint) is not None


def _wait_for_end(record: MountRecord) -> None:
    try:
        process = os.pidfd_open(record.pid)
    except ProcessLookupError:
        return
    try:
        poll = select.poll()
        poll.register(process, select.POLLIN)
        if not poll.poll(_END_S * 1000):
            raise MountError(
                f"process {record.pid} has not ended after {_END_S:.0f} s",
                path=record.mountpoint,
                hint="does a program still use the folder? see `fuser -vm`",
            )
    finally:
        os.close(process)


def _detach(place: Path) -> None:
    """Unmounts a mount point that no process of ours answers for. Raises MountError when there is none."""
    if str(place) not in mountsync_mounts():
        raise MountError("no mount of mountsync is there", path=str(place), hint="see `mountsync status`")
    tool = shutil.which("fusermount3")
    if tool is None:
        raise MountError("fusermount3 is missing", hint="sudo apt-get install fuse3")
    command = [tool, "-u" if condition(str(place)) == "alive" else "-uz", "--", str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a fixed tool
    if done.returncode:
        reason = done.stderr.strip() or f"fusermount3 failed with {done.returncode}"
        raise MountError(reason, path=str(place), hint=f"sudo umount -l {place}")
