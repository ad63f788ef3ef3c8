"""What goes to standard output: JSON, names, tables of plain lines."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from mountsync.errors import printable
from mountsync.formats.sizes import human_size
from mountsync.model.saying import saying
from mountsync.model.status import ProblemStatus, SessionState, Status

if TYPE_CHECKING:
    from mountsync.control.overview import Overview


def emit_json(value: Any) -> None:
    """One JSON document on one line, and readable with indentation on a terminal."""
    import json  # noqa: PLC0415 - late: most commands print text

    import msgspec  # noqa: PLC0415

    click.echo(json.dumps(msgspec.to_builtins(value), indent=2 if sys.stdout.isatty() else None))


def shown(name: str) -> str:
    """A name as it may be printed: raw for programs, harmless on a terminal."""
    return printable(name) if sys.stdout.isatty() else name


def counted(number: int, noun: str) -> str:
    """`1 file`, `2 files`, `2 entries`."""
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun[:-1] + 'ies' if noun.endswith('y') else noun + 's'}"


def ago(seconds: float) -> str:
    """A time span as a person says it: `12 s`, `5 min`, `3 h`, `2 days`."""
    for length, unit in ((172_800, 86_400), (7200, 3600), (120, 60)):
        if seconds >= length:
            name = {86_400: "days", 3600: "h", 60: "min"}[unit]
            return f"{int(seconds // unit)} {name}"
    return f"{max(0, int(seconds))} s"


_HALTED: Final = frozenset(state.value for state in SessionState if state.halted)


def exit_code_of_status(status: Status, *, finished: bool) -> int:
    """The exit code that a state stands for; `finished` when both sides were to agree (flush)."""
    if status.state in _HALTED:
        return 5
    if status.state == SessionState.FAILED.value:
        return 4
    if finished and status.pending and status.state == SessionState.OFFLINE.value:
        return 4
    if status.problems:
        return 3
    unfinished = status.pending or status.state == SessionState.PAUSED.value
    return 1 if status.conflicts or (finished and unfinished) else 0


def overview_lines(found: Overview, now: float | None = None) -> list[str]:
    """Everything that runs, in words."""
    lines: list[str] = []
    for seen in found.mounts:
        if seen.status is not None:
            lines += status_lines(seen.status, now)
        else:
            lines += [f"{printable(seen.record.remote)} on {printable(seen.record.mountpoint)}"]
            lines += [f"  {printable(str(seen.error))}"]
    for job in found.jobs:
        lines += status_lines(job, now)
    if found.daemon_error is not None:
        lines.append(f"jobs: {printable(str(found.daemon_error))}")
    return lines or ["nothing is mounted, and no job runs"]


def status_lines(status: Status, now: float | None = None) -> list[str]:
    """A status in words, a few lines."""
    now = time.time() if now is None else now
    where = f" on {printable(status.mountpoint)}" if status.mountpoint else ""
    reason = f": {printable(status.reason)}" if status.reason else ""
    lines = [f"{printable(status.remote)}{where}", f"  {saying(status)}{reason}"]
    lines += _work_lines(status)
    lines += [f"  conflict: {printable(each.path)} ({printable(each.reason)})" for each in status.conflicts]
    lines += [f"  problem: {problem_words(each)}" for each in status.problems]
    return lines + _rest_lines(status, now)


def problem_words(problem: ProblemStatus) -> str:
    """The path, if it is about one, and the reason."""
    reason = printable(problem.reason)
    return f"{printable(problem.path)}: {reason}" if problem.path else reason


def _work_lines(status: Status) -> list[str]:
    if not status.pending and not status.transfers:
        lines = ["  nothing waits for upload"]
    else:
        size = human_size(status.pending_bytes)
        lines = [f"  {counted(status.pending, 'change')} ({size}) not on the remote yet"]
    for each in status.transfers:
        arrow = "up  " if each.direction == "up" else "down"
        share = 100 * each.done // each.size if each.size else 100
        rate = f"{human_size(int(each.rate))}/s"
        lines.append(f"  {arrow} {share:3d} % of {human_size(each.size)}, {rate}: {printable(each.path)}")
    return lines


def _rest_lines(status: Status, now: float) -> list[str]:
    lines = []
    if status.cache is not None:
        limit = f" of {human_size(status.cache.limit)}" if status.cache.limit is not None else ""
        lines.append(
            f"  cache: {human_size(status.cache.used)}{limit}, {human_size(status.cache.dirty)} of it "
            f"not replicated, {counted(status.cache.pinned, 'pin')}; "
            f"{counted(status.entries, 'entry')} known"
        )
    if status.last_cycle is not None:
        cycle = status.last_cycle
        lines.append(
            f"  last look {ago(now - cycle.finished_at)} ago: {cycle.to_remote} up, {cycle.to_local} down"
        )
    return lines
