"""`status --watch`: a view of everything that runs, to be left open; plain lines where no terminal is."""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Final

import click
import trio
from rich.align import Align
from rich.box import ROUNDED
from rich.console import Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from mountsync.cli.jobs import is_job
from mountsync.cli.output import ago, counted, overview_lines, problem_words
from mountsync.cli.running import chosen_mount
from mountsync.control.overview import Overview, Seen, look
from mountsync.errors import printable
from mountsync.formats.sizes import human_size
from mountsync.model.saying import saying
from mountsync.model.status import CacheStatus, ConflictStatus, ProblemStatus, SessionState, Status, Transfer

_LOOK_S: Final = 0.5
_SAY_S: Final = 2.0
_MOST: Final = 6
"""Transfers, conflicts and problems of one kind that are shown; the others are counted."""
_MARKS: Final = "▁▂▃▄▅▆▇█"
_TICKS: Final = 40

_COLOURS: Final = {
    SessionState.WATCHING.value: "green",
    SessionState.SETTLED.value: "green",
    SessionState.PAUSED.value: "yellow",
    SessionState.OFFLINE.value: "yellow",
    SessionState.WAITING_TO_RETRY.value: "yellow",
    SessionState.HALTED_EMPTIED.value: "red",
    SessionState.HALTED_DELETES.value: "red",
    SessionState.HALTED_REMOTE.value: "red",
    SessionState.FAILED.value: "red",
}


async def watch(target: str | None) -> None:
    """Shows `target`, or everything, until it is cancelled. Raises MountError when `target` is not there."""
    if not sys.stdout.isatty():
        await _say(target)
    history = History()
    with Live(auto_refresh=False, screen=True, vertical_overflow="ellipsis") as live:
        while True:
            found = await _chosen(target)
            history.note(found, time.monotonic())
            live.update(view(found, history, time.time()), refresh=True)
            await trio.sleep(_LOOK_S)


async def _say(target: str | None) -> None:
    said: list[str] = []
    while True:
        lines = overview_lines(await _chosen(target))
        if lines != said:
            click.echo("\n".join(lines))
            sys.stdout.flush()
            said = lines
        await trio.sleep(_SAY_S)


async def _chosen(target: str | None) -> Overview:
    found = await look()
    if target is None:
        return found
    jobs = tuple(job for job in found.jobs if job.name == target)
    if jobs:
        return replace(found, mounts=(), jobs=jobs)
    place = chosen_mount(target).mountpoint
    return replace(found, mounts=tuple(s for s in found.mounts if s.record.mountpoint == place), jobs=())


def check_target(target: str | None) -> None:
    """Raises MountError when neither a mount nor a job is named so."""
    if target is not None and not is_job(target):
        chosen_mount(target)


@dataclass(slots=True)
class History:
    """How fast bytes have travelled lately, per mount or job: (time, bytes so far)."""

    marks: dict[str, deque[tuple[float, int]]] = field(default_factory=dict)

    def note(self, found: Overview, now: float) -> None:
        """Takes in what is known now; `now` is of a clock that never goes back."""
        for status in found.statuses:
            totals = status.totals
            moved = totals.bytes_up + totals.bytes_down if totals is not None else 0
            self.marks.setdefault(key_of(status), deque(maxlen=_TICKS + 1)).append((now, moved))

    def rates(self, status: Status) -> list[float]:
        """Bytes per second between each two looks, oldest first."""
        marks = list(self.marks.get(key_of(status), ()))
        return [max(0.0, (b[1] - a[1]) / (b[0] - a[0])) for a, b in pairwise(marks) if b[0] > a[0]]


def key_of(status: Status) -> str:
    """Names a mount or a job among all."""
    return status.mountpoint or f"job {status.name}"


def view(found: Overview, history: History, now: float) -> RenderableType:
    """The whole screen. `now` in seconds since 1970."""
    parts: list[RenderableType] = [_panel_of(seen, history, now) for seen in found.mounts]
    parts += [panel(job, history.rates(job), now) for job in found.jobs]
    if found.daemon_error is not None:
        parts.append(Text(f"jobs: {printable(str(found.daemon_error))}", style="red"))
    if not parts:
        parts = [Align.center(Text("\nnothing is mounted, and no job runs\n", style="dim"))]
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    return Group(*parts, Align.right(Text(f"{clock}  Ctrl-C ends this view, and nothing else ", style="dim")))


def _panel_of(seen: Seen, history: History, now: float) -> RenderableType:
    if seen.status is not None:
        return panel(seen.status, history.rates(seen.status), now)
    title = _title(seen.record.remote, seen.record.mountpoint)
    return Panel(Text(printable(str(seen.error)), style="red"), title=title, title_align="left", box=ROUNDED)


def panel(status: Status, rates: Sequence[float], now: float) -> Panel:
    """One mount or job."""
    colour = _colour(status)
    body: list[RenderableType] = [_head(status, colour)]
    body += _bodies(status.transfers)
    body.append(_figures(status, rates, now))
    body += _conflicts(status)
    body += _problems(status.problems, now)
    return Panel(
        Group(*body),
        title=_title(status.remote, status.mountpoint or f"job {status.name}"),
        title_align="left",
        border_style=colour,
        box=ROUNDED,
        padding=(0, 1),
    )


def _colour(status: Status) -> str:
    if status.conflicts or status.problems:
        return "red" if status.state in _RED else "yellow"
    return _COLOURS.get(status.state, "cyan")


_RED: Final = [state for state, colour in _COLOURS.items() if colour == "red"]


def _title(remote: str, place: str) -> Text:
    return Text.assemble(" ", (printable(place), "bold"), "  ", (printable(remote), "dim"), " ")


def _head(status: Status, colour: str) -> RenderableType:
    line = Text.assemble(("● ", colour), (saying(status), "bold"))
    if status.reason:
        line.append(f"\n  {printable(status.reason)}")
    if status.pending:
        size = human_size(status.pending_bytes)
        line.append(f"\n  {counted(status.pending, 'change')} ({size}) not on the remote yet")
    else:
        line.append("\n  nothing waits for upload", style="dim")
    return line


def _bodies(transfers: Sequence[Transfer]) -> Iterator[RenderableType]:
    if not transfers:
        return
    table = Table.grid(padding=(0, 1))
    table.add_column(width=1)
    table.add_column(width=20)
    for width in (5, 9, 11, 6):
        table.add_column(width=width, justify="right", no_wrap=True)
    table.add_column(ratio=1, no_wrap=True, overflow="ellipsis")
    for each in transfers[:_MOST]:
        table.add_row(*_body(each))
    yield table
    yield from _more(len(transfers) - _MOST, "transfer")


def _body(each: Transfer) -> Iterator[RenderableType]:
    share = 100 * each.done // each.size if each.size else 100
    up = each.direction == "up"
    yield Text("↑" if up else "↓", style="green" if up else "blue")
    yield ProgressBar(total=max(each.size, 1), completed=each.done if each.size else 1, width=20)
    yield Text(f"{share} %")
    yield Text(human_size(each.size))
    yield Text(f"{human_size(int(each.rate))}/s")
    yield Text(ago((each.size - each.done) / each.rate) if each.rate > 0 else "-", style="dim")
    yield Text(printable(each.path))


def _figures(status: Status, rates: Sequence[float], now: float) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(ratio=1)
    if any(rates):
        table.add_row("traffic", Text(f"{sparkline(rates)}  {human_size(int(rates[-1]))}/s", style="cyan"))
    if status.cache is not None:
        table.add_row("cache", _cache(status.cache))
    table.add_row("known", Text(counted(status.entries, "entry")))
    if status.last_cycle is not None:
        cycle = status.last_cycle
        since = ago(now - cycle.finished_at)
        table.add_row("last look", Text(f"{since} ago: {cycle.to_remote} up, {cycle.to_local} down"))
    return table


def sparkline(rates: Sequence[float]) -> str:
    """A small picture of figures, the highest of them as a full block."""
    top = max(rates, default=0.0)
    if top <= 0:
        return _MARKS[0] * len(rates)
    return "".join(_MARKS[min(len(_MARKS) - 1, int(rate / top * (len(_MARKS) - 1) + 0.5))] for rate in rates)


def _cache(cache: CacheStatus) -> RenderableType:
    words = human_size(cache.used)
    if cache.limit is not None:
        words += f" of {human_size(cache.limit)}"
    words += f", {human_size(cache.dirty)} of it not replicated"
    if cache.pinned:
        words += f", {counted(cache.pinned, 'pin')}"
    if not cache.limit:
        return Text(words)
    table = Table.grid(padding=(0, 1))
    table.add_row(
        ProgressBar(total=cache.limit, completed=min(cache.used, cache.limit), width=20), Text(words)
    )
    return table


def _conflicts(status: Status) -> Iterator[RenderableType]:
    for each in status.conflicts[:_MOST]:
        yield Text.assemble(("conflict ", "bold red"), printable(each.path), ("  " + _sides(each), "dim"))
    yield from _more(len(status.conflicts) - _MOST, "conflict")
    if status.conflicts:
        job = "" if status.mountpoint else f" --job {printable(status.name)}"
        yield Text(f"  mountsync resolve PATH{job} --keep local|remote|both", style="dim")


def _sides(conflict: ConflictStatus) -> str:
    here = "absent" if conflict.local_size is None else human_size(conflict.local_size)
    there = "absent" if conflict.remote_size is None else human_size(conflict.remote_size)
    return f"local {here}, remote {there}"


def _problems(problems: Sequence[ProblemStatus], now: float) -> Iterator[RenderableType]:
    for each in problems[:_MOST]:
        again = "" if each.retry_at is None else f"  again in {ago(each.retry_at - now)}"
        yield Text.assemble(("problem ", "bold red"), problem_words(each), (again, "dim"))
    yield from _more(len(problems) - _MOST, "problem")


def _more(count: int, noun: str) -> Iterable[RenderableType]:
    return [Text(f"  and {counted(count, noun)} more", style="dim")] if count > 0 else []
