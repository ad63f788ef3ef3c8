"""Brings bytes of cold files here when they are read, and directories when they are looked into.

One flight per block; read-ahead doubles while a file is read from front to back. Whoever asks waits
seconds at most when the remote does not answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import trio

from mountsync.content.ranges import Range
from mountsync.engine.hashing import digest_of
from mountsync.engine.observe import Observer
from mountsync.engine.storage_replica import StorageReplica
from mountsync.engine.transfers import Running, Transfers
from mountsync.errors import Corrupt, MountsyncError, NotFound, Stale, Unreachable
from mountsync.model.entry import Entry
from mountsync.paths import RelPath, from_bytes
from mountsync.state.base import Base
from mountsync.state.tree import Node, NodeId, Place
from mountsync.vfs.adopt import Adopter
from mountsync.vfs.volume import Volume

_PATIENCE_S: Final = 10.0
"""How long a reader waits for the next piece before the remote counts as out of reach."""
_FIRST_WINDOW: Final = 1 << 20
_LONGEST_WINDOW: Final = 32 << 20
_FLIGHT: Final = 4 << 20
"""Bytes that one flight asks for at most."""
_WHOLE: Final = 2 << 20
"""Files up to this size are fetched whole at the first read."""
_REMEMBERED: Final = 256


@dataclass(slots=True)
class _Reader:
    """How a file has been read lately: where the last request ended and how far to look ahead."""

    position: int = 0
    window: int = _FIRST_WINDOW


class Fetcher:
    """Serves the mount's room (its `content` and `children`) and everybody else who needs bytes here."""

    def __init__(
        self,
        volume: Volume,
        base: Base,
        remote: StorageReplica,
        observer: Observer,
        adopter: Adopter,
        transfers: Transfers,
        nursery: trio.Nursery,
        *,
        refuse: Callable[[], MountsyncError | None],
        on_stale: Callable[[RelPath], None],
        on_unreachable: Callable[[MountsyncError], None],
    ) -> None:
        """`refuse` gives the error to raise at once while it is known that nothing can be fetched."""
        self._volume = volume
        self._base = base
        self._remote = remote
        self._observer = observer
        self._adopter = adopter
        self._transfers = transfers
        self._nursery = nursery
        self._refuse = refuse
        self._on_stale = on_stale
        self._on_unreachable = on_unreachable
        self._flights: dict[tuple[NodeId, int], _Flight] = {}
        self._listings: dict[NodeId, _Flight] = {}
        self._readers: dict[NodeId, _Reader] = {}
        self._block = max(remote.info.read_block, 64 << 10)

    async def children(self, node_id: NodeId) -> None:
        """Returns when the entries of a directory are known. Raises Unreachable, NotFound."""
        flight = self._listings.get(node_id)
        if flight is None:
            self._fail_early()
            flight = self._listings[node_id] = _Flight()
            self._nursery.start_soon(self._list, node_id, flight)
        await flight.landed()

    async def _list(self, node_id: NodeId, flight: _Flight) -> None:
        try:
            with trio.move_on_after(3 * _PATIENCE_S) as scope:
                await self._observer.children(node_id)
            if scope.cancelled_caught:
                raise Unreachable("the remote did not list the folder in time")
        except MountsyncError as error:
            self._note(error, self._observer.remote_path(node_id) or RelPath(""))
            flight.error = error
        finally:
            del self._listings[node_id]
            flight.done.set()

    async def content(self, node_id: NodeId, start: int, stop: int) -> None:
        """Returns when the bytes `[start, stop)` of a file are here.

        Raises Stale when the remote's object is another one by now, Unreachable when it cannot be
        reached, NotFound when it is gone.
        """
        node = self._volume.tree.node(node_id)
        while missing := self._volume.missing(node_id, *self._wanted(node, start, stop)):
            self._fail_early()
            flights = self._launch(node, missing)
            for flight in flights:
                await flight.landed()
            if not flights:
                return
        self._look_ahead(node, start, stop)

    def _wanted(self, node: Node, start: int, stop: int) -> Range:
        if node.size <= _WHOLE:
            return 0, node.size
        return start // self._block * self._block, min(-(-stop // self._block) * self._block, node.size)

    def _look_ahead(self, node: Node, start: int, stop: int) -> None:
        reader = self._readers.pop(node.id, None) or _Reader()
        while len(self._readers) >= _REMEMBERED:
            del self._readers[next(iter(self._readers))]
        self._readers[node.id] = reader
        first, last = self._wanted(node, start, stop)
        near = reader.position and reader.position <= first <= reader.position + reader.window
        reader.window = min(2 * reader.window, _LONGEST_WINDOW) if near else _FIRST_WINDOW
        reader.position = last
        if near and node.place == Place.GAPS:
            self._launch(node, self._volume.missing(node.id, last, last + reader.window))

    def _launch(self, node: Node, missing: list[Range]) -> list[_Flight]:
        """Starts flights for what is missing and not under way; gives all that concern it."""
        flights = []
        for start, stop in missing:
            for offset in range(start // _FLIGHT * _FLIGHT, stop, _FLIGHT):
                first, last = max(start, offset), min(stop, offset + _FLIGHT)
                flights.append(self._flight(node, first, last, offset))
        return flights

    def _flight(self, node: Node, start: int, stop: int, key: int) -> _Flight:
        flight = self._flights.get((node.id, key))
        if flight is None:
            flight = self._flights[(node.id, key)] = _Flight()
            self._nursery.start_soon(self._fly, node, start, stop, key, flight)
        return flight

    async def _fly(self, node: Node, start: int, stop: int, key: int, flight: _Flight) -> None:
        self._volume.hold(node)
        path = None
        try:
            path, entry = self._remote_version(node)
            with self._transfers.begin(path, "down", stop - start) as running:
                await self._read(node, path, entry, start, stop, running)
            if node.place == Place.FILE:
                await self._verify(node, path, entry)
        except MountsyncError as error:
            self._note(error, path)
            flight.error = error
        finally:
            self._volume.let_go(node)
            del self._flights[(node.id, key)]
            flight.done.set()

    def _remote_version(self, node: Node) -> tuple[RelPath, Entry]:
        for row in self._base.of_node(node.id):
            raw = self._base.path(row.parent, row.name)
            if raw is not None and row.generation == node.generation:
                return from_bytes(raw), row.remote
        raise Stale("this version of the file is not on the remote any more")

    async def _read(
        self, node: Node, path: RelPath, entry: Entry, start: int, stop: int, running: Running
    ) -> None:
        generation = node.generation
        offset = start
        with trio.CancelScope(deadline=trio.current_time() + _PATIENCE_S) as patience:
            async with self._remote.storage.read(path, start, stop - start, expect=entry.token) as blocks:
                async for block in blocks:
                    patience.deadline = trio.current_time() + _PATIENCE_S
                    await self._volume.fill(node.id, offset, block, generation=generation)
                    offset += len(block)
                    patience.deadline = float("inf")  # a bandwidth limit is no fault of the remote
                    await running.passed(len(block))
                    patience.deadline = trio.current_time() + _PATIENCE_S
        if patience.cancelled_caught:
            raise Unreachable("the remote stopped answering", path=path)
        if offset < stop:
            raise Corrupt(f"the remote gave {offset - start} of {stop - start} bytes", path=path)

    async def _verify(self, node: Node, path: RelPath, entry: Entry) -> None:
        """A file that is complete now must have the digest that is known of it."""
        if entry.digest is None:
            return
        body = self._volume.body(node.id)
        try:
            found = await digest_of(body)
        finally:
            body.close()
        if found == entry.digest or self._volume.journal.has(node.id):
            return
        for row in self._base.of_node(node.id):  # a fresh, cold node takes the place of the bad bytes
            self._adopter.plant(row.parent, row.name, row.remote, instead_of=node.id)
        raise Corrupt("the remote's content does not have the digest that it should have", path=path)

    def _fail_early(self) -> None:
        error = self._refuse()
        if error is not None:
            raise type(error)(error.reason)

    def _note(self, error: MountsyncError, path: RelPath | None) -> None:
        if isinstance(error, Unreachable):
            self._on_unreachable(error)
        elif path and isinstance(error, Stale | NotFound | Corrupt):
            self._on_stale(path)


class _Flight:
    """Something that is being fetched."""

    def __init__(self) -> None:
        self.done = trio.Event()
        self.error: MountsyncError | None = None

    async def landed(self) -> None:
        """Returns when it is here; raises what went wrong."""
        await self.done.wait()
        if self.error is not None:
            raise type(self.error)(self.error.reason, path=self.error.path)
