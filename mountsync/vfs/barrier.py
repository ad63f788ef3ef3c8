"""What happens by itself: soft commits within milliseconds, everything safe from power loss in seconds."""

from __future__ import annotations

from typing import Final

import trio

from mountsync.errors import MountsyncError
from mountsync.state.tree import Place
from mountsync.vfs.attributes import Attributes
from mountsync.vfs.filling import Filling

COMMIT_S: Final = 0.02
"""Seconds after which what was not promised yet is committed all the same."""
BARRIER_S: Final = 5.0


class Barriers(Filling, Attributes):
    """Durability without anybody asking for it."""

    async def barrier(self) -> None:
        """Returns when all that was acknowledged before the call is safe from power loss.

        Changes in memory of files that stay open are saved too, so that a process that dies loses at
        most the time between two barriers.
        """
        for opened in list(self._opened.values()):
            if opened.unsaved and opened.data is not None:
                self._save(opened)
            self._drop_if_unused(opened)
        claims = self.database.rows("SELECT node, start, stop FROM present WHERE barrier = 0")
        for node_id in list(self._unsynced):
            await self._make_safe(node_id)
        await self._sync_claims(claims)
        await self.database.make_durable()

    async def _make_safe(self, node_id: int) -> None:
        node = self.tree.find(node_id)
        if node is None or node.place != Place.FILE or self.store.size(node_id) is None:
            with self.database.transaction:
                self._forget_unsynced(node_id)
            return
        opened = self._use(node)
        opened.handles += 1
        try:
            await self._sync_content(opened)
        finally:
            opened.handles -= 1
            self._drop_if_unused(opened)

    async def _sync_claims(self, claims: list[tuple[int, int, int]]) -> None:
        """Bytes of the claimed ranges first, then the mark that they are safe."""
        for node_id in {claim[0] for claim in claims}:
            if self.store.size(node_id) is None:
                continue
            fd = self.store.open(node_id)
            try:
                await trio.to_thread.run_sync(self.store.sync, fd)
            finally:
                self.store.disk.close(fd)
        if claims:
            with self.database.transaction:
                for claim in claims:
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
            self.database.commit_soft()
            if self.database.checkpoint_due:
                await self.database.checkpoint()

    async def _keep_durable(self) -> None:
        while True:
            await self._barrier_wanted.wait()
            await trio.sleep(BARRIER_S)
            self._barrier_wanted = trio.Event()
            await self._try_barrier()

    async def _try_barrier(self) -> None:
        try:
            await self.barrier()
            self.last_failure = None
        except MountsyncError as error:
            self.last_failure = str(error)
            self._barrier_wanted.set()

    last_failure: str | None = None
    """Why the last barrier failed, None when it did not; shown by status."""

    def close(self) -> None:
        """Saves what handles have open, forgets the handles. The database stays open."""
        for opened in list(self._opened.values()):
            opened.handles = 0
            self._drop_if_unused(opened)
        self.database.commit_soft()
