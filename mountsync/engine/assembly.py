"""The engine's parts of one mount, each with those that it needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import trio

from mountsync.engine.apply import Lanes
from mountsync.engine.cycle import MountCycles, Rules
from mountsync.engine.dispatch import Delays, Dispatcher
from mountsync.engine.fetch import Fetcher
from mountsync.engine.hashing import Hasher
from mountsync.engine.inspect import NodeInspector
from mountsync.engine.ledger import Ledger
from mountsync.engine.observe import Observer
from mountsync.engine.scope import ScopeBuilder
from mountsync.engine.session import Intervals, Session
from mountsync.engine.steering import Steering
from mountsync.engine.storage_replica import StorageReplica
from mountsync.engine.traces import Traces
from mountsync.engine.upkeep import Upkeep
from mountsync.engine.witness import Witness
from mountsync.model.plan import ConflictPolicy
from mountsync.reconcile import DeleteLimit
from mountsync.state.attempts import Attempts
from mountsync.state.digests import Digests
from mountsync.storage.api import Storage
from mountsync.vfs.adopt import Adopter, Ownership
from mountsync.vfs.volume import Volume

_DEFAULT_LIMIT: Final = DeleteLimit()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How a mount's engine works. Times in seconds, sizes in bytes."""

    host: str
    write_delay: float = 5.0
    poll_interval: float = 60.0
    transfers: int = 4
    conflict: ConflictPolicy = ConflictPolicy.KEEP_BOTH
    max_delete: int | None = None
    """More deletes at once on either side halt. None: half of all entries, and more than 20, vanished there;
    deletes here are what the user did and go on."""
    cache_size: int | None = None


class Engine:
    """Both directions of one mount, wired. `steering` is completed with the parts that it steers."""

    def __init__(
        self,
        volume: Volume,
        remote: StorageReplica,
        steering: Steering,
        nursery: trio.Nursery,
        tuning: Tuning,
        *,
        opener: Callable[[], Awaitable[Storage]] | None = None,
    ) -> None:
        """`nursery` holds transfers and cycles; `opener` opens the remote when it is away at the start."""
        self.volume = volume
        self.remote = remote
        self.steering = steering
        self.condition = steering.condition
        self.ledger = Ledger()
        self._tuning = tuning
        adopter = self._make_adopter()
        volume.rescue = adopter.rescue
        self._hasher = Hasher(remote, Digests(volume.database))
        self._attempts = Attempts(volume.database)
        self.traces = self._make_traces()
        self.observer = Observer(
            volume.database, volume.tree, volume.base, remote, adopter, self.ledger, self.traces
        )
        self.session = self._make_session(opener)
        self.fetcher = self._make_fetcher(adopter, nursery)
        self.cycles = self._make_cycles(adopter)
        self.session.dispatcher = self._make_dispatcher(nursery)
        self.upkeep = Upkeep(volume, self.fetcher, self.condition, limit=tuning.cache_size)
        volume.relieve = self.upkeep.relieve
        steering.session, steering.cycles, steering.upkeep = self.session, self.cycles, self.upkeep
        volume.inspector = NodeInspector(volume, self.ledger, self.session, self.remote.hides)

    def _make_adopter(self) -> Adopter:
        volume, owner = self.volume, self.volume.owner
        ownership = Ownership(owner.uid, owner.gid, 0o666 & ~owner.umask, 0o777 & ~owner.umask)
        return Adopter(
            volume.database,
            volume.tree,
            volume.journal,
            volume.base,
            lambda: volume.kernel,
            volume,
            ownership,
            volume.clock,
            self._tuning.host,
        )

    def _make_traces(self) -> Traces:
        volume = self.volume
        return Traces(
            volume.database,
            volume.base,
            volume.journal,
            self._attempts,
            self.remote,
            Witness(volume, volume.base, self._hasher).same_content,
            volume.clock,
        )

    def _make_session(self, opener: Callable[[], Awaitable[Storage]] | None) -> Session:
        return Session(
            self.volume.base,
            self.volume.journal,
            self.remote,
            self.observer,
            self.condition,
            self.steering,
            delete_limit=self._delete_limit(),
            intervals=Intervals(self._tuning.poll_interval),
            clock=self.volume.clock,
            opener=opener,
        )

    def _make_fetcher(self, adopter: Adopter, nursery: trio.Nursery) -> Fetcher:
        session = self.session
        return Fetcher(
            self.volume,
            self.volume.base,
            self.remote,
            self.observer,
            adopter,
            self.steering.transfers,
            nursery,
            refuse=self.condition.refusal,
            on_stale=lambda path: session.hint({path}),
            look_at=session.look_at,
            on_unreachable=session.lost,
        )

    def _delete_limit(self) -> DeleteLimit:
        chosen = self._tuning.max_delete
        return _DEFAULT_LIMIT if chosen is None else DeleteLimit(chosen, None)

    def _make_cycles(self, adopter: Adopter) -> MountCycles:
        volume, tuning = self.volume, self._tuning
        return MountCycles(
            volume.database,
            volume.journal,
            volume.base,
            self._attempts,
            volume,
            adopter,
            self.remote,
            self._hasher,
            fetch=self.fetcher,
            rules=Rules(tuning.host, tuning.conflict),
            lanes=Lanes(tuning.transfers, self.remote.info.small_at_once),
            transfers=self.steering.transfers,
            clock=volume.clock,
        )

    def _make_dispatcher(self, nursery: trio.Nursery) -> Dispatcher:
        return Dispatcher(
            self.volume,
            self.cycles,
            self.ledger,
            self.condition,
            self._make_builder,
            nursery,
            self.session.report,
            self.traces,
            delays=Delays(int(self._tuning.write_delay * 1e9)),
            transfers=self._tuning.transfers,
            max_delete=self._tuning.max_delete,
            refuse_deletes=self.session.refuse_deletes_here,
        )

    def _make_builder(self) -> ScopeBuilder:
        volume = self.volume
        return ScopeBuilder(
            volume.tree,
            volume.base,
            volume.journal,
            self.remote.hides,
        )

    async def run(self) -> None:
        """All that goes on by itself; until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.session.run, self.session.dispatcher)
            nursery.start_soon(self.upkeep.run)
