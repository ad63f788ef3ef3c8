"""The bandwidth limit holds for every body, however a storage would like to take it."""

from __future__ import annotations

import pytest
import trio

from mountsync.engine.transfers import MeteredSource, Transfers
from mountsync.formats.sizes import Bandwidth


class Body:
    size = 1 << 20

    async def read(self, offset: int, length: int) -> bytes:
        return bytes(length)

    def still(self) -> bool:
        return True

    def fileno(self) -> int:
        return 7


@pytest.mark.parametrize(("direction", "limited"), [("up", True), ("down", False)])
async def test_descriptor_is_given_only_where_nothing_is_limited(direction: str, limited: bool) -> None:
    """A storage that has the descriptor copies inside the kernel, past every count."""
    transfers = Transfers.limited(Bandwidth(up=1 << 20, down=None))
    with transfers.begin("path", direction, Body.size) as running:
        assert hasattr(MeteredSource(Body(), running), "fileno") is not limited


async def test_bytes_wait_for_their_turn(autojump_clock: object) -> None:
    transfers = Transfers.limited(Bandwidth(up=1 << 20, down=None))
    with transfers.begin("path", "up", Body.size) as running:
        source = MeteredSource(Body(), running)
        began = trio.current_time()
        for first in range(4):
            await source.read(first << 18, 1 << 18)
        assert trio.current_time() - began == pytest.approx(0.75, abs=0.01)
        assert transfers.snapshot()[0].done == Body.size
