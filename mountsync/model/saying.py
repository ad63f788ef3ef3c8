"""States as a person says them."""

from __future__ import annotations

from typing import Final

from mountsync.model.status import SessionState, Status


def saying(status: Status) -> str:
    """The state in words."""
    if status.state == SessionState.HALTED_REMOTE.value and status.mountpoint is None:
        return "halted: a side was deleted or replaced; look at it, then `mountsync resume --confirm`"
    at_rest = status.state in (SessionState.WATCHING.value, SessionState.SETTLED.value)
    if at_rest and (status.pending or status.conflicts or status.problems):
        return "watching"
    return _SAYINGS.get(status.state, status.state)


_SAVE: Final = (
    "save what is here with `mountsync export`, then `mountsync umount --now`, "
    "and mount with another --cache-dir"
)
"""For a mount whose remote will not come back: what is kept in its state belongs to no other."""


def way_out(state: SessionState) -> str:
    """What a person does about a mount that a safety stop halted."""
    if state is SessionState.HALTED_REMOTE:
        return _SAVE
    return "look at the remote, then run `mountsync resume --confirm`"


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
    SessionState.HALTED_REMOTE.value: f"halted: the remote was deleted or replaced; {_SAVE}",
    SessionState.FAILED.value: "failed",
}
