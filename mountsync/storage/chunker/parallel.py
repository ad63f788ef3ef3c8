"""Does many things at once, some at a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import TypeVar

import trio

T = TypeVar("T")


async def run_all(work: Callable[[T], Awaitable[None]], items: Iterable[T], *, limit: int) -> None:
    """Calls `work` for each item, at most `limit` at a time, begun in their order.

    The first error stops the others and is raised as it is.
    """
    waiting = iter(items)
    errors: list[Exception] = []
    async with trio.open_nursery() as nursery:
        for _ in range(max(1, limit)):
            nursery.start_soon(_work_off, work, waiting, errors, nursery.cancel_scope)
    if errors:
        raise errors[0]


async def _work_off(
    work: Callable[[T], Awaitable[None]],
    waiting: Iterator[T],
    errors: list[Exception],
    scope: trio.CancelScope,
) -> None:
    for item in waiting:
        try:
            await work(item)
        except Exception as error:  # noqa: BLE001 - raised by run_all, without an exception group
            errors.append(error)
            scope.cancel()
            return
