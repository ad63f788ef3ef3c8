"""Tells listeners how far the work is, while bodies travel."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Never

import trio

from mountsync.control.events import Broadcaster
from mountsync.control.protocol import ProgressEvent
from mountsync.engine.transfers import Tally
from mountsync.model.status import Status

_STEP_S: Final = 0.25
"""Between two events; the first comes as soon as a body begins."""


async def tell_progress(
    broadcaster: Broadcaster, job: str, tally: Tally, status: Callable[[], Awaitable[Status]]
) -> Never:
    """Publishes events from the first byte on until nothing travels any more. Never ends by itself.

    Each body that begins is named in one of them, however short it is. Without listeners it only waits.
    """
    while True:
        await tally.bell.wait()
        if not broadcaster.is_heard:
            tally.began.clear()
            await trio.sleep(_STEP_S)
            continue
        found = await status()
        began = list(tally.began)
        tally.began.clear()
        broadcaster.publish(
            ProgressEvent(
                job=job,
                pending=found.pending,
                pending_bytes=found.pending_bytes,
                transfers=found.transfers,
                began=began,
            )
        )
        if found.transfers:
            tally.bell.ring()
        await trio.sleep(_STEP_S)
