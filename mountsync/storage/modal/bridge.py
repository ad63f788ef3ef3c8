"""An asyncio loop in a thread of its own, for libraries that know only asyncio; called from trio.

Only coroutines that belong to that loop may be given to it. Made after any fork, closed by `aclose`.
Waking the other thread costs more than most calls, so what comes at the same time shares one waking.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeAlias, TypeVar

import trio

from mountsync.errors import Unreachable

T = TypeVar("T")
_Errand: TypeAlias = Callable[[], object]


class _Post:
    """Errands for another thread. `wake` makes that thread call `deliver` soon."""

    def __init__(self, wake: Callable[[_Errand], object]) -> None:
        self._wake = wake
        self._errands: deque[_Errand] = deque()
        self._is_coming = False

    def send(self, errand: _Errand) -> None:
        """Has `errand` run there. Called by one thread only."""
        self._errands.append(errand)
        if not self._is_coming:
            self._is_coming = True
            self._wake(self.deliver)

    def deliver(self) -> None:
        """Runs what was sent; on the other thread."""
        self._is_coming = False  # before the first look: what is sent from now on wakes again
        while self._errands:
            self._errands.popleft()()


class Started(Generic[T]):
    """A coroutine that runs on the other loop."""

    def __init__(self, thread: AsyncioThread, work: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self._thread = thread
        self._work = work
        self._task: asyncio.Task[T] | None = None
        self._unwanted = False
        self._done = trio.Event()

    def begin(self) -> None:
        """Starts the coroutine; on the asyncio loop."""
        if self._unwanted:
            self._thread.tell(self._end)
            return
        self._task = asyncio.get_running_loop().create_task(self._work())
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[T]) -> None:
        if not task.cancelled():
            task.exception()  # an error that nobody waits for any more is no news
        self._thread.tell(self._end)

    def _end(self) -> None:
        self._done.set()

    async def wait(self) -> T:
        """Its result or its error. Cancelling the wait cancels the coroutine."""
        try:
            await self._done.wait()
            assert self._task is not None
            return self._task.result()
        except asyncio.CancelledError:
            raise Unreachable("the connection to Modal was closed") from None
        finally:
            self.cancel()

    def cancel(self) -> None:
        """Stops it soon; no error when it is over."""
        self._unwanted = True
        if not self._done.is_set():
            self._thread.ask(self._stop)

    async def stop(self) -> None:
        """As `cancel`; when it returns nothing of the coroutine goes on. Not cancelled itself."""
        self.cancel()
        with trio.CancelScope(shield=True):
            await self._done.wait()

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()


class Flowing(Started[None], Generic[T]):
    """A coroutine that runs on the other loop and gives one thing after the other away."""

    def __init__(
        self, thread: AsyncioThread, work: Callable[[Flowing[T]], Coroutine[Any, Any, None]], waiting: int
    ) -> None:
        super().__init__(thread, lambda: work(self))
        self._waiting = waiting
        self._here: list[T] = []
        self._news = trio.Event()
        self._sent = 0
        """Counted on the asyncio loop, and `_taken` by trio: each is written by one thread."""
        self._taken = 0
        self._when_taken: Callable[[], None] | None = None

    # on the asyncio loop

    def give(self, thing: T) -> None:
        """Hands a thing over, however many were not taken yet."""
        self._sent += 1
        self._thread.tell(lambda: self._take(thing))

    @property
    def is_full(self) -> bool:
        """Whether so many wait to be taken that no more should be made for now."""
        return self._sent - self._taken >= self._waiting

    def when_taken(self, act: Callable[[], None]) -> None:
        """Has `act` called once, when it is not full any more; at once when it is not full now."""
        self._when_taken = act  # before the look: what is taken from now on wakes us
        self._look_taken()

    def _look_taken(self) -> None:
        act = self._when_taken
        if act is not None and not self.is_full:
            self._when_taken = None
            act()

    # in trio

    def _take(self, thing: T) -> None:
        self._here.append(thing)
        self._news.set()

    def _end(self) -> None:
        super()._end()
        self._news.set()

    async def more(self) -> tuple[T, ...]:
        """What came since the last call, at least one thing; nothing at the end. Raises its error then.

        Cancelling it cancels the coroutine.
        """
        try:
            await self._news.wait()
        except trio.Cancelled:
            self.cancel()
            raise
        if not self._here:
            await self.wait()
        given, self._here = tuple(self._here), []
        self._taken += len(given)
        if self._when_taken is not None:
            self._thread.ask(self._look_taken)
        if not self._done.is_set():
            self._news = trio.Event()
        return given


S = TypeVar("S", bound=Started[Any])


class AsyncioThread:
    """Runs coroutines of asyncio for tasks of trio, of the run in which it was made."""

    def __init__(self, name: str) -> None:
        self.busy = 0
        """How many calls of `run` are under way."""
        self._loop = asyncio.new_event_loop()
        self._there = _Post(self._loop.call_soon_threadsafe)
        self._here = _Post(self._wake_trio)
        self._trio = trio.lowlevel.current_trio_token()
        self._is_closing = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def _wake_trio(self, deliver: _Errand) -> None:
        with contextlib.suppress(trio.RunFinishedError):
            self._trio.run_sync_soon(deliver)

    def tell(self, errand: _Errand) -> None:
        """Has `errand` run in trio's thread; called from the asyncio loop."""
        self._here.send(errand)

    def ask(self, errand: _Errand) -> None:
        """Has `errand` run on the asyncio loop; called from trio. Nothing after `aclose`."""
        with contextlib.suppress(RuntimeError):
            self._there.send(errand)

    def start(self, work: Callable[[], Coroutine[Any, Any, T]]) -> Started[T]:
        """Starts `work()` there. Raises Unreachable after `aclose`."""
        self._refuse_if_closing()
        return self._start(Started(self, work))

    def flow(self, work: Callable[[Flowing[T]], Coroutine[Any, Any, None]], *, waiting: int) -> Flowing[T]:
        """Starts `work` there, with what it gives to. Raises Unreachable after `aclose`.

        `waiting`: things that were given and not taken before the flow counts as full.
        """
        self._refuse_if_closing()
        return self._start(Flowing(self, work, waiting))

    def _refuse_if_closing(self) -> None:
        if self._is_closing:
            raise Unreachable("the connection to Modal was closed")

    def _start(self, started: S) -> S:
        self.ask(started.begin)
        return started

    async def run(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """The result of `work()`, which runs there."""
        return await self.start(lambda: self._counted(work)).wait()

    async def _counted(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        self.busy += 1
        try:
            return await work()
        finally:
            self.busy -= 1

    async def aclose(self, finish: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Cancels what runs, runs `finish()` there, and ends the thread. Safe to call twice."""
        if self._is_closing:
            return
        self._is_closing = True
        with trio.CancelScope(shield=True):
            await self._start(Started(self, lambda: _finish(finish))).wait()
            self._loop.call_soon_threadsafe(self._loop.stop)
            await trio.to_thread.run_sync(self._thread.join)


async def _finish(finish: Callable[[], Coroutine[Any, Any, None]]) -> None:
    others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await finish()
