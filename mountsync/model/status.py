"""States that a person understands, and the numbers beside them. All of it crosses the socket."""

from __future__ import annotations

from enum import Enum
from typing import Final

import msgspec


class SessionState(Enum):
    """What a pair that is kept in sync is doing."""

    STARTING = "starting"
    WATCHING = "watching"
    SCANNING = "scanning"
    RECONCILING = "reconciling"
    APPLYING = "applying"
    SETTLED = "settled"
    OFFLINE = "offline"
    WAITING_TO_RETRY = "waiting-to-retry"
    PAUSED = "paused"
    HALTED_EMPTIED = "halted-emptied"
    HALTED_DELETES = "halted-deletes"
    HALTED_REMOTE = "halted-remote"
    FAILED = "failed"

    @property
    def halted(self) -> bool:
        """Whether a person must act before anything goes on."""
        return self in (
            SessionState.HALTED_EMPTIED,
            SessionState.HALTED_DELETES,
            SessionState.HALTED_REMOTE,
        )


class Transfer(msgspec.Struct, frozen=True, kw_only=True):
    """One body on its way. `rate` is in bytes per second."""

    path: str
    direction: str
    """`up` to the remote, `down` from it."""
    done: int
    size: int
    rate: float


class ConflictStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One conflict that waits for a hand. Sizes in bytes, times in ns since 1970, None for absence."""

    path: str
    reason: str
    local_size: int | None
    local_mtime_ns: int | None
    remote_size: int | None
    remote_mtime_ns: int | None


class ProblemStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One path that could not be read or changed. `retry_at`: seconds since 1970, None: not by itself."""

    path: str
    reason: str
    error: str
    retry_at: float | None


class CacheStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The local cache, in bytes and counts. `limit` None: no limit was set."""

    used: int
    dirty: int
    limit: int | None
    pinned: int


class CycleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The last finished cycle. Times in seconds since 1970; counts of actions done."""

    finished_at: float
    to_local: int
    to_remote: int
    problems: int
    conflicts: int


CYCLE_BOUNDS: Final = (0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Upper bounds, in seconds, of the classes in which cycles are counted by how long they took."""


class Totals(msgspec.Struct, frozen=True, kw_only=True):
    """What happened since the process, or the job in it, began. Never falls."""

    since: float
    """Seconds since 1970."""
    bytes_up: int
    bytes_down: int
    files_up: int
    files_down: int
    failures: int
    """How often a path failed."""
    events_lost: int = 0
    """How often changes came faster than a watcher could tell them, so that everything was looked at."""
    cycles: int
    cycle_seconds: float
    """How long all cycles took together."""
    cycles_within: list[int]
    """How many cycles took no longer than each of `CYCLE_BOUNDS`."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """All that `mountsync status` shows of one mount or job."""

    version: int = 1
    name: str
    remote: str
    mountpoint: str | None
    pid: int
    state: str
    reason: str | None
    """Why it is in that state, for a person; None when there is nothing to say."""
    pending: int
    """Local changes that the remote does not have yet."""
    pending_bytes: int
    transfers: list[Transfer]
    conflicts: list[ConflictStatus]
    problems: list[ProblemStatus]
    cache: CacheStatus | None
    last_cycle: CycleStatus | None
    entries: int
    """Names known of the tree."""
    totals: Totals | None = None
