"""Blocks that go away as they come, in a thread of their own: whoever takes them may wait for a disk.

Calls, and blocks that somebody reads, would have to wait with it.
"""

from __future__ import annotations

from mountsync.errors import Unreachable
from mountsync.storage.api import Into
from mountsync.storage.modal.blocks import BlockCourier
from mountsync.storage.modal.bridge import AsyncioThread, Flowing
from mountsync.storage.modal.patience import Limits
from mountsync.storage.modal.sinks import POURED_AHEAD, Poured


class Pouring:
    """Begins downloads. The thread begins with the first one; `aclose` ends it."""

    def __init__(self, limits: Limits, *, proxies: bool) -> None:
        self._limits = limits
        self._proxies = proxies
        self._at_work: tuple[AsyncioThread, BlockCourier] | None = None
        self._is_closed = False

    def begin(self, url: str, start: int, length: int, into: Into) -> Flowing[int]:
        """As `Transport.pour_block`. Raises Unreachable after `aclose`."""
        if self._is_closed:
            raise Unreachable("the connection to Modal was closed")
        if self._at_work is None:
            thread = AsyncioThread("mountsync-pour")
            self._at_work = thread, BlockCourier(self._limits, proxies=self._proxies)
        thread, blocks = self._at_work
        return thread.flow(
            lambda flow: blocks.deliver(url, length, Poured(flow, into, start, length)),
            waiting=POURED_AHEAD,
        )

    async def aclose(self) -> None:
        """Ends all downloads."""
        self._is_closed = True
        if self._at_work is not None:
            thread, blocks = self._at_work
            await thread.aclose(blocks.close)
