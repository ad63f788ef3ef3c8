"""What happens by itself: soft commits within milliseconds, everything safe from power loss in seconds."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from mountsync.state.tree import Place
from mountsync.vfs.attributes import Attributes
from mountsync.vfs.filling import Filling

_log = logging.getLogger(__name__)
COMMIT_S: Final = 0.02
"""Seconds after which what was not promised yet is committed all the same."""
BARRIER_S: Final = 5.0


class Barriers(Filling, Attributes):
    """Durability without anybody asking for it."""

    barrier_s: float = BARRIER_S
    """Seconds after a change until it is safe from power loss."""

    async def barrier(self) -> None:
        """Returns when all that was acknowledged before the call is safe from power loss.

        Changes in memory of files that stay open are saved too, so that a process that dies loses at
        most the time between two barriers.
        """
        for opened in list(self._opened.values()):
            if opened.unsaved and opened.data is not None:
                self._save(opened)
            self._drop_if_unused(opened)  # only one whose release could not save it
        claims = self.database.rows("SELECT node, start, stop FROM present WHERE barrier = 0")
        for node_id in list(self._unsynced):
            await self._make_safe(node_id)
        await self._sync_claims(claims)
        await self.database.make_durable()

    async def _make_safe(self, node_id: int) -> None:
        if node_id not in self._unsynced:
            return
        node = self.tree.find(node_id)
        if node is None or node.place != Place.FILE or self.store.size(node_id) is None:
            with self.database.transaction:
                self._forget_unsynced(node_id)
            return
        await self._sync_content(node)

    async def _sync_claims(self, claims: list[tuple[int, int, int]]) -> None:
        """Bytes of the claimed ranges first, then the mark that they are safe."""
        nodes = {claim[0] for claim in claims if self.store.size(claim[0]) is not None}
        safe = {node_id for node_id in nodes if await self._sync_file(node_id)}
        done = [claim for claim in claims if claim[0] in safe]
        if done:
            with self.database.transaction:
                for claim in done:
                    self.database.execute(
                        "UPDATE present SET barrier = 1 WHERE node = ? AND start = ? AND stop = ?", claim
                    )

    async def keep(self) -> None:
        """Runs for as long as the volume is used: commits, barriers and checkpoints, when there is need.

        While nothing changes it does nothing at all. A barrier that fails (the disk is full) is tried
        again; what was acknowledged stays committed meanwhile.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._keep_committed)
            nursery.start_soon(self._keep_durable)

    async def _keep_committed(self) -> None:
        while True:
            await self._commit_wanted.wait()
            await trio.sleep(COMMIT_S)
            self._commit_wanted = trio.Event()
            self._stirred = False
            await self._try(self._commit)

    async def _keep_durable(self) -> None:
        while True:
            await self._barrier_wanted.wait()
            await trio.sleep(self.barrier_s)
            self._barrier_wanted = trio.Event()
            if not await self._try(self.barrier):
                self._barrier_wanted.set()

    async def _commit(self) -> None:
        self.database.commit_soft()
        if self.database.checkpoint_due:
            await self.database.checkpoint()

    async def _try(self, work: Callable[[], Awaitable[None]]) -> bool:
        """Whether it worked. What fails is told and tried again: the mount must go on meanwhile."""
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - logged, shown by status and tried again
            if str(error) != self.last_failure:
                _log.exception("changes cannot be made safe")
            self.last_failure = str(error)
            return False
        self.last_failure = None
        return True

    last_failure: str | None = None
    """Why the last commit or barrier failed, None when it did not; shown by status."""

    def close(self) -> None:
        """Saves what handles have open, forgets the handles. The database stays open."""
        for opened in list(self._opened.values()):
            opened.handles = 0
            self._drop_if_unused(opened)
        self.database.commit_soft()
