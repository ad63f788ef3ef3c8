"""A local folder whose objects get another token when they are moved, as on a remote that copies them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from mountsync.model.entry import Entry, Token
from mountsync.paths import RelPath
from mountsync.storage.api import ABSENT, Expect, Listed
from mountsync.storage.local import LocalStorage


class RenewingStorage(LocalStorage):
    """Tokens name the path too."""

    async def stat(self, path: RelPath) -> Entry | None:
        return _named(path, await super().stat(path))

    @asynccontextmanager
    async def list(self, path: RelPath, *, recursive: bool) -> AsyncIterator[AsyncIterator[Sequence[Listed]]]:
        async with super().list(path, recursive=recursive) as batches:
            yield ([(at, _named(at, item)) for at, item in batch] async for batch in batches)  # type: ignore[misc]

    def read(self, path: RelPath, *args: Any, expect: Expect = None, **named: Any) -> Any:
        return super().read(path, *args, expect=_inner(path, expect), **named)

    def pour(self, path: RelPath, *args: Any, expect: Expect = None, **named: Any) -> Any:
        return super().pour(path, *args, expect=_inner(path, expect), **named)

    async def write(self, path: RelPath, *args: Any, expect: Expect = None, **named: Any) -> Entry:
        return _sure(path, await super().write(path, *args, expect=_inner(path, expect), **named))

    async def delete(self, path: RelPath, *, expect: Expect = None) -> None:
        await super().delete(path, expect=_inner(path, expect))

    async def set_mtime(self, path: RelPath, mtime_ns: int, *, expect: Expect = None) -> Entry:
        return _sure(path, await super().set_mtime(path, mtime_ns, expect=_inner(path, expect)))

    async def move(
        self, source: RelPath, target: RelPath, *, expect: Expect = None, replace: Expect = ABSENT
    ) -> Entry:
        before, there = _inner(source, expect), _inner(target, replace)
        return _sure(target, await super().move(source, target, expect=before, replace=there))

    async def copy(
        self, source: RelPath, target: RelPath, *, expect: Expect = None, replace: Expect = ABSENT
    ) -> Entry:
        before, there = _inner(source, expect), _inner(target, replace)
        return _sure(target, await super().copy(source, target, expect=before, replace=there))


def _named(path: RelPath, item: Any) -> Any:
    return _sure(path, item) if isinstance(item, Entry) else item


def _sure(path: RelPath, entry: Entry) -> Entry:
    return entry if entry.token is None else replace(entry, token=Token(f"{entry.token}@{path}"))


def _inner(path: RelPath, expect: Expect) -> Expect:
    if expect is None or expect is ABSENT:
        return expect
    token, _, where = str(expect).rpartition("@")
    return Token(token) if where == path else Token("of another object")
