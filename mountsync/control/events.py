"""Events from one session to any number of listeners, none of whom can hold it up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

import trio

from mountsync.control.protocol import Event, Events, LostEvent

BACKLOG: Final = 256
"""Events that wait for a slow listener; more are dropped and counted."""


def _all(_: Event) -> bool:
    return True


class _Listener:
    def __init__(self, job: str, wants: Callable[[Event], bool]) -> None:
        self._job = job
        self._wants = wants
        self._lost = 0
        self._ended = False
        self._send, self._receive = trio.open_memory_channel[Event](BACKLOG)

    def __aiter__(self) -> AsyncIterator[Event]:
        return self

    async def __anext__(self) -> Event:
        return await self._receive.__anext__()

    def put(self, event: Event) -> None:
        if self._ended or not self._wants(event):
            return
        try:
            if self._lost:
                self._send.send_nowait(LostEvent(job=self._job, count=self._lost))
                self._lost = 0
            self._send.send_nowait(event)
        except trio.WouldBlock:
            self._lost += 1
        except trio.BrokenResourceError:
            return  # the listener has just gone

    def end(self) -> None:
        self._ended = True
        self._send.close()

    def close(self) -> None:
        self.end()
        self._receive.close()


class Broadcaster:
    """Hands every published event to all who listen at that moment."""

    def __init__(self, job: str) -> None:
        self._job = job
        self._listeners: set[_Listener] = set()
        self._ended = False

    @property
    def is_heard(self) -> bool:
        """Whether anybody listens."""
        return bool(self._listeners)

    def publish(self, event: Event) -> None:
        """Never blocks and never fails; without listeners it costs nothing."""
        for listener in self._listeners:
            listener.put(event)

    def end(self) -> None:
        """Ends the iteration of all listeners, of later ones at once."""
        self._ended = True
        for listener in self._listeners:
            listener.end()

    @asynccontextmanager
    async def listen(self, wants: Callable[[Event], bool] = _all) -> AsyncIterator[Events]:
        """Events from now on that it wants. A `LostEvent` stands where some were dropped."""
        listener = _Listener(self._job, wants)
        if self._ended:
            listener.end()
        self._listeners.add(listener)
        try:
            yield listener
        finally:
            self._listeners.discard(listener)
            listener.close()
