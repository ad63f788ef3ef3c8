"""One mount: every floor wired together, in one nursery."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

import structlog
import trio

from mountsync import __version__
from mountsync.config import config_path, load_config
from mountsync.content.store import Store
from mountsync.control import directory, supervisor
from mountsync.control import server as control
from mountsync.control.events import Broadcaster
from mountsync.control.metrics import serve_metrics
from mountsync.control.mounts import mountsync_mounts
from mountsync.control.progress import tell_progress
from mountsync.control.protocol import (
    ConflictEvent,
    CycleEvent,
    Event,
    Keep,
    ProblemEvent,
    StateEvent,
)
from mountsync.engine.assembly import Engine, Tuning
from mountsync.engine.away import AwayStorage, recall, remember
from mountsync.engine.condition import Condition
from mountsync.engine.fetch import Fetcher
from mountsync.engine.pair.filters import Filter
from mountsync.engine.steering import Steering
from mountsync.engine.storage_replica import Excluded, StorageReplica
from mountsync.engine.transfers import Transfers
from mountsync.errors import (
    ConfigError,
    Halted,
    MountsyncError,
    NotADirectory,
    NotFound,
    StateError,
    StateLocked,
    Unreachable,
    UsageError,
    alone_in,
    from_os_error,
)
from mountsync.fuse.descriptors import apart
from mountsync.fuse.mountpoint import cut_off
from mountsync.fuse.notifier import FuseNotifier
from mountsync.fuse.session import Options, serve
from mountsync.model.entry import Kind
from mountsync.model.plan import ConflictPolicy
from mountsync.model.status import ConflictStatus, CycleStatus, ProblemStatus, Status
from mountsync.paths import ROOT, RelPath
from mountsync.settings import Durability, MountSettings, Thumbnails
from mountsync.state.base import Base
from mountsync.state.database import Database, StateLock, make_folder
from mountsync.state.journal import Journal
from mountsync.state.tree import Tree
from mountsync.storage.api import Storage, SupportsAttempts, SupportsUsage
from mountsync.storage.environment import with_environment
from mountsync.storage.registry import Remotes
from mountsync.telemetry import without_secrets
from mountsync.vfs.core import Owner
from mountsync.vfs.core import Rules as VolumeRules
from mountsync.vfs.recovery import mark_clean, recover
from mountsync.vfs.volume import Volume

_log = structlog.get_logger(__name__)
_USAGE_EVERY_S: Final = 60.0
_LAST_WORDS_S: Final = 5.0
_CUT_OFF_S: Final = 5.0
"""How long a process may take to end once its mount is cut off."""
_LOCK_AGAIN_S: Final = 0.1
_ASK_S: Final = 10.0
"""Patience with a remote that is asked what its root is; without an answer it is found out later."""
_NAME_ITS_FOLDER: Final = "name the folder that it lies in"
_END_S: Final = 60.0
"""Patience that is asked of a service manager at the end: the kernel writes, the state is made durable."""
_BOOT_ID: Final = "/proc/sys/kernel/random/boot_id"

T = TypeVar("T")

_POLICY_OF: Final = {
    Keep.LOCAL: ConflictPolicy.A,
    Keep.REMOTE: ConflictPolicy.B,
    Keep.BOTH: ConflictPolicy.KEEP_BOTH,
}


def run(settings: MountSettings) -> None:
    """Mounts and serves until unmounted, a signal or a shutdown over the socket.

    Raises MountError, StateError, ConfigError, NotFound, … before anything is mounted.
    """
    try:
        trio.run(main, settings)
    except BaseExceptionGroup as group:
        raise alone_in(group) from group
    except OSError as error:
        raise from_os_error(error) from error


async def main(settings: MountSettings) -> None:
    """As `run`, on a trio loop that exists."""
    structlog.contextvars.bind_contextvars(remote=settings.remote)
    make_folder(os.fspath(settings.state_dir))
    lock = await _lock(settings)
    try:
        database = Database(os.fspath(settings.state_dir / "state.db"))
        try:
            await _with_state(settings, database)
        finally:
            database.close()
    finally:
        lock.release()


async def _lock(settings: MountSettings) -> StateLock:
    """Raises StateLocked; at once when the other process has a mount."""
    end, is_ending = trio.current_time() + settings.lock_wait, False
    while True:
        try:
            return StateLock(os.fspath(settings.state_dir))
        except StateLocked as error:
            if not is_ending and await trio.to_thread.run_sync(_cut_off_killed, error.pid):
                end, is_ending = max(end, trio.current_time() + _CUT_OFF_S), True
            if trio.current_time() >= end or (not is_ending and _is_mounted_by(error.pid)):
                raise
        await trio.sleep(_LOCK_AGAIN_S)


def _is_mounted_by(pid: int | None) -> bool:
    mounted = mountsync_mounts()
    return any(each.pid == pid and each.mountpoint in mounted for each in directory.running())


def _cut_off_killed(pid: int | None) -> bool:
    """Helps a process to its end that was killed, and that its own mount holds in the kernel."""
    killed = [record for record in directory.running() if record.pid == pid and directory.is_killed(record)]
    for record in killed:
        if cut_off(record.mountpoint):
            _log.warning("the mount before was killed and hung; it was cut off", path=record.mountpoint)
    return bool(killed)


async def _with_state(settings: MountSettings, database: Database) -> None:
    opener = partial(_open_checked, settings, database)
    opening = await _unless_ended(partial(_open_or_away, settings, database, opener))
    if opening is None:
        return
    storage, late = opening
    mount = _Mount(settings, database, StorageReplica(storage, excluded=_exclusion(settings)))
    try:
        await mount.run(partial(_open_late, settings, database) if late else None)
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _LAST_WORDS_S):
            await mount.remote.storage.aclose()


async def _unless_ended(work: Callable[[], Awaitable[T]]) -> T | None:
    """What `work` gives; None when SIGTERM ended it: a remote may take its time, PID 1 has no defaults."""
    result = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_on_signal, nursery.cancel_scope)
            result = await work()
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise alone_in(group) from group
    return result


async def _cancel_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


async def _open_checked(settings: MountSettings, database: Database) -> Storage:
    """The remote, which must be a folder, and the one that the state belongs to.

    Raises StateError, NotADirectory.
    """
    storage = await _open_remote(settings)
    try:
        await _refuse_file(settings, storage)
        _check_identity(settings, database, storage)
        if isinstance(storage, SupportsAttempts):
            await storage.recover_attempts()
    except BaseException:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _LAST_WORDS_S):
            await storage.aclose()
        raise
    return storage


async def _refuse_file(settings: MountSettings, storage: Storage) -> None:
    """Raises NotADirectory for a remote that is a file. One that cannot be asked now is none."""
    found = None
    with trio.move_on_after(_ASK_S):
        try:
            found = await storage.stat(ROOT)
        except MountsyncError as error:
            _log.info("the root of the remote cannot be looked at yet", reason=str(error))
    if found is not None and found.kind is not Kind.DIRECTORY:
        raise NotADirectory("it is a file", path=settings.remote, hint=_NAME_ITS_FOLDER)


class _OtherRemote(StateError):
    """The state belongs to another remote than the one that has its name now."""


async def _open_late(settings: MountSettings, database: Database) -> Storage:
    """As `_open_checked`, for a mount that runs already. Raises Halted for another remote."""
    try:
        return await _open_checked(settings, database)
    except _OtherRemote as error:
        raise Halted(error.reason, hint=error.hint) from error


async def _open_remote(settings: MountSettings) -> Storage:
    config = with_environment(load_config(settings.config_path or config_path()), os.environ)
    remotes = Remotes(config.remotes, settings.state_dir / "storages", flags=settings.backend_options)
    try:
        return await remotes.open(settings.remote)
    except NotADirectory as error:
        error.hint = error.hint or _NAME_ITS_FOLDER
        raise


async def _open_or_away(
    settings: MountSettings, database: Database, opener: Callable[[], Awaitable[Storage]]
) -> tuple[Storage, bool]:
    """The remote, or a stand-in when it is out of reach and this mount knew it before."""
    facts = database.setting("remote_facts")
    if settings.offline and facts is not None:
        return AwayStorage(recall(facts), "the mount was started with --offline"), True
    try:
        return await opener(), False
    except (Unreachable, NotFound) as error:
        if facts is None:
            raise
        _log.warning("the remote cannot be opened", reason=str(error))
        return AwayStorage(recall(facts), str(error)), True


def _check_identity(settings: MountSettings, database: Database, storage: Storage) -> None:
    known = database.setting("remote")
    if known is not None and known != storage.info.identity:
        raise _OtherRemote(
            f"the state in {settings.state_dir} belongs to another remote ({known})",
            hint="give another --cache-dir",
        )
    with database.transaction:
        database.set_setting("remote", storage.info.identity)
        database.set_setting("remote_facts", remember(storage.info))


def _exclusion(settings: MountSettings) -> Excluded:
    """Which paths never travel: temporary files of programs, and what the user's filter matches."""
    local, filters = settings.local_only, _filters(settings)

    def excluded(path: RelPath, /, *, is_directory: bool) -> bool:
        return local.holds(path) or filters.hides(path, is_directory=is_directory)

    return excluded


def _filters(settings: MountSettings) -> Filter:
    if settings.filter_from is None:
        return Filter()
    try:
        return Filter(settings.filter_from.read_text("utf-8", "surrogateescape").splitlines())
    except OSError as error:
        raise ConfigError(f"--filter-from {settings.filter_from}: {error.strerror}") from error
    except UsageError as error:
        raise ConfigError(f"--filter-from {settings.filter_from}: {error}") from error


@dataclass(slots=True)
class _Announcer:
    """Events of a session on their way to listeners."""

    job: str
    broadcaster: Broadcaster

    def state(self, state: str, reason: str | None) -> None:
        """The session entered a state."""
        self.broadcaster.publish(StateEvent(job=self.job, state=state, reason=reason))
        supervisor.tell_status(f"{state}: {reason}" if reason else state)

    def conflict(self, conflict: ConflictStatus) -> None:
        """A conflict waits for a hand."""
        self.broadcaster.publish(ConflictEvent(job=self.job, conflict=conflict))

    def problem(self, problem: ProblemStatus) -> None:
        """A path failed."""
        self.broadcaster.publish(ProblemEvent(job=self.job, problem=problem))

    def cycle(self, done: CycleStatus) -> None:
        """A cycle ended."""
        self.broadcaster.publish(CycleEvent(job=self.job, cycle=done))


class _Controls(Steering):
    """The session's commands, with what only the socket needs."""

    broadcaster: Broadcaster

    async def resolve(self, path: str, *, keep: Keep) -> None:
        """Settles one conflict."""
        await self.settle_conflict(path, _POLICY_OF[keep])

    def subscribe(self) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """Events from now on."""
        return self.broadcaster.listen()


class _Mount:
    """All parts of one mount."""

    def __init__(self, settings: MountSettings, database: Database, remote: StorageReplica) -> None:
        self.settings = settings
        self.database = database
        self.remote = remote
        self.clock = time.time_ns
        self.tree = Tree(database)
        self.journal = Journal(database)
        self.base = Base(database)
        self.store = Store(os.fspath(settings.state_dir / "content"))
        self.notifier = FuseNotifier()
        self._recover()
        self.volume = self._make_volume()
        self.transfers = Transfers.limited(settings.bwlimit)
        self.ending = trio.Event()
        self._is_asked_to_end = False
        self._prober = trio.CapacityLimiter(1)
        self.broadcaster = Broadcaster(settings.name)
        self.condition = Condition(self._condition_changed)
        self.controls = self._make_controls()

    def _recover(self) -> None:
        boot = Path(_BOOT_ID).read_text().strip()
        found = recover(self.database, self.tree, self.journal, self.store, now_ns=self.clock(), boot=boot)
        for path, problem in found.problems.items():
            _log.error("lost", path=path.decode("utf-8", "backslashreplace"), reason=problem.reason)
        if found.misplaced or found.unnoted:
            _log.warning("the state was mended", misplaced=found.misplaced, unnoted=found.unnoted)

    def _make_volume(self) -> Volume:
        settings = self.settings
        local = settings.local_only
        umask = _umask() if settings.umask is None else settings.umask
        owner = Owner(
            os.getuid() if settings.uid is None else settings.uid,
            os.getgid() if settings.gid is None else settings.gid,
            umask,
        )
        return Volume(
            self.database,
            self.tree,
            self.journal,
            self.base,
            self.store,
            rules=VolumeRules(
                names=self.remote.info.names,
                owner=owner,
                local_only=lambda name: local.holds_name(name.decode("utf-8", "surrogateescape")),
                read_only=settings.read_only,
                hidden=partial(_exclusion(settings), is_directory=True),
            ),
            clock=self.clock,
            kernel=self.notifier,
        )

    def _make_controls(self) -> _Controls:
        settings = self.settings
        controls = _Controls(
            name=settings.name,
            remote=settings.remote,
            mountpoint=os.fspath(settings.mountpoint),
            volume=self.volume,
            condition=self.condition,
            transfers=self.transfers,
            announcer=_Announcer(settings.name, self.broadcaster),
            end=self.ending.set,
        )
        controls.broadcaster = self.broadcaster
        return controls

    def _condition_changed(self) -> None:
        self.controls.condition_changed()

    async def run(self, opener: Callable[[], Awaitable[Storage]] | None) -> None:
        """Mounts, works, unmounts."""
        try:
            async with trio.open_nursery() as nursery:
                await self._start(nursery, opener)
                await self.ending.wait()
                nursery.cancel_scope.cancel()
        finally:
            self.broadcaster.end()
            with trio.CancelScope(shield=True):
                await self.volume.barrier()
            self.volume.close()
            mark_clean(self.database)

    async def _start(self, nursery: trio.Nursery, opener: Callable[[], Awaitable[Storage]] | None) -> None:
        settings = self.settings
        engine = self._wire(nursery, opener)
        if settings.metrics is not None:
            await nursery.start(serve_metrics, self._statuses, settings.metrics, __version__)
        nursery.start_soon(self.volume.keep)
        nursery.start_soon(self._obey_signals, nursery)
        mountpoint = os.fspath(settings.mountpoint)
        await nursery.start(partial(self._serve, engine.fetcher, mountpoint))
        await nursery.start(partial(control.serve, self.controls, settings.control_socket))
        record = directory.announce(
            name=settings.name,
            remote=settings.remote,
            mountpoint=settings.mountpoint,
            state_dir=settings.state_dir,
            socket=settings.control_socket,
        )
        nursery.start_soon(self._withdraw_at_end, record)
        nursery.start_soon(self._watch_usage)
        nursery.start_soon(
            tell_progress, self.broadcaster, settings.name, self.transfers.tally, self.controls.status
        )
        if settings.offline:
            self.condition.paused = True
        nursery.start_soon(engine.run)
        settings.announce_ready()
        await supervisor.tell_ready(f"mounted {without_secrets(settings.remote)} on {settings.mountpoint}")
        nursery.start_soon(supervisor.keep_watchdog, self._answers)

    async def _statuses(self) -> list[Status]:
        return [await self.controls.status()]

    async def _answers(self) -> None:
        """A question that goes through the kernel and back to us."""
        await trio.to_thread.run_sync(
            apart,
            os.statvfs,
            os.fspath(self.settings.mountpoint),
            abandon_on_cancel=True,
            limiter=self._prober,
        )

    async def _serve(self, fetcher: Fetcher, mountpoint: str, *, task_status: trio.TaskStatus[None]) -> None:
        settings = self.settings
        options = Options(
            name=settings.source or settings.remote,
            allow_other=settings.allow_other,
            executable=settings.exec,
            read_only=settings.read_only,
            durable_close=settings.durability is Durability.CLOSE,
            thumbnails=settings.thumbnails is Thumbnails.ALLOW,
        )
        await serve(self.volume, fetcher, mountpoint, options, self.notifier, task_status=task_status)
        self.ending.set()

    def _wire(self, nursery: trio.Nursery, opener: Callable[[], Awaitable[Storage]] | None) -> Engine:
        settings = self.settings
        tuning = Tuning(
            host=socket.gethostname(),
            write_delay=settings.write_delay,
            poll_interval=settings.poll_interval,
            transfers=settings.transfers,
            conflict=settings.conflict,
            max_delete=settings.max_delete,
            cache_size=settings.cache_size,
        )
        return Engine(self.volume, self.remote, self.controls, nursery, tuning, opener=opener)

    async def _obey_signals(self, nursery: trio.Nursery) -> None:
        """The first signal ends in order, the second at once."""
        with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for number in signals:
                if self._is_asked_to_end:
                    self.ending.set()
                self._is_asked_to_end = True
                nursery.start_soon(self._end, number)

    async def _end(self, number: int) -> None:
        drain = self.settings.drain
        _log.info("ending", signal=number, not_replicated=self.journal.count(), drain=drain)
        supervisor.tell_stopping(drain + _END_S)
        if drain and self.journal.count():
            with trio.move_on_after(drain):
                await self._replicate()
            if left := self.journal.count():
                _log.warning("not everything is replicated; it goes on at the next mount", left=left)
        self.ending.set()

    async def _replicate(self) -> None:
        try:
            await self.controls.flush(timeout=None)
        except MountsyncError as error:
            _log.warning("the rest cannot be replicated now", reason=str(error))

    async def _withdraw_at_end(self, record: directory.MountRecord) -> None:
        try:
            await trio.sleep_forever()
        finally:
            directory.withdraw(record)

    async def _watch_usage(self) -> None:
        """Keeps the free space that programs see true, where the remote tells it."""
        while True:
            await self.condition.until(lambda: self.condition.may_work)
            if isinstance(self.remote.storage, SupportsUsage):
                try:
                    usage = await self.remote.storage.usage()
                except MountsyncError:
                    usage = None  # a look at the remote tells what is wrong
                if usage is not None and usage.total is not None and usage.free is not None:
                    self.volume.capacity = (usage.total, usage.free)
            await trio.sleep(_USAGE_EVERY_S)


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


__all__ = ["main", "run"]
