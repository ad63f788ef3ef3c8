"""All that runs for this user at one moment: every mount, and every job of the daemon."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import trio

from mountsync.control.client import open_client
from mountsync.control.directory import MountRecord, running
from mountsync.control.jobs import JOB_COMMANDS, Jobs, daemon_socket
from mountsync.control.protocol import COMMANDS, Command
from mountsync.errors import MountError, MountsyncError, NotFound, Unreachable
from mountsync.model.status import Status

ANSWER_S: Final = 10.0
"""A mount that says nothing for so long is stopped or hangs."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A mount, and what it says or why it says nothing: one of `status` and `error` is None."""

    record: MountRecord
    status: Status | None = None
    error: MountsyncError | None = None


@dataclass(frozen=True, slots=True)
class Overview:
    """Everything, mounts by mount point, jobs by the order in which they were started."""

    mounts: tuple[Seen, ...] = ()
    jobs: tuple[Status, ...] = ()
    daemon_error: MountsyncError | None = field(default=None)
    """Why jobs are not known although there is a daemon."""

    @property
    def statuses(self) -> tuple[Status, ...]:
        """Of all that answered."""
        return (*(seen.status for seen in self.mounts if seen.status is not None), *self.jobs)


async def status_of(record: MountRecord) -> Status:
    """The status of a mount. Raises Unreachable that names the process when it does not answer."""
    with trio.move_on_after(ANSWER_S):
        async with open_client(Path(record.socket)) as client:
            found: Status = await client.request("status")
            return found
    raise Unreachable(
        f"process {record.pid} does not answer", path=record.mountpoint, hint="is it stopped? see its log"
    )


async def look() -> Overview:
    """Asks all of them at once; whoever does not answer costs `ANSWER_S` seconds and fails nobody else."""
    records = running()
    seen: dict[str, Seen] = {}
    jobs: list[tuple[tuple[Status, ...], MountsyncError | None]] = []

    async def one(record: MountRecord) -> None:
        try:
            seen[record.mountpoint] = Seen(record, status=await status_of(record))
        except MountsyncError as error:
            seen[record.mountpoint] = Seen(record, error=error)

    async def daemon() -> None:
        jobs.append(await _jobs())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(daemon)
        for record in records:
            nursery.start_soon(one, record)
    return Overview(tuple(seen[record.mountpoint] for record in records), *jobs[0])


async def _jobs() -> tuple[tuple[Status, ...], MountsyncError | None]:
    if not daemon_socket().exists():
        return (), None
    try:
        found: Jobs = await tell_daemon("status")
    except MountError:
        return (), None  # its socket is left over, or it has just ended
    except MountsyncError as error:
        return (), error
    return tuple(found.jobs), None


async def tell_mount(mountpoint: str, cmd: str, /, **args: Any) -> Any:
    """One command to the mount whose mount point is exactly this one. Raises NotFound when there is none."""
    record = next((record for record in running() if record.mountpoint == mountpoint), None)
    if record is None:
        raise NotFound("nothing is mounted there any more", path=mountpoint)
    return await _tell(Path(record.socket), COMMANDS, cmd, args)


async def tell_daemon(cmd: str, /, **args: Any) -> Any:
    """One command to the daemon. Raises MountError when none runs, Unreachable when it is silent."""
    return await _tell(daemon_socket(), JOB_COMMANDS, cmd, args)


async def _tell(socket: Path, commands: Mapping[str, Command], cmd: str, args: Mapping[str, Any]) -> Any:
    with trio.move_on_after(float("inf") if cmd in {"flush", "resolve"} else ANSWER_S):
        async with open_client(socket, commands) as client:
            return await client.request(cmd, **args)
    raise Unreachable("it does not answer", path=str(socket), hint="is its process stopped? see its log")
