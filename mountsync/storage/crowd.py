"""Small pieces of work for threads, as many in one hop as wait: a hop costs as much as a small file."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar, cast

import trio

T = TypeVar("T")
_MOST: Final = 32
"""Pieces in one hop: what begins later need not wait long."""


class _Piece:
    """One piece of work and who waits for it."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work
        self.ready = trio.Event()
        self.scope = trio.CancelScope()
        self.leads = False
        self.result: Any = None
        self.error: BaseException | None = RuntimeError("the work never began")

    def do(self) -> None:
        """The work, in a thread; its error is raised where it is waited for."""
        try:
            self.result = self.work()
        except BaseException as error:  # noqa: BLE001 - it goes on its way in another task
            self.error = error
        else:
            self.error = None


class Crowd:
    """Hands work to threads. Whoever finds a free thread takes along what waits behind him."""

    def __init__(self, threads: trio.CapacityLimiter, at_once: int) -> None:
        """At most `at_once` hops at a time, each also holding a place of `threads`."""
        self._threads = threads
        self._free = at_once
        self._waiting: deque[_Piece] = deque()

    async def run(self, work: Callable[[], T]) -> T:
        """The result of `work`, done in a thread. Once begun it is finished, also when cancelled."""
        await trio.lowlevel.checkpoint_if_cancelled()
        piece = _Piece(work)
        if self._free:
            self._free -= 1
            piece.leads = True
        else:
            await self._wait(piece)
        if piece.leads:
            await self._lead(piece)
        if piece.error is not None:
            raise piece.error
        return cast("T", piece.result)

    async def _wait(self, piece: _Piece) -> None:
        self._waiting.append(piece)
        try:
            with piece.scope:
                await piece.ready.wait()
        except trio.Cancelled:
            if piece.leads:
                self._pass_on()
            elif piece in self._waiting:
                self._waiting.remove(piece)
            else:
                with trio.CancelScope(shield=True):
                    await piece.ready.wait()
            raise

    async def _lead(self, own: _Piece) -> None:
        await trio.lowlevel.cancel_shielded_checkpoint()  # whoever is about to ask comes along
        batch = [own, *(self._waiting.popleft() for _ in range(min(len(self._waiting), _MOST - 1)))]
        for piece in batch:
            piece.scope.shield = True
        try:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_do, batch, limiter=self._threads)
        finally:
            self._pass_on()
            for piece in batch:
                piece.ready.set()

    def _pass_on(self) -> None:
        """Somebody who waits leads next; without one the place is free."""
        if not self._waiting:
            self._free += 1
            return
        leader = self._waiting.popleft()
        leader.leads = True
        leader.ready.set()


def _do(batch: Sequence[_Piece]) -> None:
    for piece in batch:
        piece.do()
