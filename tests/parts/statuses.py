"""What mounts and jobs say of themselves."""

from __future__ import annotations

from mountsync.model.status import SessionState, Status


def status_of(state: SessionState = SessionState.SETTLED, **more: object) -> Status:
    """Of a mount in which nothing is pending; `more` are other fields."""
    usual: dict[str, object] = {
        "name": "n",
        "remote": "r:",
        "mountpoint": "/m",
        "pid": 1,
        "state": state.value,
        "reason": None,
        "pending": 0,
        "pending_bytes": 0,
        "transfers": [],
        "conflicts": [],
        "problems": [],
        "cache": None,
        "last_cycle": None,
        "entries": 0,
    }
    return Status(**(usual | more))  # type: ignore[arg-type]
