"""Carries out a plan, action by action, and tells what was really done.

One bad path stops nothing but what depends on it. Actions that do not depend on each other run side by
side; small bodies never wait behind large ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

import trio

from mountsync.engine.replica import Replica
from mountsync.engine.transfers import MeteredSource, Transfers
from mountsync.errors import (
    AlreadyExists,
    Busy,
    DirectoryNotEmpty,
    Halted,
    IsADirectory,
    MountsyncError,
    NotADirectory,
    NotFound,
    PathError,
    Stale,
    Unreachable,
    printable,
)
from mountsync.model.entry import Digest, Entry, Kind
from mountsync.model.plan import (
    Action,
    Delete,
    MakeDirectory,
    MakeSymlink,
    Move,
    Plan,
    Put,
    SetAttributes,
    Side,
    path_of,
)
from mountsync.paths import RelPath, is_within, parts_of
from mountsync.storage.api import Source

_SURPRISES: Final = (Stale, NotFound, AlreadyExists, IsADirectory, NotADirectory, DirectoryNotEmpty)


def is_surprise(error: MountsyncError) -> bool:
    """Whether it says that a side is not as the plan saw it: it has to be looked at again, no more."""
    return isinstance(error, _SURPRISES)


LARGE: Final = 4 << 20
"""Bodies above this size share all lanes but one, so that one is always free for small ones."""

SMALL: Final = 1 << 16
"""Bodies up to this size may travel in larger crowds, where the remote likes that."""
_SMALL_PER_TRANSFER: Final = 64

Hash: TypeAlias = Callable[[Side, Source], Awaitable[Digest | None]]
"""Computes the digest of a body that comes from a side; None: not worth it there."""


class Recorder(Protocol):
    """Hears of each action when it is done or has failed."""

    def sending(self, side: Side, action: Put, digest: Digest) -> None:
        """A body with this digest is about to travel to a side."""
        ...

    def done(self, side: Side, action: Action, entry: Entry | None) -> None:
        """`entry` stands there now; None after a delete."""
        ...

    def failed(self, side: Side, action: Action, error: MountsyncError) -> None:
        """Nothing was changed by this action."""
        ...

    def settle_moves(self) -> None:
        """What was done so far is to be written down before more is done."""
        ...


class Lanes:
    """How many bodies travel at once, for all cycles of a session together."""

    def __init__(self, transfers: int, small_at_once: int = 0) -> None:
        """`small_at_once`: what the remotes like of small bodies; they get it unless `transfers` is small."""
        small = max(transfers, min(small_at_once, _SMALL_PER_TRANSFER * transfers))
        self._all = trio.CapacityLimiter(transfers)
        self._large = trio.CapacityLimiter(max(1, transfers - 1))
        self._small = trio.CapacityLimiter(small) if small > transfers else self._all
        self.width = 2 * transfers
        """How many actions of one kind a cycle works on at once."""
        self.small_width = max(self.width, small)
        """The same, of small bodies."""

    def of_size(self, size: int) -> Lane:
        """The lane for a body."""
        if size <= SMALL:
            return Lane([self._small])
        return Lane([self._large, self._all] if size > LARGE else [self._all])


class Lane:
    """Holds one place in each limiter."""

    def __init__(self, limiters: list[trio.CapacityLimiter]) -> None:
        self._limiters = limiters
        self._token = object()

    async def __aenter__(self) -> None:
        taken = []
        try:
            for limiter in self._limiters:
                await limiter.acquire_on_behalf_of(self._token)
                taken.append(limiter)
        except BaseException:
            for limiter in taken:
                limiter.release_on_behalf_of(self._token)
            raise

    async def __aexit__(self, *_: object) -> None:
        for limiter in reversed(self._limiters):
            limiter.release_on_behalf_of(self._token)


@dataclass(slots=True)
class Executor:
    """Runs plans between two replicas."""

    a: Replica
    b: Replica
    recorder: Recorder
    lanes: Lanes
    transfers: Transfers
    hash_body: Hash
    _broken: list[tuple[Side, RelPath, MountsyncError]] = field(default_factory=list)
    _offline: MountsyncError | None = None

    async def run(self, plan: Plan) -> None:
        """Returns when every action is done or has failed; the recorder knows which."""
        moves_a, rest_a = _moves_first(plan.to_a)
        moves_b, rest_b = _moves_first(plan.to_b)
        await self._steps(Side.A, moves_a)
        await self._steps(Side.B, moves_b)
        if rest_a and (moves_b or plan.to_base):
            # What follows on A is recorded at once, at places that these moves made, or that were given up
            # because both sides had moved what was there: they come before it.
            if moves_b:
                await self._replica(Side.B).barrier()
            self.recorder.settle_moves()
        rounds = itertools.zip_longest(_rounds(rest_a), _rounds(rest_b), fillvalue=((), ()))
        for (steps_a, bodies_a), (steps_b, bodies_b) in rounds:
            await self._steps(Side.A, steps_a)
            await self._steps(Side.B, steps_b)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._together, Side.A, bodies_a)
                nursery.start_soon(self._together, Side.B, bodies_b)
        await self._replica(Side.B).barrier()
        await self._replica(Side.A).barrier()

    def _replica(self, side: Side) -> Replica:
        return self.a if side is Side.A else self.b

    async def _steps(self, side: Side, actions: Sequence[Action]) -> None:
        for wave in _waves(actions):
            await self._together(side, wave)

    async def _together(self, side: Side, actions: Sequence[Action]) -> None:
        if len(actions) == 1:
            await self._guarded(side, actions[0])
            return
        crowds: dict[int, list[Action]] = {}
        for action in actions:
            crowds.setdefault(_size_class(action), []).append(action)
        async with trio.open_nursery() as nursery:
            for size_class, crowd in crowds.items():
                width = self.lanes.width if size_class else self.lanes.small_width
                self._crowd(nursery, side, crowd, width)

    def _crowd(self, nursery: trio.Nursery, side: Side, actions: Sequence[Action], width: int) -> None:
        # A few workers share one iterator, so that ten thousand files are not ten thousand tasks.
        waiting = iter(actions)
        for _ in range(min(width, len(actions))):
            nursery.start_soon(self._work, side, waiting)

    async def _work(self, side: Side, waiting: Iterator[Action]) -> None:
        for action in waiting:
            await self._guarded(side, action)

    async def _guarded(self, side: Side, action: Action) -> None:
        try:
            self._refuse_if_broken(side, action)
            entry = await self._act(side, action)
        except MountsyncError as error:
            self._note_failure(side, action, error)
        else:
            self.recorder.done(side, action, entry)

    def _refuse_if_broken(self, side: Side, action: Action) -> None:
        if self._offline is not None:
            silent = Halted if isinstance(self._offline, Halted) else Unreachable
            raise silent(self._offline.reason, path=path_of(action))
        path = path_of(action)
        for where, bad, error in self._broken:
            if where is side and is_within(path, bad):
                kind = Stale if is_surprise(error) else Busy if error.transient else PathError
                raise kind(f"it depends on {printable(bad)}, which failed: {error.reason}", path=path)

    def _note_failure(self, side: Side, action: Action, error: MountsyncError) -> None:
        if isinstance(error, Unreachable | Halted):
            self._offline = error
        if isinstance(action, MakeDirectory | Move | Delete):
            self._broken.append((side, path_of(action), error))
        if isinstance(action, Move):
            self._broken.append((side, action.source, error))  # it is still there: nothing may take its place
        self.recorder.failed(side, action, error)

    async def _act(self, side: Side, action: Action) -> Entry | None:
        replica = self._replica(side)
        match action:
            case Put():
                async with self.lanes.of_size(action.entry.size):
                    return await self._put(side, action)
            case MakeDirectory():
                return await replica.make_directory(action)
            case MakeSymlink():
                return await replica.make_symlink(action)
            case Move():
                return await replica.move(action)
            case SetAttributes():
                return await replica.set_attributes(action)
            case Delete():
                await replica.delete(action)
                return None

    async def _put(self, side: Side, action: Put) -> Entry:
        async with self._replica(side.other).body(action.origin, action.entry) as source:
            digest = await self.hash_body(side.other, source)
            if digest is not None and action.expect is not None and action.expect.digest == digest:
                same = SetAttributes(action.path, action.entry, action.expect)
                return await self._replica(side).set_attributes(same)
            if digest is not None:
                self.recorder.sending(side, action, digest)
            direction = "up" if side is Side.B else "down"
            with self.transfers.begin(action.path, direction, source.size) as running:
                made = await self._replica(side).put(action, MeteredSource(source, running))
            return made if digest is None else made.with_digest(digest)


def _moves_first(actions: Sequence[Action]) -> tuple[Sequence[Action], Sequence[Action]]:
    """The moves with all that stands before them, and what follows."""
    end = max((place for place, action in enumerate(actions, 1) if isinstance(action, Move)), default=0)
    return actions[:end], actions[end:]


_Round: TypeAlias = tuple[Sequence[Action], Sequence[Action]]


def _rounds(actions: Sequence[Action]) -> Iterable[_Round]:
    """Splits a side's list into (steps, then bodies) pairs, in order."""
    groups = [(carries, tuple(group)) for carries, group in itertools.groupby(actions, _carries_body)]
    if groups and groups[0][0]:
        groups.insert(0, (False, ()))
    for first in range(0, len(groups), 2):
        bodies = groups[first + 1][1] if first + 1 < len(groups) else ()
        yield groups[first][1], bodies


def _carries_body(action: Action) -> bool:
    return isinstance(action, Put)


def _size_class(action: Action) -> int:
    """0: a small body; 1: whatever is neither small nor large; 2: a large one."""
    if not isinstance(action, Put):
        return 1
    return (action.entry.size > SMALL) + (action.entry.size > LARGE)


def _waves(actions: Sequence[Action]) -> Iterable[Sequence[Action]]:
    """Splits steps into groups whose members do not depend on each other, in order."""
    for kind, group in itertools.groupby(actions, type):
        run = list(group)
        if kind is Move:
            yield from ([move] for move in run)
            continue
        if kind in (MakeDirectory, Delete):
            run.sort(key=_rank)
        for _, wave in itertools.groupby(run, _rank):
            yield list(wave)


def _rank(action: Action) -> tuple[int, int]:
    depth = len(parts_of(path_of(action)))
    if isinstance(action, MakeDirectory):
        return 0, depth
    if isinstance(action, Delete) and action.expect.kind is Kind.DIRECTORY:
        return 1, -depth
    return 0, 0
