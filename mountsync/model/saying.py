"""States as a person says them."""

from __future__ import annotations

from typing import Final

from mountsync.model.status import SessionState, Status


def saying(status: Status) -> str:
    """The state in words."""
    at_rest = status.state in (SessionState.WATCHING.value, SessionState.SETTLED.value)
    if at_rest and (status.pending or status.conflicts or status.problems):
        return "watching"
    return _SAYINGS.get(status.state, status.state)


_SAYINGS: Final = {
    SessionState.STARTING.value: "starting",
    SessionState.WATCHING.value: "in sync, watching",
    SessionState.SCANNING.value: "looking at the remote",
    SessionState.RECONCILING.value: "comparing",
    SessionState.APPLYING.value: "transferring",
    SessionState.SETTLED.value: "in sync",
    SessionState.OFFLINE.value: "offline; work goes on, changes are kept for later",
    SessionState.WAITING_TO_RETRY.value: "waiting to try again",
    SessionState.PAUSED.value: "paused; `mountsync resume` goes on",
    SessionState.HALTED_EMPTIED.value: (
        "halted: the remote looks emptied; look at it, then `mountsync resume --confirm`"
    ),
    SessionState.HALTED_DELETES.value: (
        "halted: too many deletes at once; look at them, then `mountsync resume --confirm`"
    ),
    SessionState.FAILED.value: "failed",
}
