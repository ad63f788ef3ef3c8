"""What a sync says before and after it ran, for a person who has never read a manual."""

from __future__ import annotations

import shlex
import time
from typing import Final

from mountsync.cli.forms import SyncAction, SyncConflict, Synced, SyncProblem, SyncResolved
from mountsync.cli.output import counted
from mountsync.engine.pair.options import PairOptions
from mountsync.engine.pair.report import Report, word_of
from mountsync.errors import printable
from mountsync.formats.sizes import human_size
from mountsync.model.entry import Entry, Kind
from mountsync.model.plan import Conflict, Move, Side, path_of
from mountsync.paths import is_ours
from mountsync.reconcile import Direction
from mountsync.state.pairs import PairState

_SHOWN: Final = 20
"""Lines of each kind; the rest is counted."""


def intentions(state: PairState, options: PairOptions) -> list[str]:
    """What a first run will do."""
    if options.direction is not Direction.BOTH or state.setting("mark") is not None:
        return []
    return [
        "First sync of this pair: what only one side has is copied to the other, nothing is deleted.",
        "From the next run on, deletes and renames travel too.",
    ]


def summary(report: Report, a: str, b: str, options: PairOptions) -> list[str]:
    """What was done, what is in conflict, and what to do about it."""
    lines = []
    if report.unknown is not None:
        lines.append(f"The record of the last sync was not used: {printable(report.unknown)}.")
        lines.append("So nothing was deleted; what both sides have was put together.")
    if report.halt is not None:
        return lines + _halted(report, a, b)
    lines += _planned(report) if report.dry_run else []
    lines += _done(report, a, b)
    lines += _resolved(report) + _conflicts(report, a, b) + _problems(report)
    return [*lines, *_kept(report, a, b, options), _verdict(report)]


def _halted(report: Report, a: str, b: str) -> list[str]:
    assert report.halt is not None
    lines = [f"HALTED, nothing was changed: {printable(report.halt.reason)}."]
    lines.append(f"If that is right:   mountsync bisync {_quoted(a, b)} --confirm")
    lines.append(f"If a side was lost: mountsync bisync {_quoted(a, b)} --from-scratch   (fills it again)")
    return lines


def _quoted(a: str, b: str) -> str:
    return printable(f"{shlex.quote(a)} {shlex.quote(b)}")


def _planned(report: Report) -> list[str]:
    shown = [done for done in report.done if not is_ours(path_of(done.action))]
    lines = []
    for done in shown[: 5 * _SHOWN]:
        action = done.action
        name = printable(action.source if isinstance(action, Move) else path_of(action))
        to = f" -> {printable(action.target)}" if isinstance(action, Move) else ""
        lines.append(f"  {done.side.value.upper()}  {_singular(word_of(action)):<14} {name}{to}")
    if len(shown) > 5 * _SHOWN:
        lines.append(f"  … and {len(shown) - 5 * _SHOWN:,} more (--json lists all)")
    return lines


def _singular(word: str) -> str:
    return word.removesuffix("s") if word.endswith("folders") else word


def _done(report: Report, a: str, b: str) -> list[str]:
    lines = []
    for side, name in ((Side.A, a), (Side.B, b)):
        counts = report.counts(side)
        if counts:
            said = ", ".join(
                f"{count:,} {word if count > 1 else _singular(word)}" for word, count in counts.items()
            )
            would = "would get " if report.dry_run else ""
            lines.append(f"{side.value.upper()} ({printable(name)}): {would}{said}")
    if not report.done:
        lines.append(
            "Nothing to do." if not report.conflicts and not report.problems else "Nothing else to do."
        )
    return lines


def _resolved(report: Report) -> list[str]:
    lines = []
    for each in report.resolved[:_SHOWN]:
        other = f"; the other version is now {printable(each.copy)}" if each.copy else ""
        kept = each.winner.value.upper()
        lines.append(f"both changed: {printable(each.path)}: kept that of {kept}{other}")
    return lines + _more(len(report.resolved), "conflict settled by the policy")


def _conflicts(report: Report, a: str, b: str) -> list[str]:
    if not report.conflicts:
        return []
    lines = [f"{counted(len(report.conflicts), 'conflict')}; nothing was touched there:"]
    for each in report.conflicts[:_SHOWN]:
        sides = f"A {_said(each.a)}, B {_said(each.b)}"
        lines.append(f"  {printable(each.path)}: {each.reason}; {sides}")
    lines += _more(len(report.conflicts), "conflict")
    lines.append(f"To keep both versions:      mountsync bisync {_quoted(a, b)} --conflict keep-both")
    lines.append("To let one side win:        --conflict a, b, newer, older, larger or smaller")
    lines.append("For one file only:          delete or replace the wrong version by hand, then run again")
    return lines


def _said(entry: Entry | None) -> str:
    if entry is None:
        return "deleted it"
    if entry.kind is not Kind.FILE:
        return f"a {entry.kind.value}"
    moment = ""
    if entry.mtime_ns is not None:
        moment = time.strftime(", %Y-%m-%d %H:%M:%S", time.localtime(entry.mtime_ns // 10**9))
    return f"{human_size(entry.size)}{moment}"


def _more(count: int, noun: str) -> list[str]:
    return [f"  … and {count - _SHOWN:,} more: {noun}"] if count > _SHOWN else []


def _problems(report: Report) -> list[str]:
    if not report.problems:
        return []
    lines = [f"{counted(len(report.problems), 'path')} could not be synced; the next run tries again:"]
    for path, problem in sorted(report.problems.items())[:_SHOWN]:
        lines.append(f"  {printable(path)}: {printable(problem.reason)}")
    return lines + _more(len(report.problems), "path")


def _kept(report: Report, a: str, b: str, options: PairOptions) -> list[str]:
    lines = []
    for side, name in ((Side.A, a), (Side.B, b)):
        if report.backups[side] and options.backups is not None:
            count = counted(report.backups[side], "version")
            days = f"{options.backups.keep_days:g} days"
            lines.append(
                f"{count} replaced or deleted on {side.value.upper()} can be had back for {days}: "
                f"mountsync backups list {printable(shlex.quote(name))}"
            )
    return lines


def _verdict(report: Report) -> str:
    moved = f", {human_size(sum(report.bytes_moved.values()))} moved" if report.bytes_moved.total() else ""
    took = f"{counted(max(report.entries.values()), 'entry')} in {report.seconds:.1f} s{moved}"
    if report.dry_run:
        return f"Dry run: nothing was changed ({took})."
    state = {0: "In sync", 1: "In sync but for conflicts", 3: "Not all is in sync"}[report.exit_code]
    return f"{state}: {took}."


def synced_form(report: Report, a: str, b: str) -> Synced:
    """The report as JSON has it."""
    return Synced(
        a=a,
        b=b,
        dry_run=report.dry_run,
        exit_code=report.exit_code,
        first=report.first,
        unknown=report.unknown,
        halted=None if report.halt is None else report.halt.reason,
        actions=[
            SyncAction(
                side=done.side.value,
                what=_singular(word_of(done.action)),
                path=done.action.source if isinstance(done.action, Move) else path_of(done.action),
                target=done.action.target if isinstance(done.action, Move) else None,
            )
            for done in report.done
        ],
        conflicts=[_conflict(each) for each in report.conflicts],
        resolved=[
            SyncResolved(path=r.path, policy=r.policy.value, winner=r.winner.value, copy=r.copy)
            for r in report.resolved
        ],
        problems=[
            SyncProblem(path=path, reason=problem.reason, error=problem.error)
            for path, problem in sorted(report.problems.items())
        ],
        entries_a=report.entries[Side.A],
        entries_b=report.entries[Side.B],
        bytes_moved=report.bytes_moved.total(),
        hashed=report.hashed,
        backups_a=report.backups[Side.A],
        backups_b=report.backups[Side.B],
        seconds=round(report.seconds, 3),
    )


def _conflict(each: Conflict) -> SyncConflict:
    a, b = each.a, each.b
    return SyncConflict(
        path=each.path,
        reason=each.reason,
        a_size=None if a is None else a.size,
        a_mtime_ns=None if a is None else a.mtime_ns,
        b_size=None if b is None else b.size,
        b_mtime_ns=None if b is None else b.mtime_ns,
    )
