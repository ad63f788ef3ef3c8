"""Finds renames that somebody made on the remote, by comparing what vanished with what appeared."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from mountsync.engine.observe import Look
from mountsync.engine.scope import agreed_entry
from mountsync.model.base import Agreed
from mountsync.model.entry import Digest, Entry, Kind
from mountsync.model.side import Side
from mountsync.paths import RelPath, ancestors, from_bytes, join, relocate
from mountsync.reconcile import Evidence, infer_moves
from mountsync.state.base import Base, BaseRow


def remote_moves(
    look: Look, base: Base, resolve: Callable[[RelPath], BaseRow | None], *, stable_tokens: bool
) -> list[tuple[RelPath, RelPath]]:
    """(old path, new path) of files and directories that were renamed on the remote.

    The evidence is a known digest, the token where tokens outlive a rename, else size and time to the
    nanosecond. It need not be a proof: what was followed is compared again by its token afterwards, and
    fetched anew when that is another one.
    """
    vanished = dict(_vanished(look, base, resolve))
    appeared = _appeared(look, resolve)
    if not vanished or not appeared:
        return []
    marks = {path: _mark(row.remote, stable_tokens=stable_tokens) for path, row in vanished.items()}
    known: dict[RelPath, Agreed] = {}
    for path, row in vanished.items():
        agreed = agreed_entry(row)
        known[path] = replace(agreed, entry=agreed.entry.with_digest(marks[path]))
    entries = {
        path: entry.with_digest(_mark(entry, stable_tokens=stable_tokens)) for path, entry in appeared.items()
    }
    found = {*known, *entries}
    return list(infer_moves(Side.B, entries, known, found, evidence=Evidence.DIGEST))


def _mark(entry: Entry, *, stable_tokens: bool) -> Digest | None:
    """Something that two objects have in common when one is the other renamed."""
    if entry.kind is not Kind.FILE or entry.size == 0:
        return None
    if stable_tokens and entry.token is not None:
        return _digest(f"token {entry.token}")
    if entry.mtime_ns is None or entry.mtime_ns % 1_000_000_000 == 0:
        return entry.digest
    return _digest(f"{entry.size} {entry.mtime_ns}")


def _digest(text: str) -> Digest:
    return Digest(hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest())


def _vanished(
    look: Look, base: Base, resolve: Callable[[RelPath], BaseRow | None]
) -> Iterator[tuple[RelPath, BaseRow]]:
    for path, entry in look.changed.items():
        row = resolve(path)
        if entry is None and row is not None:
            yield path, row
            yield from _below(path, row, base)


def _below(path: RelPath, row: BaseRow, base: Base) -> Iterator[tuple[RelPath, BaseRow]]:
    if row.remote.kind is not Kind.DIRECTORY:
        return
    for child in base.children(row.node):
        child_path = join(path, from_bytes(child.name))
        yield child_path, child
        yield from _below(child_path, child, base)


def _appeared(look: Look, resolve: Callable[[RelPath], BaseRow | None]) -> dict[RelPath, Entry]:
    new = {path: entry for path, entry in look.changed.items() if entry is not None and resolve(path) is None}
    return {**new, **look.below_new}


def count_deleted(
    look: Look,
    base: Base,
    resolve: Callable[[RelPath], BaseRow | None],
    moves: Iterable[tuple[RelPath, RelPath]],
) -> int:
    """How many entries of the base are gone from the remote for good.

    Whatever was below a vanished directory counts, what is found again where it was renamed to does not.
    """
    table = dict(moves)
    appeared = _appeared(look, resolve)
    return sum(_place_after(path, table) not in appeared for path, _ in _vanished(look, base, resolve))


def _place_after(path: RelPath, table: dict[RelPath, RelPath]) -> RelPath:
    for above in (path, *ancestors(path)):
        if above in table:
            return relocate(path, above, table[above])
    return path


def without(look: Look, moves: Iterable[tuple[RelPath, RelPath]]) -> set[RelPath]:
    """The paths of a look that moves explain."""
    return {path for move in moves for path in move if path in look.changed}
