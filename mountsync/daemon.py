"""The daemon: jobs side by side, steered over one socket, there again after a restart.

`$XDG_STATE_HOME/mountsync/daemon/` holds the lock, the socket and `jobs.json`, the names of the jobs
that are to run. What a job is stands in the configuration; it is read when the job starts.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final

import msgspec
import structlog
import trio

from mountsync import __version__
from mountsync.control import supervisor, wire
from mountsync.control.events import Broadcaster
from mountsync.control.jobs import (
    JOB_COMMANDS,
    FlushJobArgs,
    JobArgs,
    Jobs,
    ResolveJobArgs,
    ResumeJobArgs,
    SubscribeJobsArgs,
    daemon_folder,
    daemon_socket,
)
from mountsync.control.metrics import serve_metrics
from mountsync.control.progress import tell_progress
from mountsync.control.protocol import (
    EVENT_TYPES,
    ChangeEvent,
    ConflictEvent,
    Conflicts,
    CycleEvent,
    Done,
    Event,
    Events,
    ProblemEvent,
    StateEvent,
)
from mountsync.control.server import Service, serve
from mountsync.engine.pair.job import Job, JobSettings
from mountsync.engine.pair.overlap import shared
from mountsync.engine.pair.record import Done as Made
from mountsync.engine.pair.report import is_told, word_of
from mountsync.errors import MountsyncError, NotFound, StateLocked, UsageError
from mountsync.model.plan import Move, path_of
from mountsync.model.side import Side
from mountsync.model.status import ConflictStatus, CycleStatus, ProblemStatus, SessionState, Status
from mountsync.paths import is_ours
from mountsync.settings import Endpoint
from mountsync.state.database import StateLock, make_folder
from mountsync.storage.api import Storage
from mountsync.telemetry import utc

_log = structlog.get_logger(__name__)
_END_S: Final = 60.0
"""Patience that is asked of a service manager at the end."""

Loader = Callable[[str], JobSettings]
"""Reads a job from the configuration. Raises ConfigError."""
Opener = Callable[[str], Awaitable[Storage]]


class _Remembered(msgspec.Struct, frozen=True):
    """One job in `jobs.json`."""

    name: str
    paused: bool = False


class _JobsFile(msgspec.Struct, frozen=True):
    version: int = 1
    jobs: list[_Remembered] = []


@dataclass(slots=True)
class _Running:
    """A job and its task. `job` is None when the configuration does not give one."""

    name: str
    job: Job | None
    failure: str | None
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    ended: trio.Event = field(default_factory=trio.Event)
    paused: bool = False


class Daemon:
    """All jobs. Its methods are the commands of the socket."""

    def __init__(self, folder: Path, load: Loader, opener: Opener, nursery: trio.Nursery) -> None:
        """Jobs run in `nursery`."""
        self._file = folder / "jobs.json"
        self._load = load
        self._opener = opener
        self._nursery = nursery
        self._jobs: dict[str, _Running] = {}
        self._ending: dict[str, _Running] = {}
        """Those that were told to stop and still finish what they are at."""
        self._broadcaster = Broadcaster("daemon")
        self.ending = trio.Event()

    # Jobs

    def come_back(self) -> None:
        """Starts the jobs that ran when the daemon ended. One that cannot start says so in its status."""
        for remembered in self._remembered():
            self._begin(remembered.name, paused=remembered.paused)

    def _remembered(self) -> list[_Remembered]:
        try:
            return wire.decode(self._file.read_bytes(), _JobsFile).jobs
        except FileNotFoundError:
            return []
        except msgspec.DecodeError as error:
            aside = self._file.with_suffix(".damaged")
            self._file.replace(aside)
            _log.error("the list of jobs was damaged and put aside", file=str(aside), error=str(error))
            return []

    def _remember(self) -> None:
        """Durable on return."""
        jobs = [_Remembered(each.name, each.paused) for each in self._jobs.values()]
        fresh = self._file.with_suffix(".new")
        with open(fresh, "wb") as file:
            file.write(wire.encode(_JobsFile(jobs=jobs)))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._file)

    def _begin(self, name: str, *, paused: bool = False) -> None:
        try:
            job = Job(self._load(name), self._opener, _Announcer(name, self._broadcaster))
            job.paused = paused
            running = _Running(name, job, None, paused=paused)
        except MountsyncError as error:
            running = _Running(name, None, str(error), paused=paused)
            running.ended.set()
        self._jobs[name] = running
        if running.job is not None:
            self._nursery.start_soon(self._run, running, running.job)

    async def _run(self, running: _Running, job: Job) -> None:
        """One job; a bug in it ends it alone."""
        structlog.contextvars.bind_contextvars(
            job=running.name, remote=f"{job.settings.a} <-> {job.settings.b}"
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(tell_progress, self._broadcaster, running.name, job.tally, job.status)
            try:
                with running.scope:
                    await job.run()
            except Exception as error:  # noqa: BLE001 - a bug in one job must not end the others
                _log.exception("internal error in a job", job=running.name)
                running.failure = f"internal error: {error!r}; see the log of the daemon"
                failed = SessionState.FAILED.value
                self._broadcaster.publish(StateEvent(job=running.name, state=failed, reason=running.failure))
                running.job = None
            finally:
                running.ended.set()
                self._note_end(running)
            nursery.cancel_scope.cancel()

    def _job(self, name: str) -> Job:
        running = self._jobs.get(name)
        if running is None:
            known = ", ".join(self._jobs) or "none"
            raise NotFound(f"job {name!r} does not run", hint=f"running: {known}; mountsync start {name}")
        if running.job is None:
            raise UsageError(f"job {name!r} failed: {running.failure}", hint=f"mountsync start {name}")
        return running.job

    # Commands

    async def start(self, args: JobArgs) -> Status:
        """Starts a job, or reads it anew and starts it again; it comes back after a restart."""
        self._load(args.job)
        while args.job in self._jobs or args.job in self._ending:
            await self._end(args.job)
        self._begin(args.job)
        self._remember()
        return await self.job_state(args)

    async def stop(self, args: JobArgs) -> Done:
        """Ends a job, what it is at included, and forgets it. Raises NotFound."""
        if args.job not in self._jobs:
            raise NotFound(f"job {args.job!r} does not run", hint="see `mountsync status`")
        await self._end(args.job)
        self._remember()
        return Done()

    async def stop_all(self, _: object) -> Done:
        """Ends and forgets every job."""
        for name in list(self._jobs):
            await self._end(name)
        self._remember()
        return Done()

    async def _end(self, name: str) -> None:
        """Returns when the job has ended, whoever told it to."""
        running = self._jobs.pop(name, None)
        if running is not None:
            self._ending[name] = running
            running.scope.cancel()
            if running.ended.is_set():
                self._note_end(running)
        running = running or self._ending.get(name)
        if running is not None:
            await running.ended.wait()

    def _note_end(self, running: _Running) -> None:
        if self._ending.get(running.name) is running:
            del self._ending[running.name]
            self._broadcaster.publish(StateEvent(job=running.name, state="stopped"))

    async def status(self, _: object) -> Jobs:
        """Every job, from memory."""
        return Jobs(jobs=await self.statuses())

    async def statuses(self) -> list[Status]:
        """The same as values."""
        return [await self._status_of(running) for running in list(self._jobs.values())]

    async def job_state(self, args: JobArgs) -> Status:
        """One job. Raises NotFound."""
        running = self._jobs.get(args.job)
        return await (self._job(args.job).status() if running is None else self._status_of(running))

    async def _status_of(self, running: _Running) -> Status:
        if running.job is not None:
            found = await running.job.status()
            said = [each for each in (found.reason, self._beside(running, running.job)) if each]
            return msgspec.structs.replace(found, reason="; ".join(said) or None)
        return Status(
            name=running.name,
            remote=running.name,
            mountpoint=None,
            pid=os.getpid(),
            state=SessionState.FAILED.value,
            reason=running.failure,
            pending=0,
            pending_bytes=0,
            transfers=[],
            conflicts=[],
            problems=[],
            cache=None,
            last_cycle=None,
            entries=0,
        )

    def _beside(self, running: _Running, job: Job) -> str | None:
        """Which job that began earlier works on the same objects."""
        for other in self._jobs.values():
            if other is running:
                return None
            spec = None if other.job is None else shared(job.grounds, other.job.grounds)
            if spec is not None:
                return f"{spec} is kept in sync by job {other.name!r} too"
        return None

    async def pause(self, args: JobArgs) -> Done:
        """No transfers of a job until `resume`, also after a restart."""
        await self._job(args.job).pause()
        self._jobs[args.job].paused = True
        self._remember()
        return Done()

    async def resume(self, args: ResumeJobArgs) -> Status:
        """Goes on after `pause`, or with `confirm` after a safety stop."""
        found = await self._job(args.job).resume(confirm=args.confirm)
        self._jobs[args.job].paused = False
        self._remember()
        return found

    async def flush(self, args: FlushJobArgs) -> Status:
        """A whole run of a job now."""
        return await self._job(args.job).flush(timeout=args.timeout)

    async def conflicts(self, args: JobArgs) -> Conflicts:
        """What waits for a hand in a job."""
        return Conflicts(conflicts=await self._job(args.job).conflicts())

    async def resolve(self, args: ResolveJobArgs) -> Done:
        """Settles one conflict of a job."""
        await self._job(args.job).resolve(args.path, keep=args.keep.value)
        return Done()

    async def shutdown(self, _: object) -> Done:
        """Ends the daemon; its jobs come back with it."""
        await trio.lowlevel.checkpoint()
        self.ending.set()
        return Done()

    def events(self, args: SubscribeJobsArgs) -> AbstractAsyncContextManager[Events]:
        """Events of jobs, from now on. Raises UsageError for a type that does not exist."""
        for kind in args.types or ():
            if kind not in EVENT_TYPES:
                raise UsageError(f"there are no events {kind!r}", hint=f"known: {', '.join(EVENT_TYPES)}")
        return self._broadcaster.listen(partial(_is_wanted, args))


def _is_wanted(wanted: SubscribeJobsArgs, event: Event) -> bool:
    jobs, types = wanted.jobs, wanted.types
    return (jobs is None or event.job in jobs) and (types is None or event.__struct_config__.tag in types)


@dataclass(slots=True)
class _Announcer:
    """Events of a job on their way to listeners."""

    name: str
    broadcaster: Broadcaster

    def state(self, state: str, reason: str | None) -> None:
        """The job entered a state."""
        self.broadcaster.publish(StateEvent(job=self.name, state=state, reason=reason))
        _log.info("job", job=self.name, state=state, reason=reason)

    def change(self, done: Made) -> None:
        """Something was changed on a side."""
        if not is_told(done):
            return
        action = done.action
        self.broadcaster.publish(
            ChangeEvent(
                job=self.name,
                side="local" if done.side is Side.A else "remote",
                what=word_of(action),
                path=path_of(action),
                source=action.source if isinstance(action, Move) and not is_ours(action.source) else None,
            )
        )

    def conflict(self, conflict: ConflictStatus) -> None:
        """A conflict waits for a hand."""
        self.broadcaster.publish(ConflictEvent(job=self.name, conflict=conflict))

    def problem(self, problem: ProblemStatus) -> None:
        """A path failed."""
        self.broadcaster.publish(ProblemEvent(job=self.name, problem=problem))
        _log.warning(
            "not synced",
            job=self.name,
            path=problem.path,
            reason=problem.reason,
            retry_at=None if problem.retry_at is None else utc(problem.retry_at),
        )

    def cycle(self, done: CycleStatus) -> None:
        """A run ended."""
        self.broadcaster.publish(CycleEvent(job=self.name, cycle=done))


async def _subscribed(_: Daemon, __: Any) -> msgspec.Struct:
    await trio.lowlevel.checkpoint()
    return Done()


DAEMON_SERVICE: Final = Service(
    JOB_COMMANDS,
    {
        "start": Daemon.start,
        "stop": Daemon.stop,
        "stop-all": Daemon.stop_all,
        "status": Daemon.status,
        "job-state": Daemon.job_state,
        "subscribe": _subscribed,
        "pause": Daemon.pause,
        "resume": Daemon.resume,
        "flush": Daemon.flush,
        "conflicts": Daemon.conflicts,
        "resolve": Daemon.resolve,
        "shutdown": Daemon.shutdown,
    },
    Daemon.events,
)


async def run(load: Loader, opener: Opener, metrics: Endpoint | None = None) -> None:
    """Runs until SIGTERM, SIGINT or `shutdown`; figures for Prometheus are served at `metrics`.

    Raises StateLocked when a daemon runs already, MountError when it cannot listen.
    """
    folder = daemon_folder()
    make_folder(str(folder))
    try:
        lock = StateLock(str(folder))
    except StateLocked as error:
        raise StateLocked(
            f"the daemon runs already, as process {error.pid or 'unknown'}",
            pid=error.pid,
            hint="see `mountsync status`",
        ) from error
    try:
        async with trio.open_nursery() as nursery:
            daemon = Daemon(folder, load, opener, nursery)
            if metrics is not None:
                await nursery.start(serve_metrics, daemon.statuses, metrics, __version__)
            await nursery.start(serve, daemon, daemon_socket(), DAEMON_SERVICE)
            await nursery.start(_end_on_signal, daemon)
            daemon.come_back()
            nursery.start_soon(supervisor.keep_watchdog, trio.lowlevel.checkpoint)
            await supervisor.tell_ready("running")
            await daemon.ending.wait()
            supervisor.tell_stopping(_END_S)
            await trio.sleep(0.05)  # the reply to `shutdown` leaves before the socket goes
            nursery.cancel_scope.cancel()
    finally:
        lock.release()


async def _end_on_signal(
    daemon: Daemon, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            _log.info("ending", signal=number)
            daemon.ending.set()
