# ruff: noqa: ARG002 - every method refuses, whatever it is asked
"""Stands in for a remote that could not even be opened: every call says that it is out of reach."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from typing import NoReturn

import msgspec

from mountsync.errors import Unreachable
from mountsync.model.entry import Entry
from mountsync.paths import RelPath
from mountsync.storage.api import Expect, Listed, Source, StorageInfo


class AwayStorage:
    """A storage without objects and capabilities, with the facts that were known at the last mount."""

    def __init__(self, info: StorageInfo, reason: str) -> None:
        self._info = info
        self._reason = reason

    @property
    def info(self) -> StorageInfo:
        return self._info

    def _refuse(self) -> NoReturn:
        raise Unreachable(self._reason)

    def list(
        self, path: RelPath, *, recursive: bool
    ) -> AbstractAsyncContextManager[AsyncIterator[Sequence[Listed]]]:
        self._refuse()

    async def stat(self, path: RelPath) -> Entry | None:
        self._refuse()

    def read(
        self, path: RelPath, offset: int = 0, length: int | None = None, *, expect: Expect = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        self._refuse()

    async def write(
        self, path: RelPath, source: Source, *, mtime_ns: int | None = None, expect: Expect = None
    ) -> Entry:
        self._refuse()

    async def delete(self, path: RelPath, *, expect: Expect = None) -> None:
        self._refuse()

    async def aclose(self) -> None:
        """Nothing is open."""


class _Facts(msgspec.Struct):
    """The facts about a storage that matter while it is away."""

    type: str
    identity: str
    mtime_precision_ns: int | None
    case_sensitive: bool
    unicode_normalizing: bool
    empty_directories: bool
    moves_directories: bool


def remember(info: StorageInfo) -> str:
    """The facts as text, for the state."""
    facts = _Facts(**{name: getattr(info, name) for name in _Facts.__struct_fields__})
    return msgspec.json.encode(facts).decode()


def recall(text: str) -> StorageInfo:
    """The facts from that text."""
    facts = msgspec.json.decode(text, type=_Facts)
    return StorageInfo(**msgspec.structs.asdict(facts))
