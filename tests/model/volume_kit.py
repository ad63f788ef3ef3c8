"""A volume over a temporary folder, with a clock that the test owns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mountsync.content.store import Store
from mountsync.state.base import Base
from mountsync.state.database import Database
from mountsync.state.journal import Journal
from mountsync.state.tree import ROOT_ID, Tree
from mountsync.storage.api import NameRules
from mountsync.vfs.core import Owner, Rules
from mountsync.vfs.recovery import Recovered, mark_clean, recover
from mountsync.vfs.volume import Volume

BOOT = "boot-1"


class Kit:
    """State, volume and clock. `reopen` starts again from what is on the disk."""

    def __init__(self, folder: Path, *, names: NameRules | None = None) -> None:
        self.folder = folder
        self.now = 1_000_000_000_000_000_000
        self.names = names or NameRules()
        self.recovered = Recovered()
        self._open(BOOT)
        root = self.volume.tree.node(ROOT_ID)
        root.listed = 1
        with self.database.transaction:
            self.volume.tree.save(root)

    def clock(self) -> int:
        self.now += 1000
        return self.now

    def _open(self, boot: str) -> None:
        self.database = Database(str(self.folder / "state.db"))
        tree, journal = Tree(self.database), Journal(self.database)
        self.store = Store(str(self.folder / "content"))
        self.recovered = recover(self.database, tree, journal, self.store, now_ns=self.clock(), boot=boot)
        self.volume = Volume(
            self.database,
            tree,
            journal,
            Base(self.database),
            self.store,
            rules=Rules(
                names=self.names, owner=Owner(0, 0), local_only=lambda name: name.endswith(b".local")
            ),
            clock=self.clock,
        )

    def close(self) -> None:
        self.volume.close()
        mark_clean(self.database)
        self.database.close()

    def crash(self, boot: str = BOOT) -> None:
        """The process dies: nothing that was not committed is kept; then the state is opened again."""
        self.database.abandon()
        for opened in self.volume._opened.values():
            if opened.fd >= 0:
                self.store.disk.close(opened.fd)
                opened.fd = -1
        self._open(boot)


Make = Callable[..., Kit]
