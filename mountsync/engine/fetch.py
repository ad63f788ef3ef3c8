"""Brings bytes of cold files here when they are read, and directories when they are looked into.

One flight per block; read-ahead doubles while a file is read from front to back. Whoever asks waits
seconds at most when the remote does not answer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
import trio

from mountsync.content.ranges import Range
from mountsync.engine.bugs import note_bug
from mountsync.engine.hashing import digest_of
from mountsync.engine.observe import Observer
from mountsync.engine.storage_replica import StorageReplica
from mountsync.engine.transfers import Running, Transfers
from mountsync.errors import (
    Corrupt,
    Halted,
    IsADirectory,
    MountsyncError,
    NoSpace,
    NotADirectory,
    NotFound,
    Stale,
    Unreachable,
    Unsupported,
)
from mountsync.model.entry import Entry, settled
from mountsync.paths import RelPath, from_bytes
from mountsync.state.base import Base
from mountsync.state.tree import Node, NodeId, Place
from mountsync.storage.api import SupportsPour
from mountsync.storage.sources import BytesSource
from mountsync.vfs.adopt import Adopter
from mountsync.vfs.volume import Volume

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_PATIENCE_S: Final = 10.0
"""How long a reader waits for the next piece before the remote counts as out of reach."""
_FIRST_WINDOW: Final = 1 << 20
_LONGEST_WINDOW: Final = 32 << 20
_FLIGHT: Final = 4 << 20
"""Bytes that one flight asks for at most."""
_WHOLE: Final = 2 << 20
"""Files up to this size are fetched whole at the first read."""
_REMEMBERED: Final = 256
_WRONG_DIGEST: Final = "the remote's content does not have the digest that it should have"


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
        look_at: Callable[[set[RelPath]], Awaitable[None]],
        on_unreachable: Callable[[MountsyncError], None],
    ) -> None:
        """`refuse` gives the error to raise at once while it is known that nothing can be fetched.

        `look_at` returns when what the remote has at these paths now is shown here.
        """
        self._volume = volume
        self._base = base
        self._remote = remote
        self._observer = observer
        self._adopter = adopter
        self._transfers = transfers
        self._nursery = nursery
        self._refuse = refuse
        self._on_stale = on_stale
        self._look_at = look_at
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
            await self._list_in_time(node_id)
        except MountsyncError as error:
            self._note(error, self._observer.remote_path(node_id) or RelPath(""))
            flight.error = error
        except Exception as error:  # noqa: BLE001 - a bug about a folder must not end the mount
            flight.error = MountsyncError(note_bug(error))
        except trio.Cancelled:
            flight.error = Unreachable("the mount ends")
            raise
        finally:
            del self._listings[node_id]
            flight.end()

    async def _list_in_time(self, node_id: NodeId) -> None:
        with trio.move_on_after(3 * _PATIENCE_S) as scope:
            await self._observer.children(node_id)
        if scope.cancelled_caught:
            raise Unreachable("the remote did not list the folder in time")

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

    async def opening(self, node_id: NodeId) -> None:
        """Before a cold file is read: small ones are here when it returns, of others the remote was asked.

        Raises Stale when the remote has another one by now: that one is shown here then, under the same
        name. Nothing else is raised: whoever reads will hear of it.
        """
        path = self._observer.remote_path(node_id)
        try:
            with trio.move_on_after(_PATIENCE_S):
                await self._be_current(node_id)
        except Stale:
            if path is not None and not self._volume.journal.has(node_id):
                with trio.move_on_after(_PATIENCE_S), suppress(MountsyncError):
                    await self._look_at({path})
            raise
        except MountsyncError as error:
            _log.debug("a file is opened as it is known", path=path, reason=str(error))

    async def _be_current(self, node_id: NodeId) -> None:
        node = self._volume.tree.node(node_id)
        if node.size <= _WHOLE:
            await self.content(node_id, 0, node.size)
            return
        self._fail_early()
        await self._observer.sure()
        path, entry = self._remote_version(node)
        found = await self._remote.stat(path)
        if found is None or settled(found.token) != settled(entry.token):
            raise Stale("the remote has another version by now", path=path)

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
            await self._observer.sure()
            path, entry = self._remote_version(node)
            with self._transfers.begin(path, "down", stop - start) as running:
                if node.size <= _WHOLE:
                    await self._fetch_whole(node, path, entry, running)
                else:
                    await self._fetch_range(node, path, entry, (start, stop), running)
            if node.place == Place.FILE and node.size > _WHOLE:
                await self._verify(node, path, entry)
        except (NotFound, IsADirectory, NotADirectory, Unsupported) as error:
            self._note(NotFound(error.reason, path=path), path)
            flight.error = Stale("the remote does not have it any more", path=path)
        except MountsyncError as error:
            self._note(error, path)
            flight.error = error
        except Exception as error:  # noqa: BLE001 - a bug about a file must not end the mount
            flight.error = MountsyncError(note_bug(error))
        except trio.Cancelled:
            flight.error = Unreachable("the mount ends")
            raise
        finally:
            self._volume.let_go(node)
            del self._flights[(node.id, key)]
            flight.end()

    def _remote_version(self, node: Node) -> tuple[RelPath, Entry]:
        for row in self._base.of_node(node.id):
            raw = self._base.path(row.parent, row.name)
            if raw is not None and row.generation == node.generation:
                return from_bytes(raw), row.remote
        raise Stale("this version of the file is not on the remote any more")

    async def _fetch_whole(self, node: Node, path: RelPath, entry: Entry, running: Running) -> None:
        """A file of some size that fits in memory: nothing of it is shown before all of it was checked."""
        generation = node.generation
        pieces: list[bytes] = []

        async def keep(_offset: int, block: bytes) -> None:
            pieces.append(block)

        await self._read(path, entry, (0, node.size), running, keep)
        data = b"".join(pieces)
        if entry.digest is not None and await digest_of(BytesSource(data)) != entry.digest:
            raise Corrupt(_WRONG_DIGEST, path=path)
        await self._volume.fill(node.id, 0, data, generation=generation)

    async def _fetch_range(
        self, node: Node, path: RelPath, entry: Entry, wanted: Range, running: Running
    ) -> None:
        generation = node.generation
        storage = self._remote.storage
        if isinstance(storage, SupportsPour) and not running.pace.is_limited:
            await self._pour(storage, node, path, entry, wanted, running)
            return

        async def fill(offset: int, block: bytes) -> None:
            await self._volume.fill(node.id, offset, block, generation=generation)

        await self._read(path, entry, wanted, running, fill)

    async def _pour(
        self, pourer: SupportsPour, node: Node, path: RelPath, entry: Entry, wanted: Range, running: Running
    ) -> None:
        """As `_fetch_range`, by a storage that writes into the content file as bytes come."""
        start, stop = wanted
        with self._volume.inflow(node.id, generation=node.generation) as inflow:
            if inflow is None:
                return

            async def claim(offset: int, count: int) -> None:
                nonlocal start
                start = offset + count
                inflow.claim(offset, start)

            while True:
                opened = pourer.pour(path, inflow.put_at, start, stop - start, expect=entry.token)
                try:
                    await self._follow(opened, path, (start, stop), running, int, claim)
                except NoSpace:
                    if not self._volume.relieve(stop - start):
                        raise
                else:
                    return

    async def _read(
        self,
        path: RelPath,
        entry: Entry,
        wanted: Range,
        running: Running,
        take: Callable[[int, bytes], Awaitable[None]],
    ) -> None:
        """Hands the bytes over piece by piece."""
        start, stop = wanted
        opened = self._remote.storage.read(path, start, stop - start, expect=entry.token)
        await self._follow(opened, path, wanted, running, len, take)

    async def _follow(
        self,
        opened: AbstractAsyncContextManager[AsyncIterator[T]],
        path: RelPath,
        wanted: Range,
        running: Running,
        size_of: Callable[[T], int],
        take: Callable[[int, T], Awaitable[None]],
    ) -> None:
        """Hands pieces over as they come. Raises Corrupt when they are fewer or more than asked for."""
        offset, stop = wanted
        with trio.CancelScope(deadline=trio.current_time() + _PATIENCE_S) as patience:
            async with opened as pieces:
                async for piece in pieces:
                    patience.deadline = float("inf")  # the local disk or a bandwidth limit is no fault of it
                    size = size_of(piece)
                    if offset + size > stop:
                        raise Corrupt("the remote gave more bytes than it was asked for", path=path)
                    await take(offset, piece)
                    offset += size
                    await running.passed(size)
                    patience.deadline = trio.current_time() + _PATIENCE_S
        if patience.cancelled_caught:
            raise Unreachable("the remote stopped answering", path=path)
        if offset < stop:
            raise Corrupt(f"the remote gave {stop - offset} bytes less than its size", path=path)

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
        raise Corrupt(_WRONG_DIGEST, path=path)

    def _fail_early(self) -> None:
        error = self._refuse()
        if error is not None:
            raise type(error)(error.reason)

    def _note(self, error: MountsyncError, path: RelPath | None) -> None:
        if isinstance(error, Unreachable | Halted):
            self._on_unreachable(error)
        elif path and isinstance(error, Stale | NotFound | Corrupt):
            self._on_stale(path)


class _Flight:
    """Something that is being fetched."""

    def __init__(self) -> None:
        self._done = trio.Event()
        self.error: MountsyncError | None = None

    def end(self) -> None:
        """Nothing more comes; wakes whoever waits."""
        self._done.set()

    async def landed(self) -> None:
        """Returns when it is here; raises what went wrong."""
        await self._done.wait()
        if self.error is not None:
            raise type(self.error)(self.error.reason, path=self.error.path)
