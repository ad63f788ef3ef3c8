"""What all verbs of the volume share: the rows, the content, what is open, and the rules of a change."""

from __future__ import annotations

import stat
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from mountsync.content.store import Store
from mountsync.errors import (
    NameRefused,
    NameTooLong,
    NoSpace,
    NotADirectory,
    NotFound,
    PathError,
    PermissionDenied,
    ReadOnly,
)
from mountsync.paths import MAX_NAME_BYTES, OURS, RelPath, from_bytes, parts_of
from mountsync.state.base import Base
from mountsync.state.database import Database
from mountsync.state.journal import Journal
from mountsync.state.tree import ROOT_ID, Node, Place, Tree
from mountsync.storage.api import NameRules
from mountsync.vfs.absent import ChildrenAbsent
from mountsync.vfs.handles import OpenFile
from mountsync.vfs.notifier import KernelNotifier, NoKernel
from mountsync.vfs.traffic import Traffic

SMALL: Final = 64 << 10
"""Contents up to this many bytes live in the database."""
MAX_LINKS: Final = 65_000
MAX_SIZE: Final = (1 << 63) - 1
_OURS: Final = OURS.encode()
_NO_CONTENT: Final = 0


class Inspector(Protocol):
    """Answers for the attributes `user.mountsync.*`, which the engine knows."""

    def inspect(self, node: Node, fact: str) -> bytes | None:
        """The value of fact `state`, `sha256` or `token`; None when there is none."""
        ...

    async def digest(self, node: Node) -> bytes | None:
        """The sha256 of a file, computed where all of it is here and agreed; None where it is not."""
        ...


@dataclass(frozen=True, slots=True)
class Owner:
    """Who owns what comes from the remote, and which permission bits it lacks."""

    uid: int
    gid: int
    umask: int = 0o022


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a volume is told about its remote and its user.

    `local_only` tells by its name whether a file never travels (temporary files of programs): such a
    name is not asked of the remote's rules.
    """

    names: NameRules
    owner: Owner
    local_only: Callable[[bytes], bool]
    read_only: bool = False
    hidden: Callable[[RelPath], bool] | None = None
    """Which directories never travel, by the filter too; None: those with a part that is `local_only`."""

    def hides(self, path: RelPath) -> bool:
        """Whether a directory never travels."""
        if self.hidden is not None:
            return self.hidden(path)
        return any(self.local_only(part.encode("utf-8", "surrogateescape")) for part in parts_of(path))


def _nothing_to_give(_: int) -> bool:
    return False


class Core:
    """State and rules; the verbs are in the classes that build on it."""

    relieve: Callable[[int], bool] = staticmethod(_nothing_to_give)
    """Asked when the disk is full: gives up copies of what the remote has, for so many bytes, if it can."""

    def __init__(
        self,
        database: Database,
        tree: Tree,
        journal: Journal,
        base: Base,
        store: Store,
        *,
        rules: Rules,
        clock: Callable[[], int],
        kernel: KernelNotifier | None = None,
        inspector: Inspector | None = None,
    ) -> None:
        """`clock` gives nanoseconds since 1970. A new tree gets a root that was never listed."""
        self.database = database
        self.tree = tree
        self.journal = journal
        self.base = base
        self.store = store
        self.rules = rules
        self.owner = rules.owner
        self.clock = clock
        self.kernel: KernelNotifier = kernel or NoKernel()
        self.inspector = inspector
        self.traffic = Traffic()
        self._opened: dict[int, OpenFile] = {}
        self._unsynced: dict[int, int] = {row[0]: 0 for row in database.rows("SELECT node FROM unsynced")}
        self._used: dict[int, int] = {}
        self._inflows: Counter[int] = Counter()
        """How many write fetched bytes of a node at the moment."""
        self._stirred = False
        self._commit_wanted = trio.Event()
        self._barrier_wanted = trio.Event()
        self._make_root()

    def _make_root(self) -> None:
        if self.tree.find(ROOT_ID) is None:
            now = self.clock()
            mode = stat.S_IFDIR | (0o777 & ~self.owner.umask)
            with self.database.transaction:
                self.tree.insert(
                    Node(ROOT_ID, mode, self.owner.uid, self.owner.gid, 0, 2, 0, now, now, now, 0, 0, None, 0)
                )

    def with_room(self, size: int, work: Callable[[], None]) -> None:
        """Does something that takes `size` bytes of the disk; again, when it was full and room was made."""
        try:
            work()
        except NoSpace:
            if not self.relieve(size):
                raise
            work()

    def _refuse_read_only(self) -> None:
        if self.rules.read_only:
            raise ReadOnly("the folder is mounted read-only")

    def _directory(self, node_id: int) -> Node:
        node = self.tree.node(node_id)
        if not node.is_directory:
            raise NotADirectory(f"inode {node_id} is not a directory")
        return node

    def _vacant(self, parent_id: int, name: bytes) -> Node:
        """The directory, in which `name` may be made. The name can be taken: see `_taken`."""
        self._refuse_read_only()
        parent = self._directory(parent_id)
        if parent.nlink == 0:
            raise NotFound("the folder was removed")
        refusal = self._refusal(parent_id, name)
        if refusal is not None:
            raise refusal
        return parent

    def _insist_room(self, opened: OpenFile, size: int) -> None:
        """Raises NameTooLong when the remote cannot hold so many bytes under a name of the file.

        A program must hear of it from the write: afterwards the file could never be replicated.
        """
        node = opened.node
        for parent_id, name in self.tree.names(node.id) if self.rules.names.depend_on_size else ():
            self._refuse_size(parent_id, name, size)
        opened.room = self._room(node)

    def _refuse_size(self, parent_id: int, name: bytes, size: int) -> None:
        if self.rules.names.depend_on_size:
            refusal = self._refusal(parent_id, name, size)
            if refusal is not None:
                raise refusal

    def _room(self, node: Node) -> int:
        rules = self.rules.names
        if not rules.depend_on_size:
            return MAX_SIZE
        places = [place for place in self.tree.names(node.id) if not self.rules.local_only(place[1])]
        sizes = [rules.largest(self._asked(*place)) for place in places]
        return min((size for size in sizes if size is not None), default=MAX_SIZE)

    def _forget_room(self) -> None:
        """Names changed: what they bear is asked again."""
        for opened in self._opened.values():
            opened.room = 0

    def _refusal(self, parent_id: int, name: bytes, size: int = 0) -> PathError | None:
        if len(name) > MAX_NAME_BYTES:
            return NameTooLong(f"a name is longer than {MAX_NAME_BYTES} bytes")
        if parent_id == ROOT_ID and name == _OURS:
            return PermissionDenied("this name is kept for mountsync", path=OURS)
        if not name or name in (b".", b".."):
            return NameRefused("this is not a name")
        if self.rules.local_only(name):
            return None
        return self.rules.names.refusal(self._asked(parent_id, name), size=size)

    def _asked(self, parent_id: int, name: bytes) -> RelPath:
        """What the remote's rules are asked about: the whole path only where it matters."""
        alone = RelPath(name.decode("utf-8", "surrogateescape"))
        if not self.rules.names.depends_on_place(alone):
            return alone
        above = self.tree.path(parent_id)
        return from_bytes(b"/".join((above, name)) if above else name)

    def _child(self, parent: Node, name: bytes) -> Node | None:
        """The node behind a name, None when the name is free. Raises ChildrenAbsent."""
        found = self.tree.child(parent.id, name)
        if found is None and not parent.listed:
            raise ChildrenAbsent(parent.id)
        return found

    def _new_node(self, parent: Node, mode: int, uid: int, gid: int, rdev: int = 0) -> Node:
        now = self.clock()
        if parent.mode & stat.S_ISGID:
            gid = parent.gid
            if stat.S_ISDIR(mode):
                mode |= stat.S_ISGID
        place = Place.BLOB if stat.S_ISREG(mode) else _NO_CONTENT
        links, listed = (2, 1) if stat.S_ISDIR(mode) else (1, 0)
        return Node(self.tree.new_id(), mode, uid, gid, rdev, links, 0, now, now, now, 0, place, None, listed)

    def _touch_parent(self, parent: Node, now: int, links: int = 0) -> None:
        """Records that the entries of a directory changed; `links` is added to its link count."""
        parent.mtime_ns = parent.ctime_ns = now
        parent.nlink += links
        self.tree.save(parent)

    def _note(self, node: Node, now: int) -> None:
        """Tells the journal, unless the node is of a kind that never travels."""
        if node.is_file or node.is_directory or node.is_symlink:
            self.journal.note(node.id, now)

    def _lose_name(self, node: Node, now: int) -> bool:
        """One name of a node is gone; tells whether its content file has to go after the commit."""
        node.ctime_ns = now
        node.nlink = 0 if node.is_directory else node.nlink - 1
        if node.nlink:
            self.tree.save(node)
            self._note(node, now)
            return False
        if self.base.knows(node.id):
            self._note(node, now)
        else:
            self.database.execute("DELETE FROM journal WHERE node = ?", (node.id,))
        return self._bury(node)

    def _bury(self, node: Node) -> bool:
        """Deletes a node without names, unless somebody holds it; whether its content file has to go."""
        if node.holds:
            self.tree.save(node)
            return False
        in_file = node.place in (Place.FILE, Place.GAPS)
        self.tree.remove(node.id)
        self._forget_unsynced(node.id)
        self._used.pop(node.id, None)
        return in_file

    def _forget_unsynced(self, node_id: int) -> None:
        if self._unsynced.pop(node_id, None) is not None:
            self.database.execute("DELETE FROM unsynced WHERE node = ?", (node_id,))

    def _stir(self) -> None:
        """Tells the background tasks that there is something to commit and to make durable."""
        if not self._stirred:
            self._stirred = True
            self._commit_wanted.set()
            self._barrier_wanted.set()

    def hold(self, node: Node) -> None:
        """Keeps a node, and its content, until `let_go`, whatever happens to its names."""
        node.holds += 1

    def let_go(self, node: Node) -> None:
        """The other half of `hold`; the node goes when it was the last and no name leads to it."""
        node.holds -= 1
        if not node.holds and not node.nlink:
            self.remove_node_if_unused(node.id)

    def remove_node_if_unused(self, node_id: int) -> bool:
        """Deletes a node that has no name and that nobody holds; tells whether it did."""
        node = self.tree.find(node_id)
        if node is None or node.nlink or node.holds:
            return False
        with self.database.soft:
            in_file = self._bury(node)
        self._stir()
        if in_file:
            self.store.remove(node_id)
        return True

    def holders(self, node_id: int) -> int:
        """How many open handles and bodies keep a node."""
        node = self.tree.find(node_id)
        return 0 if node is None else node.holds
