"""`mountsync web`: the live view as a page in the browser."""

from __future__ import annotations

import html
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path

import click
import trio

from mountsync.config import replace_private
from mountsync.errors import UsageError
from mountsync.settings import state_root
from mountsync.web.guard import Guard
from mountsync.web.http import listen, port_of, serve
from mountsync.web.page import Pages


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Where to listen.  [default: any]")
@click.option("--open", "opens", is_flag=True, help="Open the page in the browser.")
def web(*, port: int, opens: bool) -> None:
    """Show what mounts and jobs do on a page in the browser, and settle conflicts there.

    Listens on 127.0.0.1 alone, until Ctrl-C. The address that it prints holds a secret that lets in
    whoever knows it: do not pass it on.
    """
    trio.run(_serve, port, _opener() if opens else None)


def _opener() -> str:
    tool = shutil.which("xdg-open")
    if tool is None:
        raise UsageError(
            "xdg-open is missing", hint="sudo apt-get install xdg-utils, or open the address yourself"
        )
    return tool


async def _serve(port: int, opener: str | None) -> None:
    listener = await listen(port)
    guard = Guard(port_of(listener))
    door = state_root() / f"web-{guard.port}.html"
    try:
        async with listener, trio.open_nursery() as nursery:
            nursery.start_soon(serve, listener, Pages(guard).answer)
            nursery.start_soon(_end_on_signal, nursery.cancel_scope)
            click.echo(guard.address)
            if opener is not None:
                await trio.to_thread.run_sync(_show, opener, door, guard.address)
    finally:
        door.unlink(missing_ok=True)


async def _end_on_signal(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as signals:
        async for _ in signals:
            scope.cancel()


def _show(opener: str, door: Path, address: str) -> None:
    """Opens the page by way of a private file: arguments of programs can be read by every user."""
    target = html.escape(address, quote=True)
    replace_private(door, f'<!doctype html><meta http-equiv="refresh" content="0;url={target}">\n')
    with suppress(OSError):  # whoever cannot be shown the page has its address
        subprocess.run(  # noqa: S603 - a fixed tool
            [opener, os.fspath(door)], check=False, stdin=subprocess.DEVNULL, timeout=60
        )
