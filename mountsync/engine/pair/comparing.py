"""Tells in what two storages differ, and changes nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from mountsync.engine.hashing import Hasher
from mountsync.engine.pair.filters import Filter
from mountsync.engine.pair.looking import Looker
from mountsync.engine.pair.planning import problem_of
from mountsync.engine.pair.replica import PairReplica
from mountsync.engine.pair.run import Progress
from mountsync.engine.pair.sight import Sight
from mountsync.errors import MountsyncError, Unreachable
from mountsync.model.entry import Digest, Entry, Kind, Problem, Token
from mountsync.model.side import Side
from mountsync.paths import RelPath
from mountsync.reconcile import Comparator
from mountsync.storage.api import Storage
from mountsync.storage.presence import insist_there

_READERS = 4


@dataclass(slots=True)
class Differences:
    """What a comparison found. `by` says by what contents were compared: `content` or `size and time`."""

    by: str
    equal: int = 0
    only_a: list[RelPath] = field(default_factory=list)
    only_b: list[RelPath] = field(default_factory=list)
    differ: list[RelPath] = field(default_factory=list)
    problems: dict[RelPath, Problem] = field(default_factory=dict)

    @property
    def exit_code(self) -> int:
        """0 equal, 1 differences, 3 when paths could not be compared."""
        if self.problems:
            return 3
        return 1 if self.only_a or self.only_b or self.differ else 0


class _Forgetful:
    """A cache of digests that holds nothing: a check reads what is there."""

    def find(self, _storage: str, _path: RelPath, _token: Token) -> Digest | None:
        return None

    def store(self, _storage: str, _path: RelPath, _token: Token, _digest: Digest) -> None:
        return


async def differences(
    a: Storage,
    b: Storage,
    *,
    patterns: tuple[str, ...] = (),
    only: RelPath | None = None,
    by_content: bool,
    progress: Progress | None = None,
) -> Differences:
    """Compares everything, or only one file. Raises Unreachable, and NotFound for a side that does not exist.

    Without `by_content` sizes and times decide.
    """
    progress = progress or Progress()
    hidden = Filter(patterns, only)
    sides = {side: PairReplica(x, hidden, None) for side, x in ((Side.A, a), (Side.B, b))}
    sights = {side: Sight(side) for side in Side}
    progress.phase, progress.sights = "listing", sights
    for side in Side:
        looker = Looker(sides[side], side, {}, hidden)
        await (looker.whole(sights[side]) if only is None else looker.around([only], sights[side]))
        if not sights[side].count:
            await insist_there(sides[side].storage, f"side {side.value.upper()}")
    steps = [replica.info.mtime_precision_ns or 0 for replica in sides.values()]
    found = Differences("content" if by_content else "size and time")
    found.problems.update(sights[Side.A].problems)
    found.problems.update(sights[Side.B].problems)
    comparator = Comparator(tolerance_ns=max(steps))
    hashers = {side: Hasher(sides[side], _Forgetful()) for side in Side}
    progress.phase = "comparing"
    progress.to_do = len({*sights[Side.A].changed, *sights[Side.B].changed})
    await _Comparison(found, sights, comparator, hashers, progress, by_content=by_content).run()
    return found


class _Comparison:
    def __init__(
        self,
        found: Differences,
        sights: dict[Side, Sight],
        comparator: Comparator,
        hashers: dict[Side, Hasher],
        progress: Progress,
        *,
        by_content: bool,
    ) -> None:
        self._found = found
        self._a, self._b = sights[Side.A].changed, sights[Side.B].changed
        self._comparator = comparator
        self._hashers = hashers
        self._progress = progress
        self._by_content = by_content

    async def run(self) -> None:
        waiting = iter(sorted({*self._a, *self._b}))
        offline: list[Unreachable] = []

        async def work(paths: Iterator[RelPath]) -> None:
            for path in paths:
                try:
                    await self._compare(path)
                    self._progress.counted += 1
                except Unreachable as error:
                    offline.append(error)
                    return

        async with trio.open_nursery() as nursery:
            for _ in range(_READERS):
                nursery.start_soon(work, waiting)
        if offline:
            raise offline[0]
        for paths in (self._found.only_a, self._found.only_b, self._found.differ):
            paths.sort()

    async def _compare(self, path: RelPath) -> None:
        a, b = self._a.get(path), self._b.get(path)
        if a is None or b is None:
            (self._found.only_b if a is None else self._found.only_a).append(path)
            return
        try:
            same = await self._same(path, a, b)
        except Unreachable:
            raise
        except MountsyncError as error:
            self._found.problems[path] = problem_of(error)
            return
        if same:
            self._found.equal += 1
        else:
            self._found.differ.append(path)

    async def _same(self, path: RelPath, a: Entry, b: Entry) -> bool:
        if a.kind is not b.kind:
            return False
        if a.kind is not Kind.FILE:
            return a.target == b.target
        if a.size != b.size:
            return False
        if not self._by_content:
            return self._comparator.near(a.mtime_ns, b.mtime_ns)
        one = await self._hashers[Side.A].digest(path, a)
        return one == await self._hashers[Side.B].digest(path, b)
