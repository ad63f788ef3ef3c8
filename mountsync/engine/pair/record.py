"""What a run really did, as rows of the base."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from mountsync.engine.apply import is_surprise
from mountsync.errors import MountsyncError
from mountsync.model.base import Agreed, agree
from mountsync.model.entry import Digest, Entry, Kind
from mountsync.model.plan import Action, Delete, Move, Plan, Put, SetAttributes, Side, path_of
from mountsync.paths import RelPath, is_ours, is_within, relocate
from mountsync.state.pairs import Rows, unpack


@dataclass(frozen=True, slots=True)
class Failure:
    """An action that could not be done, with every path that it was about."""

    side: Side
    path: RelPath
    error: MountsyncError
    places: tuple[RelPath, ...]

    @property
    def is_surprise(self) -> bool:
        """Whether a side was not what the plan saw: it is looked at again."""
        return is_surprise(self.error)


@dataclass(frozen=True, slots=True)
class Done:
    """An action that was done."""

    side: Side
    action: Action


def untold(_: Done) -> None:
    """Nobody wants to hear of it at once."""


class PairRecorder:
    """Collects the outcomes of one plan. `take` gives what the base does not have yet."""

    def __init__(
        self,
        rows: Rows,
        views: Mapping[Side, Mapping[RelPath, Entry]],
        plan: Plan,
        tell: Callable[[Done], None] = untold,
    ) -> None:
        """`tell` hears of each action as soon as it is done."""
        self._rows = rows
        self._tell = tell
        self._views = views
        self._order: list[RelPath] | None = None
        self._changed: dict[RelPath, Agreed | None] = dict(plan.to_base)
        self._due = set(self._changed)
        self._now: dict[Side, dict[RelPath, Entry | None]] = {Side.A: {}, Side.B: {}}
        self._folders: dict[Side, list[Move]] = {Side.A: [], Side.B: []}
        self._failed: set[RelPath] = set()
        self.failures: list[Failure] = []
        self.done_actions: list[Done] = []
        self.bytes_moved = Counter[Side]()

    def take(self) -> dict[RelPath, Agreed | None]:
        """Rows that changed since the last call; None for those that are no more."""
        taken = {path: self._changed[path] for path in self._due if path in self._changed}
        self._due.clear()
        return {path: None if is_ours(path) else row for path, row in taken.items()}

    def _set(self, path: RelPath, row: Agreed | None) -> None:
        self._changed[path] = row
        self._due.add(path)

    def sending(self, side: Side, action: Put, digest: Digest) -> None:
        """Nothing is written down before it is done: the next run looks at both sides."""

    def done(self, side: Side, action: Action, entry: Entry | None) -> None:
        made = Done(side, action)
        self.done_actions.append(made)
        self._tell(made)
        match action:
            case Delete(path=path):
                self._now[side][path] = None
                self._set(path, None)
            case Move():
                self._moved(side, action, entry)
            case SetAttributes(path=path):
                self._agreed(side, path, entry, self._entry(side.other, path))
            case Put(path=path, origin=origin):
                self.bytes_moved[side] += action.entry.size
                self._agreed(side, path, entry, self._now[side.other].get(origin) or action.entry)
            case _:
                self._agreed(side, path_of(action), entry, action.entry)

    def _agreed(self, side: Side, path: RelPath, made: Entry | None, other: Entry | None) -> None:
        if made is None or other is None:
            return
        self._now[side][path] = made
        if path in self._failed:
            return
        a, b = (made, other) if side is Side.A else (other, made)
        self._set(path, agree(a, b))

    def _moved(self, side: Side, action: Move, entry: Entry | None) -> None:
        self._now[side][action.source] = None
        self._now[side][action.target] = entry
        if action.expect.kind is Kind.DIRECTORY:
            self._folders[side].append(action)
        if action.base is None:
            return
        self._set(action.target, None)
        for path in self._at_and_below(action.base, whole=action.expect.kind is Kind.DIRECTORY):
            row = self._row(path)
            self._set(path, None)
            if row is not None:
                place = relocate(path, action.base, action.target)
                self._set(place, _seen(row, side, entry) if path == action.base else row)

    def _at_and_below(self, folder: RelPath, *, whole: bool) -> Iterable[RelPath]:
        if not whole:
            return [folder]
        if self._order is None:
            self._order = sorted(self._rows)
        begin = bisect_left(self._order, folder)
        end = bisect_left(self._order, RelPath(folder + "0"))  # "0" follows "/"
        found = [path for path in self._order[begin:end] if is_within(path, folder)]
        known = set(found)
        return found + [path for path in self._changed if is_within(path, folder) and path not in known]

    def _row(self, path: RelPath) -> Agreed | None:
        if path in self._changed:
            return self._changed[path]
        packed = self._rows.get(path)
        return None if packed is None else unpack(packed)

    def _entry(self, side: Side, path: RelPath) -> Entry | None:
        """What that side holds at `path` now."""
        place = path
        for move in reversed(self._folders[side]):
            if place in self._now[side]:
                break
            place = relocate(place, move.target, move.source)
        if place in self._now[side]:
            return self._now[side][place]
        return self._views[side].get(place)

    def settle_moves(self) -> None:
        """Nothing to do: rows are kept by path, and those of moves are in their order."""

    def failed(self, side: Side, action: Action, error: MountsyncError) -> None:
        path = path_of(action)
        places: tuple[RelPath, ...] = (path,)
        if isinstance(action, Move):
            places = (path, action.source)
        elif isinstance(action, Put):
            places = (path, action.origin)
        self.failures.append(Failure(side, path, error, tuple(dict.fromkeys(places))))
        self._failed.add(path)
        if isinstance(action, SetAttributes):
            self._changed.pop(path, None)


def _seen(row: Agreed, side: Side, entry: Entry | None) -> Agreed:
    """The row of an object that got another token by its rename."""
    if entry is None or entry.kind is Kind.DIRECTORY:
        return row
    if side is Side.A:
        return replace(row, a=entry.token, a_mtime_ns=entry.mtime_ns, a_mode=entry.mode)
    return replace(row, b=entry.token, b_mtime_ns=entry.mtime_ns, b_mode=entry.mode)
