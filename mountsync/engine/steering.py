"""A mount's session as the control socket sees it."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, Protocol

import msgspec
import structlog
import trio

from mountsync.engine.condition import Condition
from mountsync.engine.cycle import MountCycles
from mountsync.engine.problems import reason_in
from mountsync.engine.session import Session
from mountsync.engine.transfers import Transfers
from mountsync.engine.upkeep import Upkeep
from mountsync.errors import Busy, MountsyncError, NotFound
from mountsync.model.plan import Conflict, ConflictPolicy, Resolved
from mountsync.model.status import (
    CacheStatus,
    ConflictStatus,
    CycleStatus,
    ProblemStatus,
    SessionState,
    Status,
)
from mountsync.paths import ROOT, RelPath, from_bytes, rel_path, to_bytes
from mountsync.state.base import Base
from mountsync.state.journal import Journal
from mountsync.state.tree import NodeId
from mountsync.telemetry import utc
from mountsync.vfs.volume import Volume

_log = structlog.get_logger(__name__)
_LISTED: Final = 1000
"""Problems that a status shows at most."""
_ROUNDS: Final = 20
"""How often a flush looks at the remote before it leaves the rest, which keeps changing, to others."""
_RESTING_NS: Final = 3_000_000_000
"""A flush waits for changes that rest no longer than this, because something has to be looked at first."""
_POLL_S: Final = 0.5


class Announcer(Protocol):
    """Hands events to whoever listens."""

    def state(self, state: str, reason: str | None) -> None:
        """The session entered a state."""
        ...

    def conflict(self, conflict: ConflictStatus) -> None:
        """A conflict waits for a hand."""
        ...

    def problem(self, problem: ProblemStatus) -> None:
        """A path failed."""
        ...

    def cycle(self, done: CycleStatus) -> None:
        """A cycle ended."""
        ...


class Steering:
    """Answers commands and tells what happens. One per mount."""

    def __init__(
        self,
        *,
        name: str,
        remote: str,
        mountpoint: str,
        volume: Volume,
        condition: Condition,
        transfers: Transfers,
        announcer: Announcer,
        end: Callable[[], None],
    ) -> None:
        self._name = name
        self._remote = remote
        self._mountpoint = mountpoint
        self._volume = volume
        self._journal: Journal = volume.journal
        self._base: Base = volume.base
        self.condition = condition
        self.transfers = transfers
        self._announcer = announcer
        self._end = end
        self._last_state: tuple[str, str | None] = ("", None)
        self.session: Session
        self.cycles: MountCycles
        self.upkeep: Upkeep

    # Audience of the session

    def conflict(self, conflict: Conflict) -> None:
        """A conflict waits for a hand."""
        _log.warning("conflict", path=conflict.path, reason=conflict.reason)
        self._announcer.conflict(_conflict_status(conflict))

    def resolved(self, resolved: Resolved) -> None:
        """A conflict was settled by the policy."""
        _log.warning("both versions were kept", path=resolved.path, copy=resolved.copy)

    def failed(self, path: RelPath, error: MountsyncError) -> None:
        """A path could not be read or changed."""
        self.transfers.tally.failures += 1
        retry_at = self._retry_at(path)
        _log.warning(
            "not replicated",
            path=path,
            remote=self._remote,
            reason=str(error),
            retry_at=None if retry_at is None else utc(retry_at),
        )
        self._announcer.problem(_problem_status(path, error, retry_at))

    def _retry_at(self, path: RelPath) -> float | None:
        """When a change here is tried again, in seconds since 1970; None: at the next look there."""
        node = self._volume.tree.resolve(to_bytes(path))
        row = None if node is None else self._journal.find(node)
        return None if row is None else max(row.not_before_ns, self._volume.clock()) / 1e9

    def cycle(self, done: CycleStatus) -> None:
        """A cycle ended."""
        self._announcer.cycle(done)
        if done.to_local:
            self.upkeep.fetch_pinned_soon()

    def condition_changed(self) -> None:
        """Tells listeners when the state is another one."""
        state = self._state()
        if state != self._last_state:
            self._last_state = state
            self._announcer.state(*state)

    # Commands

    def _state(self) -> tuple[str, str | None]:
        state, reason = self.condition.state(
            is_pending=lambda: self._is_unseen() or not self._journal.is_empty,
            is_waiting=lambda: self._is_unseen() or self._journal.is_waiting(self._volume.clock()),
        )
        return state.value, reason

    def _is_unseen(self) -> bool:
        """Whether the remote as a whole has a problem: nobody knows what is there, so nothing is settled."""
        return ROOT in self.session.problems

    async def status(self) -> Status:
        """All there is to show."""
        state, reason = self._state()
        session = self.session
        return Status(
            name=self._name,
            remote=self._remote,
            mountpoint=self._mountpoint,
            pid=os.getpid(),
            state=state,
            reason=reason or self._volume.last_failure or session.deaf,
            pending=self._journal.count(),
            pending_bytes=self._journal.pending_bytes(),
            transfers=self.transfers.snapshot(),
            conflicts=await self.conflicts(),
            problems=self._problems(),
            cache=self._cache(),
            last_cycle=session.last_cycle,
            entries=self._volume.tree.count() - 1,
            totals=msgspec.structs.replace(self.transfers.totals(), events_lost=session.events_lost),
        )

    def _cache(self) -> CacheStatus:
        return CacheStatus(
            used=self._volume.cache_bytes(),
            dirty=self._journal.pending_bytes(),
            limit=self.upkeep.limit,
            pinned=self.upkeep.pinned(),
        )

    def _problems(self) -> list[ProblemStatus]:
        found = {path: _problem_status(path, error, None) for path, error in self.session.problems.items()}
        for row in self._journal.rows_with_problems():
            path = self._path(row.node)
            error = self.session.problems.get(path)
            kind = type(error).__name__ if error is not None else "PathError"
            reason, retry_at = reason_in(row.problem or "", path), row.not_before_ns / 1e9
            found[path] = ProblemStatus(path=path, reason=reason, error=kind, retry_at=retry_at)
        return [found[path] for path in sorted(found)][:_LISTED]

    def _path(self, node: NodeId) -> RelPath:
        """Where it is here, or where the remote has it still, or nothing."""
        raw, agreed = self._volume.tree.path(node), self._base.of_node(node)
        if raw is None and agreed:
            raw = self._base.path(agreed[0].parent, agreed[0].name)
        return ROOT if raw is None else from_bytes(raw)

    async def conflicts(self) -> list[ConflictStatus]:
        """What waits for a hand."""
        return [_conflict_status(c) for _, c in sorted(self.session.conflicts.items())]

    async def flush(self, *, timeout: float | None) -> Status:
        """A full cycle in both directions now."""
        self.condition.refuse_if_halted()
        if self.condition.paused:
            raise Busy("the mount is paused", hint="run `mountsync resume` first")
        with trio.move_on_after(float("inf") if timeout is None else timeout):
            await self._flush()
        return await self.status()

    async def _flush(self) -> None:
        dispatcher = self.session.dispatcher
        await self.session.reach()
        dispatcher.hurried += 1
        try:
            self._journal.hurry()
            dispatcher.ring()
            for _ in range(_ROUNDS):
                await self._drained(self._volume.clock())
                # A cycle may have noted something itself, such as a file removed during its first upload.
                if not await self.session.scan() and not self._waits(self._volume.clock()):
                    return
            await self._drained(self._volume.clock())
        finally:
            dispatcher.hurried -= 1

    async def _drained(self, until_ns: int) -> None:
        """Returns when no change that began before that time can be sent any more.

        Raises what keeps everything from travelling.
        """
        while True:
            self.condition.refuse_if_halted()
            if self.condition.paused:
                raise Busy("the mount was paused meanwhile", hint="run `mountsync resume` first")
            await self.session.reach()  # it may be back already
            if not self._waits(until_ns) and not self.session.has_hints:
                return
            with trio.move_on_after(_POLL_S) as scope:
                await self.condition.wait_for_change()
            if scope.cancelled_caught:
                self.session.dispatcher.ring()

    def _waits(self, until_ns: int) -> bool:
        """Whether a change that began before that time waits to be sent."""
        now = self._volume.clock()
        return self._journal.has_due(until_ns, now, now + _RESTING_NS)

    async def pause(self) -> None:
        """No transfers from now on; returns when none is under way."""
        self.condition.paused = True
        self.condition.changed()
        await self.condition.until(lambda: not self.condition.cycles)

    async def resume(self, *, confirm: bool) -> Status:
        """Goes on after `pause` or, confirmed, after a safety stop; never with a remote that is not there."""
        condition = self.condition
        if condition.halted is not None:
            if not confirm or condition.halted[0] is SessionState.HALTED_REMOTE:
                condition.refuse_if_halted()
            condition.halted = None
            self.session.confirmed = True
            self.session.dispatcher.allow_deletes()
        condition.paused = False
        condition.changed()
        self._journal.hurry()
        self.session.probe_now()
        self.session.scan_soon()
        return await self.status()

    async def settle_conflict(self, path: str, policy: ConflictPolicy) -> None:
        """Settles one conflict by a policy. Raises NotFound when there is none at `path`, Busy."""
        wanted = rel_path(path)
        if wanted not in self.session.conflicts:
            raise NotFound("there is no conflict at this path", path=path)
        self.cycles.overrides[wanted] = policy
        try:
            await self.session.look_at({wanted})
            if wanted in self.session.conflicts:
                raise Busy("the conflict could not be settled now", path=path, hint="try again")
        finally:
            self.cycles.overrides.pop(wanted, None)

    async def pin(self, path: str) -> None:
        """Keeps content here."""
        self.upkeep.pin(path)

    async def unpin(self, path: str) -> None:
        """Ends `pin`."""
        self.upkeep.unpin(path)

    async def evict(self, path: str) -> int:
        """Forgets local copies; gives the bytes freed."""
        return self.upkeep.evict(path)

    async def shutdown(self, *, drain: bool) -> None:
        """Ends the mount."""
        if drain and self._journal.count():
            left = await self.flush(timeout=None)
            if left.pending:
                raise Busy(
                    f"{left.pending} changes could not be replicated",
                    hint="see `mountsync status`, or unmount with --now: they are kept and sent later",
                )
        self._end()


def _conflict_status(conflict: Conflict) -> ConflictStatus:
    a, b = conflict.a, conflict.b
    return ConflictStatus(
        path=conflict.path,
        reason=conflict.reason,
        local_size=None if a is None else a.size,
        local_mtime_ns=None if a is None else a.mtime_ns,
        remote_size=None if b is None else b.size,
        remote_mtime_ns=None if b is None else b.mtime_ns,
    )


def _problem_status(path: RelPath, error: MountsyncError, retry_at: float | None) -> ProblemStatus:
    return ProblemStatus(
        path=path or str(ROOT), reason=error.reason, error=type(error).__name__, retry_at=retry_at
    )
