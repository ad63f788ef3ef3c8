"""Many small questions in few calls. On the asyncio loop only.

While a call is under way, further requests gather; the next call takes them together. Nobody waits
longer than for the calls that were there before.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from mountsync.errors import AlreadyExists, MountsyncError, NotADirectory, NotFound, Unreachable
from mountsync.storage.modal.refusals import MaybeOurs, TooManyFiles, TryAgain, UnclearAbsence
from mountsync.storage.modal.transport import FilePut, NativeEntry, NativeKind

_LOOKS_PER_DIRECTORY: Final = 2
"""So many looks into one directory are under way at once; further ones gather."""
_DIRECTORIES: Final = 1000
"""More than so many are forgotten when they rest."""
_WORTH_LISTING: Final = 4
"""So many gathered looks are answered by one listing of the directory ..."""
_LISTING_FACTOR: Final = 120
"""... unless it is known to hold more than so many entries per look."""
_LOOKS_SHARE: Final = 3
"""A call for looks waits for one in so many: a listing costs as much as the folder is large ..."""
_PUTS_AT_ONCE: Final = 2
_PUTS_SHARE: Final = 5
"""... and one for puts for one in so many: then some are asked about while others are sent and put."""
_FILES_PER_PUT: Final = 256

_MANY: Final = 0.3
"""Seconds that an answer took from which on they are told."""


class _Look(NamedTuple):
    """A question that waits for its answer."""

    path: str
    answer: asyncio.Future[NativeEntry | None]
    asked: float
    """When, on the loop's clock."""

    def give(self, entry: NativeEntry | None) -> None:
        """Answers it, if that is still wanted."""
        if self.answer.done():
            return
        waited = asyncio.get_running_loop().time() - self.asked
        if entry is not None and waited > _MANY:
            entry = replace(entry, waited=waited)
        self.answer.set_result(entry)


_FEW: Final = 4
"""With so many calls under way or fewer, nobody waits for others ..."""
_LINGER_PER_CALL: Final = 0.0005
_LINGER_MOST: Final = 0.06
"""... with more, so long for each of them, and so long at most (seconds) ..."""
_LINGER_STEP: Final = 0.01
"""... looking so often whether so many calls are still under way ..."""
_LINGER_PER_ENTRY: Final = 0.00003
_LINGER_FOR_LISTING: Final = 0.2
"""... or longer where a listing answers, for each entry that it brings; so long at most."""


def _pass_on(task: asyncio.Task[None], waiting: Iterable[asyncio.Future[Any]]) -> None:
    """Whatever ended a call, cancellation and defects too, reaches all who wait for it."""
    error = None if task.cancelled() else task.exception()
    for future in waiting:
        if future.done():
            continue
        if error is None:
            future.cancel()
        else:
            future.set_exception(error)


class Gathering:
    """Decides when a line of requests is taken: at once when little happens, else after a short pause.

    The pause ends early when so many have come, of those that are under way, that it is worth a call.
    """

    def __init__(
        self, busy: Callable[[], int], count: Callable[[], int], take: Callable[[], None], share: int
    ) -> None:
        """`busy`: how many calls are under way that may bring requests to this line.

        `count`: how many requests wait; one in `share` of those under way is enough for `take`.
        """
        self._busy = busy
        self._count = count
        self._take = take
        self._share = share
        self._timer: asyncio.TimerHandle | None = None
        self._until = 0.0
        """When the pause ends at the latest, on the loop's clock."""
        self._due = False
        """Those in line have waited long enough, but for a call to end."""
        self.most = _LINGER_MOST
        """The longest pause."""

    def look(self) -> None:
        """A request was put in line, or a call has ended."""
        count, busy = self._count(), self._busy()
        if not count:
            return
        if self._due or busy <= _FEW or count * self._share >= busy:
            self._go()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._until = loop.time() + min(_LINGER_PER_CALL * busy, self.most)
            self._wait(loop)

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_at(min(self._until, loop.time() + _LINGER_STEP), self._look_again, loop)

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        """The pause is over, or fewer calls may be under way than it was meant for."""
        if loop.time() >= self._until or self._count() * self._share >= self._busy():
            self._go()
        else:
            self._wait(loop)

    def _go(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._take()
        self._due = self._count() > 0


LookOnce: TypeAlias = Callable[[str, str], Awaitable[Sequence[NativeEntry]]]


LookIn: TypeAlias = Callable[[str, str, Collection[str]], Awaitable[tuple[Sequence[NativeEntry], int]]]
"""What is at some paths of a folder of a volume, and how many entries the folder has."""


class PutFiles(Protocol):
    async def __call__(
        self, volume: str, files: Sequence[FilePut], *, create_only: bool, within: float
    ) -> list[dict[bytes, str]]: ...


@dataclass(slots=True)
class _Directory:
    """Looks into one directory."""

    gathering: Gathering
    waiting: list[_Look] = field(default_factory=list)
    running: set[asyncio.Task[None]] = field(default_factory=set)
    size: int = 0
    """Entries that the last listing had."""


class Looks:
    """Stats. Those of one directory that come at the same time share a listing."""

    def __init__(self, look_once: LookOnce, look_in: LookIn, busy: Callable[[], int]) -> None:
        self._look_once = look_once
        self._look_in = look_in
        self._busy = busy
        self._directories: dict[tuple[str, str], _Directory] = {}

    def ask(self, volume: str, path: str) -> asyncio.Future[NativeEntry | None]:
        """The entry as of some moment after this call; None when absent."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[NativeEntry | None] = loop.create_future()
        key = (volume, path.rpartition("/")[0])
        directory = self._directories.get(key) or self._new(key)
        directory.waiting.append(_Look(path, future, loop.time()))
        directory.gathering.look()
        return future

    def _new(self, key: tuple[str, str]) -> _Directory:
        directory = _Directory(
            Gathering(
                self._busy,
                lambda: len(directory.waiting),
                lambda: self._work(key, directory),
                _LOOKS_SHARE,
            )
        )
        self._directories[key] = directory
        return directory

    def _work(self, key: tuple[str, str], directory: _Directory) -> None:
        while directory.waiting and len(directory.running) < _LOOKS_PER_DIRECTORY:
            count = len(directory.waiting)
            if count >= _WORTH_LISTING and directory.size <= count * _LISTING_FACTOR:
                taken, directory.waiting = directory.waiting, []
            else:
                taken, directory.waiting = directory.waiting[:1], directory.waiting[1:]
            self._start(key, directory, taken)

    def _forget_some(self, key: tuple[str, str], directory: _Directory) -> None:
        if not (directory.running or directory.waiting) and len(self._directories) > _DIRECTORIES:
            self._directories.pop(key, None)

    def _start(self, key: tuple[str, str], directory: _Directory, taken: list[_Look]) -> None:
        work = self._by_look(key[0], taken[0]) if len(taken) == 1 else self._by_listing(key, directory, taken)
        task = asyncio.ensure_future(work)
        directory.running.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            directory.running.discard(task)
            _pass_on(task, [look.answer for look in taken])
            directory.gathering.look()
            self._forget_some(key, directory)

        task.add_done_callback(ended)

    async def _by_listing(self, key: tuple[str, str], directory: _Directory, looks: list[_Look]) -> None:
        try:
            wanted = {look.path for look in looks}
            entries, size = await self._look_in(*key, wanted)
        except MountsyncError:
            await asyncio.gather(*(self._by_look(key[0], look) for look in looks))
            return
        directory.size = size
        directory.gathering.most = _LINGER_MOST + min(size * _LINGER_PER_ENTRY, _LINGER_FOR_LISTING)
        found = {entry.path: entry for entry in entries}
        for look in looks:
            look.give(found.get(look.path))

    async def _by_look(self, volume: str, look: _Look) -> None:
        try:
            result = await self._look(volume, look.path)
        except MountsyncError as error:
            if not look.answer.done():
                look.answer.set_exception(error)
        else:
            look.give(result)

    async def _look(self, volume: str, path: str) -> NativeEntry | None:
        """A file lists itself; whatever lists something else, or nothing, is a directory."""
        try:
            entries = await self._look_once(volume, path)
        except UnclearAbsence:
            raise
        except (NotFound, NotADirectory):
            return None
        except TooManyFiles:
            entries = ()
        if entries and entries[0].path == path:
            return entries[0]
        return NativeEntry(path, NativeKind.DIRECTORY, 0, 0)


@dataclass(slots=True)
class _Put:
    file: FilePut
    answer: asyncio.Future[dict[bytes, str]]
    end: float
    """When its caller gives up, on the loop's clock."""
    doubtful: bool = False
    """An earlier call may have put it already."""


class _Kind(NamedTuple):
    """What one call can hold: files with receipts are put, those without are asked about."""

    volume: str
    create_only: bool
    complete: bool


@dataclass(slots=True)
class _Line:
    """Files that wait for one kind of call."""

    gathering: Gathering
    waiting: list[_Put] = field(default_factory=list)
    running: set[asyncio.Task[None]] = field(default_factory=set)


class Puts:
    """Puts of small files, several in one call. Whatever goes wrong for several is done one by one.

    What may overwrite is not done again from here: its caller looks first. See `TryAgain`.
    """

    def __init__(self, put_files: PutFiles, busy: Callable[[], int]) -> None:
        self._put_files = put_files
        self._busy = busy
        self._lines: dict[_Kind, _Line] = {}
        self._apart: set[tuple[str, str]] = set()
        """Volumes and paths of files whose next call is theirs alone."""

    async def put(self, volume: str, file: FilePut, *, create_only: bool, within: float) -> dict[bytes, str]:
        """The file's missing blocks; none when it is put.

        Without `create_only` it raises TryAgain when another attempt may succeed, or `within` seconds are
        over.
        """
        loop = asyncio.get_running_loop()
        put = _Put(file, loop.create_future(), loop.time() + within)
        key = _Kind(volume, create_only, complete=bool(file.receipts))
        if len(file.blocks) != 1 or (volume, file.path) in self._apart:
            self._apart.discard((volume, file.path))
            await self._alone(key, put)
        else:
            line = self._lines.get(key) or self._new(key)
            line.waiting.append(put)
            line.gathering.look()
        return await put.answer

    def _new(self, key: _Kind) -> _Line:
        line = _Line(
            Gathering(self._busy, lambda: len(line.waiting), lambda: self._work(key, line), _PUTS_SHARE)
        )
        self._lines[key] = line
        return line

    def _work(self, key: _Kind, line: _Line) -> None:
        while line.waiting and len(line.running) < _PUTS_AT_ONCE:
            taken = _distinct(line.waiting)
            task = asyncio.ensure_future(self._together(key, taken))
            line.running.add(task)

            def ended(task: asyncio.Task[None], taken: list[_Put] = taken) -> None:
                line.running.discard(task)
                _pass_on(task, [put.answer for put in taken])
                line.gathering.look()

            task.add_done_callback(ended)

    async def _together(self, key: _Kind, puts: list[_Put]) -> None:
        puts = [put for put in puts if not put.answer.done()]
        if len(puts) < 2:
            for put in puts:
                await self._alone(key, put)
            return
        try:
            missing = await self._call(key, puts)
        except Unreachable as error:
            for put in puts:
                _fail(put, error)
        except MountsyncError as error:
            await self._one_by_one(key, puts, doubtful=isinstance(error, MaybeOurs))
        else:
            await self._share(key, puts, missing)

    async def _call(self, key: _Kind, puts: list[_Put]) -> list[dict[bytes, str]]:
        """One call for all; it may take as long as the most patient of them waits."""
        within = max(put.end for put in puts) - asyncio.get_running_loop().time()
        files = [put.file for put in puts]
        return await self._put_files(key.volume, files, create_only=key.create_only, within=max(within, 0.1))

    async def _share(self, key: _Kind, puts: list[_Put], missing: list[dict[bytes, str]]) -> None:
        """A file without missing blocks is put for certain only when no file of the call had any."""
        uncertain = []
        for put, blocks in zip(puts, missing, strict=True):
            if blocks or not any(missing):
                _answer(put, blocks)
            else:
                uncertain.append(put)
        await self._one_by_one(key, uncertain, doubtful=True)

    async def _one_by_one(self, key: _Kind, puts: list[_Put], *, doubtful: bool) -> None:
        if not key.create_only:
            self._send_back(key, puts)
            return
        for put in puts:
            put.doubtful = put.doubtful or doubtful
            await self._alone(key, put)

    def _send_back(self, key: _Kind, puts: list[_Put]) -> None:
        """Has each come again, after another look of its caller."""
        for put in puts:
            self._apart.add((key.volume, put.file.path))
            reason = Unreachable("Modal did not put all files of a call", path=put.file.path)
            _fail(put, TryAgain(reason, doubtful=True, retry_after=0.0))

    async def _alone(self, key: _Kind, put: _Put) -> None:
        try:
            missing = await self._call(key, [put])
        except AlreadyExists as error:
            _fail(put, MaybeOurs(error.reason, path=put.file.path) if put.doubtful else error)
        except MountsyncError as error:
            _fail(put, error)
        else:
            _answer(put, missing[0])


def _distinct(waiting: list[_Put]) -> list[_Put]:
    """Takes from the front what one call may hold: no path twice."""
    taken: dict[str, _Put] = {}
    while waiting and len(taken) < _FILES_PER_PUT and waiting[0].file.path not in taken:
        put = waiting.pop(0)
        taken[put.file.path] = put
    return list(taken.values())


def _fail(put: _Put, error: MountsyncError) -> None:
    if not put.answer.done():
        put.answer.set_exception(error)


def _answer(put: _Put, missing: dict[bytes, str]) -> None:
    if not put.answer.done():
        put.answer.set_result(missing)
