"""The commands of the daemon's socket: jobs, by name. Lines, replies and events are those of `protocol`."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import msgspec

from mountsync.control.protocol import Command, Conflicts, Done, Keep
from mountsync.model.status import Status
from mountsync.settings import state_root


class _Args(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of a command."""


class NoArgs(_Args, frozen=True, kw_only=True):
    """No further arguments."""


class JobArgs(_Args, frozen=True, kw_only=True):
    """One job."""

    job: str


class StartJobArgs(_Args, frozen=True, kw_only=True):
    """A `[job.NAME]` of the configuration, which is read anew."""

    job: str


class FlushJobArgs(_Args, frozen=True, kw_only=True):
    """Seconds to wait at most; null: until it is done."""

    job: str
    timeout: float | None = None


class ResumeJobArgs(_Args, frozen=True, kw_only=True):
    """`confirm` clears a safety halt: the user has looked and wants it so."""

    job: str
    confirm: bool = False


class ResolveJobArgs(_Args, frozen=True, kw_only=True):
    """One conflict; `local` is side A, `remote` side B."""

    job: str
    path: str
    keep: Keep


class SubscribeJobsArgs(_Args, frozen=True, kw_only=True):
    """Which events: of these jobs and of these types; null: of all, also of jobs that start later.

    Said again on the same connection it takes the place of what was said before.
    """

    jobs: list[str] | None = None
    types: list[str] | None = None


class Jobs(msgspec.Struct, frozen=True, kw_only=True):
    """Every job."""

    version: int = 1
    jobs: list[Status]


JOB_COMMANDS: Final[dict[str, Command]] = {
    "start": Command(StartJobArgs, Status),
    "stop": Command(JobArgs, Done),
    "stop-all": Command(NoArgs, Done),
    "status": Command(NoArgs, Jobs),
    "job-state": Command(JobArgs, Status),
    "subscribe": Command(SubscribeJobsArgs, Done),
    "pause": Command(JobArgs, Done),
    "resume": Command(ResumeJobArgs, Status),
    "flush": Command(FlushJobArgs, Status),
    "conflicts": Command(JobArgs, Conflicts),
    "resolve": Command(ResolveJobArgs, Done),
    "shutdown": Command(NoArgs, Done),
}
"""Every command that the daemon understands."""


def daemon_folder() -> Path:
    """Where the daemon keeps its lock, its list of jobs and its socket."""
    return state_root() / "daemon"


def daemon_socket() -> Path:
    """Where the daemon listens."""
    return daemon_folder() / "control.sock"
