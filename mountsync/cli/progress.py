"""How far a sync is: a live line on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import click
import trio

from mountsync.engine.pair.run import Progress
from mountsync.errors import alone_in, printable
from mountsync.formats.sizes import human_size

_LOOK_S: Final = 0.25
_SAY_S: Final = 5.0


@asynccontextmanager
async def showing(progress: Progress) -> AsyncIterator[None]:
    """Shows, on standard error, how far it is until the body ends. What is quick shows nothing.

    Raises what the body raises, in no group.
    """
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_live if sys.stderr.isatty() else _lines, progress)
            yield
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        raise alone_in(group) from None


async def _lines(progress: Progress) -> None:
    said = ""
    while True:
        await trio.sleep(_SAY_S)
        line = "; ".join(_said(progress))
        if line != said:
            click.echo(line, err=True)
            said = line


async def _live(progress: Progress) -> None:
    from rich.console import Console  # noqa: PLC0415 - only on a terminal
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    await trio.sleep(_LOOK_S)
    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        while True:
            live.update(Text("\n".join(_said(progress))), refresh=True)
            await trio.sleep(_LOOK_S)


def _said(progress: Progress) -> list[str]:
    lines = [f"{progress.phase}: {progress.seen:,} entries seen"]
    if progress.to_do:
        lines.append(f"{progress.done:,} of {progress.to_do:,} done")
    for each in progress.transfers.snapshot():
        share = 100 * each.done // each.size if each.size else 100
        rate = f"{human_size(int(each.rate))}/s"
        arrow = "to B" if each.direction == "up" else "to A"
        lines.append(f"{arrow} {share:3d} % of {human_size(each.size)}, {rate}: {printable(each.path)}")
    return lines
