"""Uploads: hash the blocks, ask which are missing, send those, commit.

No copy of the source is made. Blocks that are sent are read again and must still have the digest that
was announced, so that the bytes that are committed are those of one moment.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

import trio

from mountsync.errors import IsADirectory, NotFound, Stale, Unreachable
from mountsync.storage.api import Source
from mountsync.storage.crowd import Crowd
from mountsync.storage.modal.attempts import Attempts
from mountsync.storage.modal.buffers import Buffers
from mountsync.storage.modal.refusals import LATER, MaybeOurs, TryAgain, UrlRefused
from mountsync.storage.modal.tokens import fingerprint
from mountsync.storage.modal.transport import BLOCK, FilePut, NativeEntry, NativeKind, SmallPut, Transport
from mountsync.storage.modal.volume import Volume
from mountsync.storage.sources import fill
from mountsync.storage.together import each

S = TypeVar("S")
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

SMALL: Final = 1 << 16
"""Up to this size in bytes the latency of calls counts, not the bytes."""
_INLINE: Final = 1 << 15
"""Up to this size in bytes a thread costs more than the hash."""
_TAIL: Final = 1 << 16
_CROWDS: Final = 1
"""Hops to threads that read small files at once: more would only wait for each other's interpreter lock."""
_HASHES_AT_ONCE: Final = 2
_SENDS_AT_ONCE: Final = 4
_UNTIL_SHOWN: Final = (0.05, 0.1, 0.3, 0.8, 2.0, 0.0)
"""Seconds between looks at what was put."""
_ROUNDS: Final = 5
"""So often the same blocks are sent."""


@dataclass(frozen=True, slots=True)
class Hashed:
    """A content by its blocks. `data` is the content itself when it is small."""

    size: int
    blocks: tuple[bytes, ...]
    data: bytes | None = None

    @property
    def fingerprint(self) -> str:
        """Tells this content from others."""
        return fingerprint(str(self.size), *self.blocks)


class Commit(Protocol[T_co]):
    """What surrounds the step that makes an upload visible."""

    @property
    def create_only(self) -> bool:
        """Whether nothing may be there."""
        ...

    def alone(self) -> AbstractAsyncContextManager[None]:
        """Keeps others of ours from committing there meanwhile."""
        ...

    async def check(self) -> None:
        """Raises when the file must not be put (any more). Asked before each step that may commit."""
        ...

    async def settle(self, hashed: Hashed, seen: NativeEntry | None) -> T_co:
        """Called when the content is there. `seen` was looked up at its path after the put, if it was."""
        ...


class Plainly:
    """A commit with nothing around it: nobody looks at what was put."""

    def __init__(self, *, create_only: bool) -> None:
        self.create_only = create_only

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        yield

    async def check(self) -> None:
        await trio.lowlevel.checkpoint()

    async def settle(self, hashed: Hashed, seen: NativeEntry | None) -> None:  # noqa: ARG002 - its face
        await trio.lowlevel.checkpoint()


@dataclass(slots=True)
class _Times:
    """Of the latest attempt."""

    began: float = 0.0


@dataclass(frozen=True, slots=True)
class _Job(Generic[T]):
    """One upload."""

    volume: Volume
    path: str
    source: Source
    commit: Commit[T]
    hashed: Hashed
    times: _Times = field(default_factory=_Times)

    def file(self, receipts: Mapping[bytes, bytes]) -> FilePut:
        return FilePut(self.path, self.hashed.size, self.hashed.blocks, receipts)


async def digest_of(block: bytes | memoryview) -> bytes:
    """The sha256 of a block (without its trailing zeros, as Modal has it)."""
    if len(block) <= _INLINE:
        return _digest(block)
    return await trio.to_thread.run_sync(_digest, block)


def _digest(block: bytes | memoryview) -> bytes:
    return hashlib.sha256(stripped(block)).digest()


def stripped(block: bytes | memoryview) -> memoryview:
    """The block without its trailing zeros, not copied."""
    view = memoryview(block)
    end = len(view)
    while end:
        tail = bytes(view[max(0, end - _TAIL) : end]).rstrip(b"\0")
        if tail:
            return view[: max(0, end - _TAIL) + len(tail)]
        end = max(0, end - _TAIL)
    return view[:0]


class Uploader:
    """Puts files into volumes. `holding` bounds how many large blocks are in memory at once."""

    def __init__(self, transport: Transport, holding: int = 4) -> None:
        self._transport = transport
        self._buffers = Buffers(holding)
        self._crowd = Crowd(trio.CapacityLimiter(_CROWDS), _CROWDS)
        self._doubt = trio.Lock()
        """Held by who reads back what was put."""

    async def put(self, volume: Volume, path: str, source: Source, commit: Commit[T]) -> T:
        """Puts the whole content; it is there when this returns, and nothing is changed when it raises.

        Returns what `commit.settle` does. Raises Stale when the source moved on, AlreadyExists or
        MaybeOurs with `commit.create_only`.
        """
        hashed = await self._hash(source)
        job = _Job(volume, path, source, commit, hashed)
        if hashed.data and len(hashed.data) <= SMALL:
            return await self._put_small(job, bytes(stripped(hashed.data)))
        receipts: dict[bytes, bytes] = {}
        rounds = _Rounds(path)
        while True:
            async with commit.alone():
                missing = await self._offer(job, receipts)
                if not missing:
                    return await self._settle(job, None, is_sent=bool(receipts))
            rounds.note(len(missing))
            for digest in missing:
                receipts.pop(digest, None)
            await self._send_all(job, missing, receipts)

    async def _hash(self, source: Source) -> Hashed:
        """Reads and hashes the whole source. Raises Stale when it is shorter than its size."""
        if source.size <= SMALL:
            return await self._hash_small(source)
        digests: dict[int, bytes] = {}

        async def work(index: int) -> None:
            async with self._block(source, index) as block:
                digests[index] = await digest_of(block)

        count = -(-source.size // BLOCK)
        await each(range(count), work, at_once=_HASHES_AT_ONCE)
        return Hashed(source.size, tuple(digests[index] for index in range(count)))

    async def _hash_small(self, source: Source) -> Hashed:
        load: Callable[[], bytes] | None = getattr(source, "load", None)  # isinstance would take as long
        if load is not None:
            return await self._crowd.run(partial(_loaded, load, source.size))
        data = await _whole(source)
        return Hashed(source.size, (await digest_of(data),) if data else (), data)

    @asynccontextmanager
    async def _block(self, source: Source, index: int) -> AsyncIterator[memoryview]:
        """One whole block, for as long as it is used."""
        start = index * BLOCK
        async with self._buffers.lent(min(BLOCK, source.size - start)) as view:
            await fill(source, start, view)
            yield view

    async def _put_small(self, job: _Job[T], block: bytes) -> T:
        """As `put`, with as few calls to the other thread as can be: an offer, and the commit."""
        receipts: Mapping[bytes, bytes] = {}
        async with job.commit.alone():
            for _ in range(_ROUNDS):
                step = await self._step(job, receipts, block)
                if step.done:
                    return await self._settle(job, step.entry, is_sent=bool(receipts))
                receipts = step.receipts
        raise _keeps_asking(job.path)

    async def _step(self, job: _Job[T], receipts: Mapping[bytes, bytes], block: bytes) -> SmallPut:
        async def attempt(within: float) -> SmallPut:
            return await self._transport.put_small(
                job.volume.id, job.file(receipts), block, create_only=job.commit.create_only, within=within
            )

        return await self._persist(job, attempt) or SmallPut(done=True)

    async def _offer(self, job: _Job[T], receipts: Mapping[bytes, bytes]) -> Mapping[bytes, str]:
        """Blocks that are missing; none when the file is put."""

        async def attempt(within: float) -> Mapping[bytes, str]:
            return await self._transport.put_file(
                job.volume.id, job.file(receipts), create_only=job.commit.create_only, within=within
            )

        return await self._persist(job, attempt) or {}

    async def _persist(self, job: _Job[T], attempt: Callable[[float], Awaitable[S]]) -> S | None:
        """What came of an attempt that got through; each has a check of its own before it.

        None: the file is put, by an attempt whose answer was lost.
        """
        limits = self._transport.limits
        attempts = Attempts(limits, limits.call + len(job.hashed.blocks) * limits.per_block)
        while True:
            try:
                insist(job.source, job.path)
                await job.commit.check()
                job.times.began = trio.current_time()
                async with job.volume.speaking_of(job.path):
                    return await attempt(attempts.left)
            except TryAgain as failed:
                await attempts.pause(failed)
            except (MaybeOurs, Stale) as refused:
                doubtful = attempts.doubtful or isinstance(refused, MaybeOurs)
                if not doubtful or await _holding(job.volume, job.path, job.hashed) is None:
                    raise
                return None

    async def _settle(self, job: _Job[T], seen: NativeEntry | None, *, is_sent: bool) -> T:
        """Ends an upload that was answered. `is_sent`: with blocks, so that its time is a new one."""
        if isinstance(job.commit, Plainly):
            return await job.commit.settle(job.hashed, seen)
        answered = trio.current_time() - (seen.waited if seen is not None else 0.0)
        native = await self._own(job, await _shown(job, seen), answered, is_sent=is_sent)
        return await job.commit.settle(job.hashed, native)

    async def _own(self, job: _Job[T], native: NativeEntry, answered: float, *, is_sent: bool) -> NativeEntry:
        """What was put, as it is shown now. Raises Stale when somebody else has written there since.

        It is read only when its time is later than that of a put that was answered then can be. Where
        nothing is known of Modal's clock the first that is read tells the others.
        """
        clock = job.volume.clock
        if clock.can_be_of(native.mtime, answered):
            if is_sent:
                clock.learn(native.mtime, job.times.began)
            return native
        async with self._doubt:
            if not clock.can_be_of(native.mtime, answered):
                native = await _read_back(job)
            if is_sent:
                clock.learn(native.mtime, job.times.began)
        return native

    async def _send_all(
        self, job: _Job[T], missing: Mapping[bytes, str], receipts: dict[bytes, bytes]
    ) -> None:
        """Sends what is missing.

        URLs of one call grow old together: after the first that is refused no other one is tried.
        """
        where = {digest: index for index, digest in enumerate(job.hashed.blocks)}
        refused: list[bytes] = []

        async def send(digest: bytes) -> None:
            if refused:
                return
            async with self._block(job.source, where[digest]) as block:
                if await digest_of(block) != digest:
                    raise Stale("the source changed while it was uploaded")
                receipt = await self._send(missing[digest], stripped(block))
            if receipt is None:
                refused.append(digest)
            else:
                receipts[digest] = receipt

        await each(missing, send, at_once=_SENDS_AT_ONCE)

    async def _send(self, url: str, data: memoryview) -> bytes | None:
        """The receipt; None when the URL is not accepted, so that the next round brings another one."""
        try:
            return await self._transport.send_block(url, data)
        except UrlRefused:
            return None


class _Rounds:
    """Counts how often Modal asked for blocks, since it last asked for fewer than before."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._least: int | None = None
        self._idle = 0

    def note(self, missing: int) -> None:
        """Raises Unreachable when it keeps asking for as many."""
        if self._least is None or missing < self._least:
            self._least, self._idle = missing, 0
            return
        self._idle += 1
        if self._idle >= _ROUNDS:
            raise _keeps_asking(self._path)


def _loaded(load: Callable[[], bytes], size: int) -> Hashed:
    """Reads and hashes a small source; in a thread, in one step with others. Raises Stale."""
    data = load()
    if len(data) != size:
        raise Stale("the source is not of the size that it had")
    return Hashed(size, (_digest(data),) if data else (), data)


async def _whole(source: Source) -> bytes:
    """All of a small source, put together from as many reads as it wants."""
    data = await source.read(0, source.size)
    while len(data) < source.size:
        more = await source.read(len(data), source.size - len(data))
        if not more:
            raise Stale("the source ended early")
        data += more
    return data


def _keeps_asking(path: str) -> Unreachable:
    return Unreachable("Modal keeps asking for blocks that it was sent", path=path)


async def _shown(job: _Job[T], seen: NativeEntry | None) -> NativeEntry:
    """What Modal shows where a file was put, once that can be it. Raises Unreachable when it takes long."""
    for delay in _UNTIL_SHOWN:
        native = seen if seen is not None else await job.volume.look(job.path)
        if native is not None and (native.kind, native.size) == (NativeKind.FILE, job.hashed.size):
            return native
        seen = None
        await trio.sleep(delay)
    raise Unreachable("Modal took the file but does not show it yet", path=job.path, hint=LATER)


async def _read_back(job: _Job[T]) -> NativeEntry:
    """What is there, when that is what was put. Raises Stale when it is not."""
    held = await _holding(job.volume, job.path, job.hashed)
    if held is None:
        raise Stale("somebody else wrote it just after us", path=job.path)
    return held


async def _holding(volume: Volume, path: str, hashed: Hashed) -> NativeEntry | None:
    """What is at `path` if that is a file of this very content. Reads it: worth it where there is doubt."""
    native = await volume.look(path)
    if native is None or (native.kind, native.size) != (NativeKind.FILE, hashed.size):
        return None
    read: list[NativeEntry] = []
    try:
        same = await _digests(volume, path, read.append) == hashed.blocks
    except (NotFound, IsADirectory, Stale):
        return None
    return read[-1] if same else None


async def _digests(volume: Volume, path: str, accept: Callable[[NativeEntry], None]) -> tuple[bytes, ...]:
    found, held = [], b""
    async with volume.reading(path, accept) as reader:
        async for piece in reader:
            held += piece
            if len(held) >= BLOCK:
                found.append(await digest_of(held[:BLOCK]))
                held = held[BLOCK:]
    if held:
        found.append(await digest_of(held))
    return tuple(found)


def insist(source: Source, path: str) -> None:
    """Raises Stale when the source is not any more what was read."""
    if not source.still():
        raise Stale("the source changed while it was uploaded", path=path)
