"""In which condition a session is, and who waits for it to change."""

from __future__ import annotations

from collections.abc import Callable

import trio

from mountsync.errors import Halted, MountsyncError, Unreachable
from mountsync.model.saying import way_out
from mountsync.model.status import SessionState


class Condition:
    """What keeps a session from working, and what it is doing. Setting an attribute wakes waiters."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._changed = trio.Event()
        self.paused = False
        self.halted: tuple[SessionState, str] | None = None
        self.offline: MountsyncError | None = None
        self.missing = False
        """While offline: the place of the remote can be reached, and the remote is not there."""
        self.looked = False
        """The root of the remote was seen to be in order since the start."""
        self.scanning = 0
        self.cycles = 0

    @property
    def may_work(self) -> bool:
        """Whether anything may travel by itself."""
        return self.looked and not self.paused and self.halted is None and self.offline is None

    def refusal(self) -> MountsyncError | None:
        """Why a read of something that is not here must fail at once; None when it may be tried."""
        if self.halted is not None and self.halted[0] is SessionState.HALTED_REMOTE:
            return Halted(self.halted[1])
        if self.offline is not None:
            return Unreachable(self.offline.reason)
        return None

    def refuse_if_halted(self) -> None:
        """Raises Halted while a safety stop stands."""
        if self.halted is not None:
            raise Halted(self.halted[1], hint=way_out(self.halted[0]))

    @property
    def may_be_all_there_is(self) -> bool:
        """Whether it is not known that the remote still has what is here."""
        return not self.looked or self.halted is not None or self.missing

    def refuse_if_missing(self) -> None:
        """Raises Halted, or Unreachable, while it is known that the remote may not have what is here."""
        self.refuse_if_halted()
        if self.missing and self.offline is not None:
            raise Unreachable(
                self.offline.reason,
                hint="what is here may be all that is left of it: `mountsync export` saves it",
            )

    def changed(self) -> None:
        """Tells everybody that something is different now."""
        self._changed.set()
        self._changed = trio.Event()
        self._on_change()

    async def wait_for_change(self) -> None:
        """Returns at the next change."""
        await self._changed.wait()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Returns as soon as `holds()`."""
        while not holds():
            await self._changed.wait()

    def state(
        self, *, is_pending: Callable[[], bool], is_waiting: Callable[[], bool]
    ) -> tuple[SessionState, str | None]:
        """The state for people, with its reason: whether anything is pending, and waits for a retry.

        What is costly to know is asked only where it matters: this is called with each cycle.
        """
        if self.halted is not None:
            return self.halted
        for holds, state, reason in (
            (self.paused, SessionState.PAUSED, "paused by request"),
            (self.offline is not None, SessionState.OFFLINE, str(self.offline)),
            (not self.looked, SessionState.STARTING, None),
            (self.cycles > 0, SessionState.APPLYING, None),
            (self.scanning > 0, SessionState.SCANNING, None),
        ):
            if holds:
                return state, reason
        if not is_pending():
            return SessionState.SETTLED, None
        return (SessionState.WAITING_TO_RETRY if is_waiting() else SessionState.WATCHING), None
