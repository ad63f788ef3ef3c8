"""An asyncio loop in a thread of its own, for libraries that know only asyncio; called from trio.

Only coroutines that belong to that loop may be given to it. Made after any fork, closed by `aclose`.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from typing import Any, Generic, TypeVar

import trio

from mountsync.errors import Unreachable

T = TypeVar("T")


class Started(Generic[T]):
    """A coroutine that runs on the other loop."""

    def __init__(self, future: Future[T]) -> None:
        self._future = future

    async def wait(self) -> T:
        """Its result or its error. Cancelling the wait cancels the coroutine."""
        done = trio.Event()
        token = trio.lowlevel.current_trio_token()

        def wake(_: object) -> None:
            with contextlib.suppress(trio.RunFinishedError):
                token.run_sync_soon(done.set)

        self._future.add_done_callback(wake)
        try:
            await done.wait()
            return self._future.result()
        except CancelledError:
            raise Unreachable("the connection to Modal was closed") from None
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Stops it soon; no error when it is over."""
        self._future.cancel()


class AsyncioThread:
    """Runs coroutines of asyncio for tasks of trio."""

    def __init__(self, name: str) -> None:
        self.busy = 0
        """How many calls of `run` are under way."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def start(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Started[T]:
        """Starts `work()` there. Raises Unreachable after `aclose`."""
        if self._loop.is_closed() or not self._thread.is_alive():
            raise Unreachable("the connection to Modal was closed")
        return Started(asyncio.run_coroutine_threadsafe(work(), self._loop))

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of `work()`, which runs there."""
        self.busy += 1
        try:
            return await self.start(work).wait()
        finally:
            self.busy -= 1

    async def aclose(self, finish: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancels what runs, runs `finish()` there, and ends the thread. Safe to call twice."""
        if not self._thread.is_alive():
            return
        with trio.CancelScope(shield=True):
            await self.run(lambda: _finish(finish))
            self._loop.call_soon_threadsafe(self._loop.stop)
            await trio.to_thread.run_sync(self._thread.join)


async def _finish(finish: Callable[[], Coroutine[Any, Any, None]]) -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await finish()
