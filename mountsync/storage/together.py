"""Doing many things at once, with plain errors."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection
from typing import TypeVar

import trio

from mountsync.errors import MountsyncError

T = TypeVar("T")


async def each(items: Collection[T], action: Callable[[T], Awaitable[None]], *, at_once: int) -> None:
    """Runs `action` for every item, at most `at_once` at a time; nothing waits when there is no item.

    The first MountsyncError cancels the rest and is raised as it is.
    """
    if not items:
        return
    failures: list[MountsyncError] = []
    left = iter(items)

    async with trio.open_nursery() as nursery:

        async def work() -> None:
            for item in left:
                try:
                    await action(item)
                except MountsyncError as error:
                    failures.append(error)
                    nursery.cancel_scope.cancel()
                    return

        for _ in range(min(at_once, len(items))):
            nursery.start_soon(work)
    if failures:
        raise failures[0]
