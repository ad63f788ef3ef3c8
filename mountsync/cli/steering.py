"""Commands that tell a running mount one thing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mountsync.cli.jobs import ask_daemon, is_job
from mountsync.cli.output import counted, emit_json
from mountsync.cli.running import chosen_mount
from mountsync.control.client import ask_sync
from mountsync.control.directory import holder_of
from mountsync.control.protocol import Conflicts
from mountsync.errors import printable
from mountsync.formats.sizes import human_size
from mountsync.model.status import ConflictStatus, Status

_target = click.argument("target", metavar="[MOUNTPOINT or JOB]", required=False)
_path = click.argument("path", metavar="PATH")


def _tell_at(path: str, command: str, **args: Any) -> Any:
    record, relative = holder_of(Path(path))
    return ask_sync(Path(record.socket), command, path=relative, **args)


@click.command()
@_target
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def conflicts(*, target: str | None, as_json: bool) -> int:
    """List paths that both sides changed and that wait for `mountsync resolve`.

    Exit code 1 when there are any.
    """
    found, root = _conflicts_of(target)
    if as_json:
        emit_json(found)
    else:
        for each in found.conflicts:
            click.echo(f"{printable(str(Path(root, each.path)))}: {_sides(each)}")
    return 1 if found.conflicts else 0


def _conflicts_of(target: str | None) -> tuple[Conflicts, str]:
    """The conflicts of a mount or job, and what their paths are relative to."""
    if is_job(target):
        return ask_daemon("conflicts", job=target), ""
    record = chosen_mount(target)
    return ask_sync(Path(record.socket), "conflicts"), record.mountpoint


def _sides(conflict: ConflictStatus) -> str:
    here = "absent" if conflict.local_size is None else human_size(conflict.local_size)
    there = "absent" if conflict.remote_size is None else human_size(conflict.remote_size)
    return f"{printable(conflict.reason)}; local {here}, remote {there}"


@click.command()
@_path
@click.option(
    "--keep",
    type=click.Choice(["local", "remote", "both"]),
    required=True,
    help="Which content lives on; `both` keeps the other one under a conflict name.",
)
@click.option("--job", help="The job whose conflict it is; PATH is relative to its sides then.")
def resolve(*, path: str, keep: str, job: str | None) -> None:
    """Settle the conflict at PATH: inside the mounted folder, or of a job.

    In a job `local` is side A and `remote` side B.
    """
    if job is not None:
        ask_daemon("resolve", job=job, path=path, keep=keep)
    else:
        _tell_at(path, "resolve", keep=keep)


@click.command()
@_target
def pause(*, target: str | None) -> None:
    """Stop transfers until `mountsync resume`; the folder stays usable."""
    if is_job(target):
        ask_daemon("pause", job=target)
    else:
        ask_sync(Path(chosen_mount(target).socket), "pause")


@click.command()
@_target
@click.option("--confirm", is_flag=True, help="Clear a safety stop: what was found is right.")
def resume(*, target: str | None, confirm: bool) -> None:
    """Go on after `mountsync pause`, `--offline` or a safety stop."""
    found: Status
    if is_job(target):
        found = ask_daemon("resume", job=target, confirm=confirm)
    else:
        found = ask_sync(Path(chosen_mount(target).socket), "resume", confirm=confirm)
    click.echo(f"{found.state}; {counted(found.pending, 'change')} not on the remote yet")


@click.command()
@_path
def pin(*, path: str) -> None:
    """Keep the content of a file, or of all below a folder, on this machine."""
    _tell_at(path, "pin")


@click.command()
@_path
def unpin(*, path: str) -> None:
    """Let the content of a pinned file or folder be evicted again."""
    _tell_at(path, "unpin")


@click.command()
@_path
def evict(*, path: str) -> None:
    """Forget local copies of what the remote has too, at PATH and below, and say how much was freed."""
    click.echo(f"{human_size(_tell_at(path, 'evict').freed)} freed")
