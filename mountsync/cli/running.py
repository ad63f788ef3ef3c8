"""What the commands that talk to a running mount share."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import trio

from mountsync.cli.output import status_lines
from mountsync.control.client import Client, open_client
from mountsync.control.directory import MountRecord, holder_of, plain, running
from mountsync.control.overview import ANSWER_S, status_of
from mountsync.errors import MountError, Unreachable, UsageError
from mountsync.formats.sizes import human_size, parse_duration
from mountsync.model.status import Status

_LOOK_S: Final = 0.25
_SAY_S: Final = 5.0

T = TypeVar("T")


class Duration(click.ParamType[float]):
    """A duration option: `5s`, `1m30s`, a bare number of seconds."""

    name = "TIME"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            return parse_duration(str(value))
        except UsageError as error:
            self.fail(str(error), param, ctx)


def chosen_mount(target: str | None) -> MountRecord:
    """The running mount at, or around, `target`; without it the only one. Raises MountError."""
    if target is not None:
        return holder_of(Path(target))[0]
    records = running()
    if not records:
        raise MountError("nothing is mounted", hint="mountsync mount REMOTE MOUNTPOINT")
    if len(records) > 1:
        places = ", ".join(record.mountpoint for record in records)
        raise UsageError("several mounts run; say which", hint=f"one of {places}")
    return records[0]


def mount_at(mountpoint: str) -> MountRecord | None:
    """The mount whose mount point is exactly this one, or None."""
    place = str(plain(Path(mountpoint)))
    return next((record for record in running() if record.mountpoint == place), None)


async def while_showing(record: MountRecord, work: Callable[[Client], Awaitable[T]]) -> T:
    """Does `work` over a connection and shows how the mount gets on meanwhile, on standard error."""
    async with open_client(Path(record.socket)) as client:
        return await while_asking(partial(client.request, "status"), work(client))


async def while_asking(ask: Callable[[], Awaitable[Status]], work: Awaitable[T]) -> T:
    """The result of `work`; what `ask` tells meanwhile is shown on standard error."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_show, ask)
        result = await work
        nursery.cancel_scope.cancel()
    return result


async def _show(ask: Callable[[], Awaitable[Status]]) -> None:
    await trio.sleep(_LOOK_S)  # what is done at once needs no display
    with suppress(Unreachable):  # it may end meanwhile
        await (_show_live(ask) if sys.stderr.isatty() else _show_lines(ask))


async def _show_lines(ask: Callable[[], Awaitable[Status]]) -> None:
    said = ""
    while True:
        status = await ask()
        line = f"{status.state}: {status.pending} left, {human_size(status.pending_bytes)}"
        if line != said:
            click.echo(line, err=True)
            said = line
        await trio.sleep(_SAY_S)


async def _show_live(ask: Callable[[], Awaitable[Status]]) -> None:
    from rich.console import Console  # noqa: PLC0415 - only on a terminal
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    with Live(console=Console(stderr=True), auto_refresh=False, transient=True) as live:
        while True:
            status = await ask()
            live.update(Text("\n".join(status_lines(status))), refresh=True)
            await trio.sleep(_LOOK_S)


__all__ = [
    "ANSWER_S",
    "Duration",
    "chosen_mount",
    "mount_at",
    "status_of",
    "while_asking",
    "while_showing",
]
