"""A storage that wraps a real one and fails, waits or crashes where a test wants it.

`failing(storage)` gives an object with exactly the capabilities of `storage`; its `faults` says what
happens. Example:

    storage = failing(MemoryStorage())
    storage.faults.fail_effect(2, NoSpace("full"))           # the second effect from now on
    storage.faults.crash_at(3, after=True)                   # do effect 3, then die: raises Crashed
    storage.faults.offline = True                            # every call raises Unreachable
    gate = storage.faults.hold("write")                      # writes wait; gate.reached, gate.release()
    storage.faults.effects, storage.faults.calls["read"], storage.faults.log
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import trio

from mountsync.errors import Unreachable
from mountsync.paths import ROOT, RelPath
from mountsync.storage import api
from mountsync.storage.api import ABSENT, Expect, Source, Storage

T = TypeVar("T")


class Crashed(BaseException):
    """The process died here. Not an Exception, so that no handler of the product survives it."""


class Gate:
    """Calls that meet a gate wait until it is released."""

    def __init__(self) -> None:
        self.reached = trio.Event()
        self._open = trio.Event()

    def release(self) -> None:
        self._open.set()

    async def pass_through(self) -> None:
        self.reached.set()
        await self._open.wait()


@dataclass
class Planned:
    """One failure to come: at effect number `at` of the whole life of the storage."""

    at: int
    error: BaseException
    after: bool


@dataclass
class Faults:
    """What goes wrong, and what was called."""

    offline: bool = False
    crashed: bool = False
    effects: int = 0
    """Effects begun so far (refused ones included, those while offline not)."""
    calls: Counter[str] = field(default_factory=Counter)
    log: list[tuple[str, RelPath]] = field(default_factory=list)
    """Effects in order."""
    _meanwhile: dict[int, list[Callable[[], Awaitable[object]]]] = field(default_factory=dict)
    _planned: list[Planned] = field(default_factory=list)
    _next: dict[str, list[BaseException]] = field(default_factory=dict)
    _paths: dict[RelPath, BaseException] = field(default_factory=dict)
    _gates: dict[str, Gate] = field(default_factory=dict)

    def fail_effect(self, nth: int, error: BaseException, *, after: bool = False) -> None:
        """The nth effect from now (1 is the next) raises `error` before, or after, it was done."""
        self._planned.append(Planned(self.effects + nth, error, after))

    def crash_at(self, nth: int, *, after: bool = False) -> None:
        """The world stops at the nth effect from now: it and every later call raise Crashed."""
        self.fail_effect(nth, Crashed(f"at effect {nth}"), after=after)

    def meanwhile(self, nth: int, act: Callable[[], Awaitable[object]]) -> None:
        """Somebody else does `act` just before the nth effect from now."""
        self._meanwhile.setdefault(self.effects + nth, []).append(act)

    def fail_next(self, call: str, error: BaseException, times: int = 1) -> None:
        """The next `times` calls of this name (`list`, `stat`, `read`, `write`, …) raise `error`."""
        self._next.setdefault(call, []).extend([error] * times)

    def fail_path(self, path: RelPath, error: BaseException | None) -> None:
        """Every call on this path raises `error`, until it is set to None."""
        self._paths.pop(path, None)
        if error is not None:
            self._paths[path] = error

    def hold(self, call: str) -> Gate:
        """Calls of this name wait from now on, before they do anything, until the gate is released."""
        gate = self._gates[call] = Gate()
        return gate

    async def enter(self, call: str, path: RelPath) -> None:
        """Counts a call; waits or raises when a test wants it."""
        self.calls[call] += 1
        if call in self._gates:
            await self._gates[call].pass_through()
        if self.crashed:
            raise Crashed("the process is dead")
        if self.offline:
            raise Unreachable("the test took the storage offline")
        if self._next.get(call):
            raise self._next[call].pop(0)
        if path in self._paths:
            raise self._paths[path]

    async def effect(self, call: str, path: RelPath, act: Callable[[], Awaitable[T]]) -> T:
        """One effect, with what is planned for it."""
        await self.enter(call, path)
        self.effects += 1
        self.log.append((call, path))
        for other in self._meanwhile.pop(self.effects, ()):
            await other()
        due = [plan for plan in self._planned if plan.at == self.effects]
        self._strike([plan for plan in due if not plan.after])
        result = await act()
        self._strike([plan for plan in due if plan.after])
        return result

    def _strike(self, plans: list[Planned]) -> None:
        for plan in plans:
            self._planned.remove(plan)
            self.crashed = self.crashed or isinstance(plan.error, Crashed)
            raise plan.error


class _Core:
    """The seven members. `_below` is the wrapped storage."""

    def __init__(self, below: Any) -> None:
        self._below = below
        self.faults = Faults()

    @property
    def info(self):
        return self._below.info

    @asynccontextmanager
    async def list(self, path: RelPath, *, recursive: bool):
        await self.faults.enter("list", path)
        async with self._below.list(path, recursive=recursive) as batches:
            yield _Guarded(batches, self.faults)

    async def stat(self, path: RelPath):
        await self.faults.enter("stat", path)
        return await self._below.stat(path)

    @asynccontextmanager
    async def read(self, path: RelPath, offset: int = 0, length: int | None = None, *, expect: Expect = None):
        await self.faults.enter("read", path)
        async with self._below.read(path, offset, length, expect=expect) as pieces:
            yield _Guarded(pieces, self.faults)

    async def write(
        self, path: RelPath, source: Source, *, mtime_ns: int | None = None, expect: Expect = None
    ):
        act = lambda: self._below.write(path, source, mtime_ns=mtime_ns, expect=expect)  # noqa: E731
        return await self.faults.effect("write", path, act)

    async def delete(self, path: RelPath, *, expect: Expect = None):
        return await self.faults.effect("delete", path, lambda: self._below.delete(path, expect=expect))

    async def aclose(self) -> None:
        await self._below.aclose()


class _Guarded:
    """An iterator that breaks off when the storage goes offline or the process dies."""

    def __init__(self, inner: Any, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults

    def __aiter__(self):
        return self

    async def __anext__(self):
        if self._faults.crashed:
            raise Crashed("the process is dead")
        if self._faults.offline:
            raise Unreachable("the test took the storage offline")
        return await self._inner.__anext__()


class _Pour:
    @asynccontextmanager
    async def pour(self, path, into, offset=0, length=None, *, expect=None):
        await self.faults.enter("pour", path)
        async with self._below.pour(path, into, offset, length, expect=expect) as counts:
            yield _Guarded(counts, self.faults)


class _Move:
    async def move(self, source, target, *, expect=None, replace=ABSENT):
        act = lambda: self._below.move(source, target, expect=expect, replace=replace)  # noqa: E731
        return await self.faults.effect("move", source, act)


class _Copy:
    async def copy(self, source, target, *, expect=None, replace=ABSENT):
        act = lambda: self._below.copy(source, target, expect=expect, replace=replace)  # noqa: E731
        return await self.faults.effect("copy", target, act)


class _Digest:
    async def digest(self, path, *, expect=None):
        await self.faults.enter("digest", path)
        return await self._below.digest(path, expect=expect)


class _Hashes:
    async def hashes(self, path, *, expect=None):
        await self.faults.enter("hashes", path)
        return await self._below.hashes(path, expect=expect)


class _SetMtime:
    async def set_mtime(self, path, mtime_ns, *, expect=None):
        act = lambda: self._below.set_mtime(path, mtime_ns, expect=expect)  # noqa: E731
        return await self.faults.effect("set_mtime", path, act)


class _Directories:
    async def make_directory(self, path):
        return await self.faults.effect("make_directory", path, lambda: self._below.make_directory(path))

    async def remove_directory(self, path):
        return await self.faults.effect("remove_directory", path, lambda: self._below.remove_directory(path))


class _Symlinks:
    async def make_symlink(self, path, target, *, expect=None):
        act = lambda: self._below.make_symlink(path, target, expect=expect)  # noqa: E731
        return await self.faults.effect("make_symlink", path, act)


class _Attributes:
    async def set_mode(self, path, mode):
        return await self.faults.effect("set_mode", path, lambda: self._below.set_mode(path, mode))


class _Watch:
    @asynccontextmanager
    async def watch(self):
        await self.faults.enter("watch", ROOT)
        async with self._below.watch() as hints:
            yield hints


class _Usage:
    async def usage(self):
        await self.faults.enter("usage", ROOT)
        return await self._below.usage()


class _Barrier:
    async def barrier(self):
        await self.faults.enter("barrier", ROOT)
        await self._below.barrier()


class _Attempts:
    async def recover_attempts(self):
        await self.faults.enter("recover_attempts", ROOT)
        await self._below.recover_attempts()


_CAPABILITIES: dict[type, type] = {
    api.SupportsPour: _Pour,
    api.SupportsMove: _Move,
    api.SupportsCopy: _Copy,
    api.SupportsDigest: _Digest,
    api.SupportsHashes: _Hashes,
    api.SupportsSetMtime: _SetMtime,
    api.SupportsDirectories: _Directories,
    api.SupportsSymlinks: _Symlinks,
    api.SupportsAttributes: _Attributes,
    api.SupportsWatch: _Watch,
    api.SupportsUsage: _Usage,
    api.SupportsBarrier: _Barrier,
    api.SupportsAttempts: _Attempts,
}


def failing(below: Storage, *, without: tuple[type, ...] = ()) -> Any:
    """`below` with `faults`; it has the capabilities of `below` except those in `without`."""
    kinds = [
        part
        for capability, part in _CAPABILITIES.items()
        if isinstance(below, capability) and capability not in without
    ]
    return type("FailingStorage", (_Core, *kinds), {})(below)
