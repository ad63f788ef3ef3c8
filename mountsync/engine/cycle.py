"""One round of a mount over a scope: plan, carry out, write down."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Protocol

from mountsync.engine.apply import Executor, Lanes
from mountsync.engine.hashing import Hasher, digest_of
from mountsync.engine.mounted_replica import MountedReplica, MountedTree
from mountsync.engine.scope import Scope, node_of_token
from mountsync.engine.settle import Failure, MountRecorder
from mountsync.engine.storage_replica import StorageReplica
from mountsync.engine.transfers import Transfers
from mountsync.errors import MountsyncError, NotADirectory, NotFound, Stale
from mountsync.model.base import Agreed
from mountsync.model.entry import Digest, Entry, Kind
from mountsync.model.listing import Scan
from mountsync.model.plan import Conflict, ConflictPolicy, Delete, Move, Plan, Put, Resolved, Side
from mountsync.paths import RelPath
from mountsync.reconcile import (
    Comparator,
    Settings,
    SideRules,
    reconcile,
    wanted_digests,
)
from mountsync.state.attempts import Attempts
from mountsync.state.base import Base
from mountsync.state.database import Database
from mountsync.state.journal import Journal
from mountsync.state.tree import NodeId
from mountsync.storage.api import Source
from mountsync.vfs.adopt import Adopter

_ROUNDS: Final = 4
"""How often a plan is made anew because it asked for a digest; one digest may ask for another."""


@dataclass(frozen=True, slots=True)
class Rules:
    """How a mount reconciles."""

    host: str
    policy: ConflictPolicy


@dataclass(slots=True)
class Outcome:
    """What a cycle did and left."""

    to_local: int = 0
    to_remote: int = 0
    failures: list[Failure] = field(default_factory=list)
    conflicts: tuple[Conflict, ...] = ()
    resolved: tuple[Resolved, ...] = ()
    looked_at: frozenset[RelPath] = frozenset()
    blocked: bool = False
    """Nothing was done, because of one path: the others are better tried without it."""
    unfollowed: frozenset[RelPath] = frozenset()
    """Directories, by their old paths, whose renames on the remote have to be followed entry by entry."""
    stuck: frozenset[RelPath] = frozenset()
    """Paths whose surprises do not end (see `repeats`): they are problems, and no look helps."""
    is_doubtful: bool = False
    """A look at the path of a surprise explained nothing: the whole remote may."""

    @property
    def stale(self) -> set[RelPath]:
        """Paths at which the remote was not what the plan expected."""
        return self._surprised(Side.B)

    @property
    def overtaken(self) -> set[RelPath]:
        """Paths at which the mount was not what the plan expected any more."""
        return self._surprised(Side.A)

    def _surprised(self, side: Side) -> set[RelPath]:
        return {f.path for f in self.failures if f.side is side and self.is_quiet(f)}

    def is_quiet(self, failure: Failure) -> bool:
        """Whether a failure only asks for another look, and nobody has to be told."""
        return failure.is_surprise and failure.path not in self.stuck


class Fetching(Protocol):
    """Brings what is not here."""

    async def content(self, node_id: NodeId, start: int, stop: int) -> None:
        """Bytes of a file."""
        ...

    async def children(self, node_id: NodeId) -> None:
        """Entries of a directory."""
        ...


class MountCycles:
    """Runs cycles between a volume and its remote; several at once, on scopes that do not meet."""

    def __init__(
        self,
        database: Database,
        journal: Journal,
        base: Base,
        attempts: Attempts,
        volume: MountedTree,
        adopter: Adopter,
        remote: StorageReplica,
        hasher: Hasher,
        *,
        fetch: Fetching,
        rules: Rules,
        lanes: Lanes,
        transfers: Transfers,
        clock: Callable[[], int],
    ) -> None:
        self._db = database
        self._journal = journal
        self._base = base
        self._attempts = attempts
        self._volume = volume
        self._adopter = adopter
        self._remote = remote
        self._hasher = hasher
        self._fetch = fetch
        self._rules = rules
        self.overrides: dict[RelPath, ConflictPolicy] = {}
        """Policies that a person chose for single paths."""
        self._lanes = lanes
        self._transfers = transfers
        self._clock = clock

    async def run(self, scope: Scope, *, restless: frozenset[NodeId] = frozenset()) -> Outcome:
        """Makes both sides agree about the scope."""
        with self._transfers.tally.cycle():
            return await self._run(scope, restless)

    async def _run(self, scope: Scope, restless: frozenset[NodeId]) -> Outcome:
        local = MountedReplica(self._volume, self._adopter, scope, self._fetch.content, restless)
        plan = await self._plan(scope, local)
        unfollowed = await self._split_unfollowed(scope, plan)
        if unfollowed is not None:
            return unfollowed
        recorder = self._recorder(scope)
        missing = await self._bring_cold(plan, local) or await self._bring_leaving(plan, scope)
        if missing is not None:
            recorder.give_up(missing.error)
            return Outcome(failures=[missing], blocked=True)
        recorder.adopt_plan(plan)
        recorder.begin(plan)
        executor = Executor(local, self._remote, recorder, self._lanes, self._transfers, self._hash_body)
        try:
            await executor.run(plan)
            recorder.commit()
        except MountsyncError as error:
            # Only the barrier raises: nothing of this cycle may be written down, all of it is seen again.
            recorder.give_up(error)
            return Outcome(failures=[Failure(Side.B, RelPath(""), error)])
        finally:
            recorder.end()
        return Outcome(
            recorder.done_on[Side.A],
            recorder.done_on[Side.B],
            recorder.failures,
            plan.conflicts,
            plan.resolved,
            frozenset(scope.places),
        )

    def _recorder(self, scope: Scope) -> MountRecorder:
        tree, clock = self._volume.tree, self._clock
        return MountRecorder(self._db, tree, self._base, self._journal, self._attempts, scope, clock)

    async def _split_unfollowed(self, scope: Scope, plan: Plan) -> Outcome | None:
        """When the other side cannot follow the rename of a directory as a whole, nothing is done yet.

        Then each entry of the directory counts as moved by itself: for that the scope was too small.
        """
        here, there = (set(_unfollowed(scope, plan, side)) for side in Side)
        if not here and not there:
            return None
        failures = [Failure(Side.B, path, await self._split(path, scope.base[path])) for path in here]
        return Outcome(failures=failures, unfollowed=frozenset(there))

    async def _split(self, path: RelPath, agreed: Agreed) -> MountsyncError:
        """Has all entries of a directory renamed by themselves; gives why nothing is done about it yet."""
        named = node_of_token(agreed.a)
        assert named is not None
        tree, node_id = self._volume.tree, named[0]
        try:
            await self._list(node_id)
        except MountsyncError as error:
            return error
        now = self._clock()
        with self._db.transaction:
            stand_in = tree.new_id()
            row = self._journal.find(node_id)
            since = now if row is None else row.since_ns
            for moved in (*self._base.split(node_id, stand_in), stand_in, node_id):
                self._journal.note(moved, now)
                self._journal.mature(moved, since)
        return Stale("it is renamed entry by entry", path=path)

    async def _list(self, node_id: NodeId) -> None:
        """Sees to it that all is known that the remote has in a directory."""
        directory = self._volume.tree.find(node_id)
        if directory is None or directory.listed:
            return
        try:
            await self._fetch.children(node_id)
        except (NotFound, NotADirectory):
            self._adopter.mark_listed([node_id])  # it went there, and all that was in it

    async def _bring_cold(self, plan: Plan, local: MountedReplica) -> Failure | None:
        """Fetches what the plan uploads from here and is not here, before the plan deletes it there."""
        for action in plan.to_b:
            if isinstance(action, Put):
                try:
                    await local.bring(action.origin, action.entry)
                except MountsyncError as error:
                    return Failure(Side.B, action.path, error)
        return None

    async def _bring_leaving(self, plan: Plan, scope: Scope) -> Failure | None:
        """Fetches what leaves the remote and lives on here alone: what was put into the trash."""
        for action in plan.to_b:
            if isinstance(action, Delete):
                try:
                    await self._bring_left(action.path, scope)
                except MountsyncError as error:
                    return Failure(Side.B, action.path, error)
        return None

    async def _bring_left(self, path: RelPath, scope: Scope) -> None:
        place = scope.places.get(path)
        row = None if place is None else scope.rows.get(place)
        node = None if row is None else self._volume.tree.find(row.node)
        if row is None or node is None or not self._volume.tree.names(node.id):
            return
        if node.is_directory and not node.listed:
            await self._fetch.children(node.id)
            raise Stale("what is in it has to be brought here first", path=path)
        if node.is_file and node.size and node.generation == row.generation:
            self._keep(node.id)
            if not node.is_complete:
                await self._fetch.content(node.id, 0, node.size)

    def _keep(self, node_id: NodeId) -> None:
        """What is in the journal is not evicted: soon, and after a crash too, no other content exists."""
        if not self._journal.has(node_id):
            with self._db.transaction:
                self._journal.note(node_id, self._clock())

    async def _plan(self, scope: Scope, local: MountedReplica) -> Plan:
        settings = self._settings()
        base, moves_a, moves_b = scope.base, scope.moves_a, scope.moves_b
        for _ in range(_ROUNDS):
            a, b = Scan(scope.a), Scan(scope.b)
            plan = reconcile(a, b, base, settings=settings, moves_a=moves_a, moves_b=moves_b)
            if not plan.problems:
                break
            wanted = wanted_digests(a, b, base, settings=settings, moves_a=moves_a, moves_b=moves_b)
            if not await self._find_digests(scope, local, wanted):
                break
        return plan

    def _settings(self) -> Settings:
        info = self._remote.info
        return Settings(
            when=time.strftime("%Y-%m-%d %H-%M-%S", time.localtime(self._clock() // 1_000_000_000)),
            host=self._rules.host,
            comparator=Comparator(tolerance_ns=info.mtime_precision_ns or 0),
            policy=lambda path: self.overrides.get(path, self._rules.policy),
            follows_exchanges=False,  # a process that died would leave a file under a strange name
            a=SideRules(),
            b=SideRules(
                can_move=self._remote.can_move,
                moves_directories=self._remote.moves_directories,
                case_sensitive=info.case_sensitive,
                unicode_normalizing=info.unicode_normalizing,
                empty_directories=info.empty_directories,
                mtimes=self._remote.sets_mtimes,
                times=info.mtime_precision_ns is not None,
                modes=self._remote.sets_modes,
                cheap_digests=False,
                refusal=self._refusal,
            ),
        )

    def _refusal(self, path: RelPath) -> str | None:
        refused = self._remote.info.names.refusal(path)
        return None if refused is None else refused.reason

    async def _find_digests(
        self, scope: Scope, local: MountedReplica, wanted: Iterable[tuple[Side, RelPath]]
    ) -> bool:
        found = False
        for side, path in wanted:
            entries = scope.a if side is Side.A else scope.b
            entry = entries.get(path)
            if entry is None or entry.kind is not Kind.FILE or entry.digest is not None:
                continue
            digest = await self._digest(side, path, entry, local)
            if digest is not None:
                entries[path] = entry.with_digest(digest)
                found = True
        return found

    async def _digest(self, side: Side, path: RelPath, entry: Entry, local: MountedReplica) -> Digest | None:
        try:
            if side is Side.B:
                return await self._hasher.digest(path, entry)
            async with local.body(path, entry) as source:
                return await digest_of(source)
        except MountsyncError:
            return None  # the path stays a problem of this plan and is looked at again

    async def _hash_body(self, side: Side, source: Source) -> Digest | None:
        return await digest_of(source) if side is Side.A else None


def _unfollowed(scope: Scope, plan: Plan, mover: Side) -> Iterable[RelPath]:
    """Directories that one side renamed and that the plan does not rename as a whole on the other."""
    followed = {action.base for action in plan.of(mover.other) if isinstance(action, Move)}
    there = scope.b if mover is Side.A else scope.a
    for source, target in scope.moves_a if mover is Side.A else scope.moves_b:
        agreed = scope.base.get(source)
        if agreed is None or agreed.entry.kind is not Kind.DIRECTORY or source in followed:
            continue
        both_moved = plan.to_base.get(source, agreed) is None and plan.to_base.get(target) is not None
        # Where directories are only implied, the plan may move the row for the sake of what was put there.
        if not (both_moved and target in there and source not in there):
            yield source
