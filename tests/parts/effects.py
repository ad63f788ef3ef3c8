"""Counts every effect of a mount on the world, and stops the world at any one of them.

Three seams: content files (`Disk`), `Database.commit`, and the storage. `Effects.arm(n)` lets effect n from
now raise `Stopped` before it is done; from then on every further effect raises it too, as for a dead process.
"""

from __future__ import annotations

from typing import Any

from mountsync.content.store import Store
from mountsync.state.database import Database

_ON_DISK = ("create", "write", "resize", "sync", "remove", "clone")
EFFECTS_ON_STORAGE = (
    *("write", "delete", "move", "copy", "set_mtime", "set_mode"),
    *("make_directory", "remove_directory", "make_symlink"),
)


class Stopped(BaseException):
    """The process died here. Not an Exception, so that no handler of the product survives it."""


class Effects:
    """One counter for all seams of one life of a mount."""

    def __init__(self) -> None:
        self.count = 0
        self.at: int | None = None
        self.names: list[str] = []

    def arm(self, nth: int) -> None:
        self.count, self.at = 0, nth
        self.names.clear()

    def disarm(self) -> None:
        self.at = None

    @property
    def stopped(self) -> bool:
        return self.at is not None and self.count >= self.at

    def strike(self, name: str) -> None:
        """One effect is about to happen."""
        if self.stopped:
            raise Stopped(name)
        self.count += 1
        self.names.append(name)
        if self.stopped:
            raise Stopped(name)

    def on_store(self, store: Store) -> None:
        for name in _ON_DISK:
            self._wrap(store.disk, name, f"disk.{name}")

    def on_database(self, database: Database) -> None:
        self._wrap(database, "commit", "commit")

    def _wrap(self, target: Any, name: str, label: str) -> None:
        act = getattr(target, name)

        def struck(*args: Any, **named: Any) -> Any:
            self.strike(label)
            return act(*args, **named)

        setattr(target, name, struck)

    def on_storage(self, storage: Any) -> Any:
        """The storage itself, its changing calls counted."""
        for name in EFFECTS_ON_STORAGE:
            if hasattr(storage, name):
                self._wrap_async(storage, name)
        return storage

    def _wrap_async(self, target: Any, name: str) -> None:
        act = getattr(target, name)

        async def struck(*args: Any, **named: Any) -> Any:
            self.strike(f"storage.{name}")
            return await act(*args, **named)

        setattr(target, name, struck)
