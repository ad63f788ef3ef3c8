"""Times and modes where the content is equal already."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mountsync.model.base import Agreed
from mountsync.model.entry import Entry, Kind, usual_mode
from mountsync.model.side import Side
from mountsync.reconcile.compare import Comparator
from mountsync.reconcile.settings import SideRules


def wanted_attributes(
    a: Entry,
    b: Entry,
    base: Agreed | None,
    rules: Mapping[Side, SideRules],
    comparator: Comparator,
) -> tuple[Entry | None, Entry | None]:
    """What A and B have to be set to, None where nothing differs or can be set.

    The side that changed gives; when both did, the later time and the stricter mode. What a side tells
    that keeps no times is nobody's. Times count for files only, because those of directories change with
    their contents; links have no attributes.
    """
    if a.kind is Kind.SYMLINK:
        return None, None
    mtimes = _mtimes(a, b, base, rules, comparator) if a.kind is Kind.FILE else (None, None)
    modes = _modes(a, b, base, rules)
    return _changed(a, mtimes[0], modes[0]), _changed(b, mtimes[1], modes[1])


def _changed(entry: Entry, mtime_ns: int | None, mode: int | None) -> Entry | None:
    if mtime_ns is None and mode is None:
        return None
    return replace(
        entry,
        mtime_ns=entry.mtime_ns if mtime_ns is None else mtime_ns,
        mode=entry.mode if mode is None else mode,
    )


def _mtimes(
    a: Entry, b: Entry, base: Agreed | None, rules: Mapping[Side, SideRules], comparator: Comparator
) -> tuple[int | None, int | None]:
    x, y = a.mtime_ns, b.mtime_ns
    if x is None or y is None or comparator.near(x, y) or not all(rules[side].times for side in Side):
        return None, None
    old_x, old_y = (None, None) if base is None else (base.mtime_ns(Side.A), base.mtime_ns(Side.B))
    keeps_x = old_x is not None and comparator.near(x, old_x)
    keeps_y = old_y is not None and comparator.near(y, old_y)
    if keeps_x and keeps_y:
        return None, None
    wanted = (y if keeps_x else x) if keeps_x is not keeps_y else max(x, y)
    return (
        wanted if rules[Side.A].mtimes and not comparator.near(x, wanted) else None,
        wanted if rules[Side.B].mtimes and not comparator.near(y, wanted) else None,
    )


def _modes(
    a: Entry, b: Entry, base: Agreed | None, rules: Mapping[Side, SideRules]
) -> tuple[int | None, int | None]:
    x, y = a.mode, b.mode
    if y is None:
        return None, _unknown_there(a, Side.A, base, rules)
    if x is None:
        return _unknown_there(b, Side.B, base, rules), None
    if x == y:
        return None, None
    old_x, old_y = (None, None) if base is None else (base.mode(Side.A), base.mode(Side.B))
    keeps_x, keeps_y = x == old_x, y == old_y
    if keeps_x and keeps_y:
        return None, None
    wanted = (y if keeps_x else x) if keeps_x is not keeps_y else x & y
    return (
        wanted if rules[Side.A].modes and x != wanted else None,
        wanted if rules[Side.B].modes and y != wanted else None,
    )


def _unknown_there(
    known: Entry, side: Side, base: Agreed | None, rules: Mapping[Side, SideRules]
) -> int | None:
    """The mode for the other side, which knows none, if it can keep one: a changed one, or no usual one."""
    if not rules[side.other].modes:
        return None
    before = None if base is None else base.mode(side)
    return known.mode if known.mode != (usual_mode(known.kind) if before is None else before) else None


def modes_differ(source: Entry, target: Entry, *, keeps: bool) -> bool:
    """Whether the target of a copy is to have another mode; `keeps`: it can keep modes."""
    there = usual_mode(target.kind) if target.mode is None and keeps else target.mode
    return None not in (source.mode, there) and source.mode != there
