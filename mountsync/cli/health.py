"""`mountsync health`: one answer for whoever watches over a container or a service."""

from __future__ import annotations

from typing import Final

import click
import trio

from mountsync.cli.jobs import ask_daemon, is_job
from mountsync.cli.running import chosen_mount, status_of
from mountsync.control.directory import MountRecord, running
from mountsync.control.jobs import Jobs, daemon_socket
from mountsync.control.mounts import condition
from mountsync.errors import AccessRefused, MountError, MountsyncError, printable
from mountsync.model.status import ProblemStatus, SessionState, Status

OFFLINE: Final = 6
HALTED: Final = 5
DOWN: Final = 4
_WORST_FIRST: Final = (DOWN, HALTED, OFFLINE, 0)
_CODES: Final = {"offline": OFFLINE, "halted": HALTED}


@click.command()
@click.argument("target", metavar="[MOUNTPOINT or JOB]", required=False)
@click.option(
    "--accept",
    type=click.Choice(list(_CODES)),
    multiple=True,
    help="Exit with 0 in this state too; may be given twice.",
)
def health(*, target: str | None, accept: tuple[str, ...]) -> int:
    """Say in one line whether a mount or job works, by default all of them.

    Exit code: 0 when it works or is paused, 6 when it is offline or the remote cannot be listed (the folder
    can be used), 5 when a person is needed: a safety stop, or credentials that the remote refuses; 4 when it
    is not there, failed, or does not answer.
    """
    answers = _answers(target)
    for line, _ in answers:
        click.echo(printable(line))
    code = next(code for code in _WORST_FIRST if any(found == code for _, found in answers))
    return 0 if code in {_CODES[state] for state in accept} else code


def _answers(target: str | None) -> list[tuple[str, int]]:
    """A line and a code for each."""
    if target is not None and is_job(target):
        return [_of_status(ask_daemon("job-state", job=target))]
    try:
        records = running() if target is None else [chosen_mount(target)]
    except MountError as error:
        return [(str(error), DOWN)]
    found = [_of_mount(record) for record in records]
    if target is None:
        found += _of_daemon()
    return found or [("nothing is mounted, and no job runs", DOWN)]


def _of_daemon() -> list[tuple[str, int]]:
    """Its jobs; nothing when it was never started, or ended in order and took its socket with it."""
    if not daemon_socket().exists():
        return []
    try:
        found: Jobs = ask_daemon("status")
    except MountsyncError as error:
        return [(f"daemon: down: {error.reason}", DOWN)]
    return [_of_status(status) for status in found.jobs] or [("daemon: running: no job", 0)]


def _of_mount(record: MountRecord) -> tuple[str, int]:
    folder = condition(record.mountpoint)
    if folder != "alive":
        return f"{record.mountpoint}: down: the folder {'is dead' if folder == 'dead' else folder}", DOWN
    try:
        return _of_status(trio.run(status_of, record))
    except MountsyncError as error:
        return f"{record.mountpoint}: down: {error.reason}", DOWN


def _of_status(status: Status) -> tuple[str, int]:
    state = SessionState(status.state)
    kind, code, why = ("mounted" if status.mountpoint else "running"), 0, status.reason
    if state.halted:
        kind, code = "halted", HALTED
    elif state is SessionState.FAILED:
        kind, code = "down", DOWN
    elif (refused := _refused(status)) is not None:
        kind, code, why = "refused", HALTED, refused.reason
    elif state is SessionState.OFFLINE:
        kind, code = "offline", OFFLINE
    elif (unseen := _of_the_whole(status)) is not None:
        kind, code, why = "unseen", OFFLINE, unseen.reason
    said = state.value if kind != state.value else ""
    left = f"{status.pending} not replicated"
    line = f"{status.mountpoint or status.name}: {kind}: {', '.join(filter(None, [said, left]))}"
    return (f"{line}: {why}" if why else line), code


def _refused(status: Status) -> ProblemStatus | None:
    """Why nothing travels until somebody sees to the credentials."""
    return next((each for each in status.problems if each.error == AccessRefused.__name__), None)


def _of_the_whole(status: Status) -> ProblemStatus | None:
    return next((each for each in status.problems if not each.path), None)
