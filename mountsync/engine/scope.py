"""The part of the tree that one cycle looks at: both sides and the base, as listings.

A place is (id of the directory, name); directories have the same id in the tree and in the base, so a
place means the same on both even while a directory is renamed on one side only. Listings are by path:
side A by where things are in the mount now, side B and the base by where the remote has them; the
known renames of the mount connect the two.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

from mountsync.engine.moment import Moment
from mountsync.engine.storage_replica import Excluded
from mountsync.model.base import Agreed
from mountsync.model.entry import Entry, Kind, Token
from mountsync.paths import RelPath, ancestors, from_bytes, join, to_bytes
from mountsync.state.base import Base, BaseRow
from mountsync.state.journal import Journal
from mountsync.state.tree import ROOT_ID, Node, NodeId, Tree

Place: TypeAlias = tuple[NodeId, bytes]


@dataclass(frozen=True, slots=True)
class Known:
    """A node as the plan saw it."""

    node: NodeId
    generation: int
    mtime_ns: int
    mode: int


@dataclass(slots=True)
class Scope:
    """What one cycle knows. `versions` are the journal rows that it may settle."""

    a: dict[RelPath, Entry] = field(default_factory=dict)
    b: dict[RelPath, Entry] = field(default_factory=dict)
    base: dict[RelPath, Agreed] = field(default_factory=dict)
    moves_a: list[tuple[RelPath, RelPath]] = field(default_factory=list)
    moves_b: list[tuple[RelPath, RelPath]] = field(default_factory=list)
    places: dict[RelPath, Place] = field(default_factory=dict)
    """By path; where a path of the mount and one of the remote are the same text, the mount's counts."""
    local_paths: dict[Place, RelPath] = field(default_factory=dict)
    remote_paths: dict[Place, RelPath] = field(default_factory=dict)
    known: dict[RelPath, Known] = field(default_factory=dict)
    rows: dict[Place, BaseRow] = field(default_factory=dict)
    versions: dict[NodeId, int] = field(default_factory=dict)
    members: dict[Place, set[NodeId]] = field(default_factory=dict)
    """Which nodes' settlement depends on a place."""
    folders: set[NodeId] = field(default_factory=set)
    """Directories that must not be renamed or removed by another cycle meanwhile."""
    shifted: set[NodeId] = field(default_factory=set)
    """Directories that this cycle renames or removes on the remote."""
    unrested: frozenset[NodeId] = frozenset()
    """Files that somebody is writing: they take part in what is decided, but do not travel yet."""
    vanished: frozenset[NodeId] = frozenset()
    """Nodes of which the remote no longer has, anywhere that we know of, what was agreed."""
    observed: frozenset[RelPath] = frozenset()
    """Paths of the remote that were looked at for this cycle; the others are taken from the base."""


def local_token(node: int, generation: int) -> Token:
    """The token of a node's content: it changes with each change of content."""
    return Token(f"{node}.{generation}")


def node_of_token(token: Token | None) -> tuple[NodeId, int] | None:
    """The node and generation that a token of the mounted side names."""
    if token is None:
        return None
    node, _, generation = token.partition(".")
    return NodeId(int(node)), int(generation)


_KINDS = {stat.S_IFREG: Kind.FILE, stat.S_IFDIR: Kind.DIRECTORY, stat.S_IFLNK: Kind.SYMLINK}


def local_entry(node: Node) -> Entry | None:
    """A node as the other side may see it; None for what never travels (devices, FIFOs, sockets)."""
    kind = _KINDS.get(stat.S_IFMT(node.mode))
    if kind is None:
        return None
    return Entry(
        kind=kind,
        size=node.size if kind is Kind.FILE else 0,
        mtime_ns=node.mtime_ns if kind is Kind.FILE else None,
        mode=None if kind is Kind.SYMLINK else stat.S_IMODE(node.mode),
        token=local_token(node.id, node.generation),
        target=None if node.target is None else from_bytes(node.target),
    )


def agreed_entry(row: BaseRow) -> Agreed:
    """A row of the base as the merge wants it."""
    remote = row.remote
    is_file = remote.kind is Kind.FILE
    mode = row.local_mode if row.local_mode is not None else remote.mode
    entry = replace(
        remote,
        token=None,
        mtime_ns=row.local_mtime_ns if is_file else None,
        mode=None if remote.kind is Kind.SYMLINK else mode,
    )
    return Agreed(
        entry,
        a=local_token(row.node, row.generation),
        b=remote.token,
        a_mtime_ns=row.local_mtime_ns if is_file else None,
        b_mtime_ns=remote.mtime_ns if is_file else None,
        a_mode=row.local_mode,
        b_mode=remote.mode,
    )


class ScopeBuilder:
    """Collects the places that belong together, then makes the listings."""

    def __init__(
        self,
        tree: Tree,
        base: Base,
        journal: Journal,
        hidden: Excluded,
    ) -> None:
        """`hidden` paths never travel."""
        self._tree = tree
        self._base = base
        self._now = Moment(tree, base)
        self._journal = journal
        self._hidden = hidden
        self._places: dict[Place, None] = {}
        self._context: dict[Place, None] = {}
        self._nodes: set[NodeId] = set()
        self._folders: dict[NodeId, None] = {}
        self._shifted: set[NodeId] = set()
        self._observed: dict[Place, Entry | None] = {}
        self._remote_moves: tuple[tuple[RelPath, RelPath], ...] = ()
        self._whole = False
        """A removed directory comes with all below it; else its entries go first, in their own cycles."""
        self._kept: set[Place] = set()
        """Removed directories whose turn has not come: to this cycle they are still there."""

    def add_below(self, node: NodeId) -> None:
        """Looks at all that was agreed below a directory: it is renamed file by file, or was removed."""
        for row in self._base.children(node):
            self._add_place((row.parent, row.name))
            if row.remote.kind is Kind.DIRECTORY:
                self.add_below(row.node)

    def add_nodes(self, nodes: Iterable[NodeId]) -> None:
        """Looks at these nodes, wherever they are or were."""
        for node in nodes:
            self._add_node(node)

    def observe(
        self, found: Mapping[RelPath, Entry | None], moves: Iterable[tuple[RelPath, RelPath]] = ()
    ) -> None:
        """Takes in what the remote holds at these paths; those in unknown directories are left out.

        `moves` are renames of the remote: (path in the base, path now). Both are among `found`.
        """
        self._whole = True
        self._remote_moves = tuple(moves)
        moved = {source for source, _ in self._remote_moves}
        for path, entry in found.items():
            place = self._remote_place(path)
            if place is None:
                continue
            if path in moved:
                self._observed[place] = None
                self._add_place(place)
                self._shifted.update(row.node for row in (self._now.row(place),) if row is not None)
            else:
                self._observe(place, entry)

    def _observe(self, place: Place, entry: Entry | None) -> None:
        self._observed[place] = entry
        self._add_place(place)
        row = self._now.row(place)
        if row is None or row.remote.kind is not Kind.DIRECTORY:
            return
        if entry is None or entry.kind is not Kind.DIRECTORY:
            for below in self._base.children(row.node):
                self._observe((below.parent, below.name), None)
            for name, _ in self._tree.child_names(row.node):
                self._add_place((row.node, name))  # what is new here keeps the directory

    def _remote_place(self, path: RelPath) -> Place | None:
        raw = path.encode("utf-8", "surrogateescape")
        folder, _, name = raw.rpartition(b"/")
        if not folder:
            return ROOT_ID, name
        row = self._base.resolve(folder)
        return None if row is None else (row.node, name)

    def _add_node(self, node: NodeId) -> None:
        if node in self._nodes:
            return
        self._nodes.add(node)
        agreed = self._now.agreed_places(node)
        named = self._now.named(node)
        for place in (*agreed, *named):
            self._add_place(place)
        if agreed and not named:
            self._shifted.add(node)
            if self._whole or any(map(self._has_other_kind, agreed)):
                self.add_below(node)
        elif set(agreed) != set(named):
            self._shifted.add(node)
            if all(self._is_hidden(place) for place in named):
                self.add_below(node)  # a directory in the trash: nothing below it has changed by itself

    def _has_other_kind(self, place: Place) -> bool:
        """Whether the mount has something where no directory of the remote can be, not even for a while."""
        folder = self._now.remote_folder(place[0])
        path = None if folder is None else to_bytes(join(folder, from_bytes(place[1])))
        found = (self._now.here(place), None if path is None else self._tree.resolve(path))
        nodes = (self._tree.find(node) for node in found if node is not None)
        return any(node is not None and not node.is_directory for node in nodes)

    def _is_hidden(self, place: Place) -> bool:
        folder = self._now.local_folder(place[0])
        return folder is not None and self._is_hidden_here(join(folder, from_bytes(place[1])), place)

    def _is_hidden_here(self, path: RelPath, place: Place) -> bool:
        here = self._now.here(place)
        node = None if here is None else self._tree.find(here)
        return self._hidden(path, is_directory=node is not None and node.is_directory)

    def _is_hidden_there(self, path: RelPath, place: Place) -> bool:
        entry = self._remote_entry(place)
        return self._hidden(path, is_directory=entry is not None and entry.kind is Kind.DIRECTORY)

    def _remote_entry(self, place: Place) -> Entry | None:
        """What the remote has at a place, as far as it is known."""
        if place in self._observed:
            return self._observed[place]
        row = self._now.row(place)
        return None if row is None else row.remote

    def _add_place(self, place: Place) -> None:
        if place in self._places:
            return
        self._places[place] = None
        self._add_folder(place[0])
        row = self._now.row(place)
        here = self._now.here(place)
        for node in {row.node if row else None, here}:
            if node is not None and (self._journal.has(node) or (row is not None and row.node != here)):
                self._add_node(node)
        self._add_namesake(place)

    def _add_namesake(self, place: Place) -> None:
        """What the remote has at the path of a place in a directory that took the name of another one."""
        folder = self._now.namesake(place[0])
        if folder is not None and folder != place[0] and self._now.row((folder, place[1])) is not None:
            self._add_place((folder, place[1]))

    def _add_folder(self, folder: NodeId) -> None:
        while folder != ROOT_ID and folder not in self._folders:
            self._folders[folder] = None
            agreed = self._now.agreed_places(folder)
            named = self._now.named(folder)
            if agreed and not named and not self._whole:
                self._kept.update(agreed)
            elif agreed != named or self._journal.has(folder):
                self._add_node(folder)
            above = named or agreed
            if not above:
                return
            self._context[above[0]] = None
            folder = above[0][0]

    def nodes_here(self) -> list[NodeId]:
        """What the mount has at the places of the scope."""
        found = (self._now.here(place) for place in self._places)
        return [node for node in found if node is not None]

    @property
    def places(self) -> frozenset[Place]:
        """All places of the scope, for keeping cycles apart."""
        return frozenset(self._places)

    @property
    def folders(self) -> frozenset[NodeId]:
        """Every directory above a place."""
        return frozenset(self._folders)

    @property
    def shifted(self) -> frozenset[NodeId]:
        """Nodes whose place differs between the tree and the base."""
        return frozenset(self._shifted)

    @property
    def nodes(self) -> frozenset[NodeId]:
        """Nodes that changed or moved: one cycle at a time works on each."""
        return frozenset(self._nodes)

    def build(self) -> Scope:
        """The listings as they are now."""
        scope = Scope(folders=set(self._folders), shifted=set(self._shifted))
        observed = set()
        for place in self._context:
            if place not in self._places:
                self._add_listing(scope, place)
        for place in self._places:
            path = self._add_listing(scope, place)
            if place in self._observed and path is not None:
                observed.add(path)
        scope.observed = frozenset(observed)
        scope.vanished = frozenset(node for node in self._nodes if self._is_vanished(node))
        scope.moves_a = _without_idle(list(self._moves(scope)))
        scope.moves_b = [move for move in self._remote_moves if move[0] in scope.base and move[1] in scope.b]
        for node in self._nodes:
            row = self._journal.find(node)
            if row is not None:
                scope.versions[node] = row.version
        return scope

    def _is_vanished(self, node: NodeId) -> bool:
        for row in self._now.agreed(node):
            place = (row.parent, row.name)
            seen = self._observed.get(place) if place in self._observed else row.remote
            if seen is not None and seen.token == row.remote.token:
                return False
        return True

    def _add_listing(self, scope: Scope, place: Place) -> RelPath | None:
        folder, name = place
        text = from_bytes(name)
        local_folder = self._now.local_folder(folder)
        remote_folder = self._now.remote_folder(folder)
        local = None if local_folder is None else join(local_folder, text)
        remote = local if remote_folder is None else join(remote_folder, text)
        if local is not None and not self._is_hidden_here(local, place):
            scope.places[local] = place
            scope.local_paths[place] = local
            self._add_local(scope, local, place)
        if remote is not None and not self._is_hidden_there(remote, place):
            scope.places.setdefault(remote, place)
            scope.remote_paths[place] = remote
            self._add_remote(scope, remote, place)
            if place in self._kept and place not in self._places:
                self._keep(scope, place)
        return remote

    def _keep(self, scope: Scope, place: Place) -> None:
        row, path = self._now.row(place), self._path_if_kept(place)
        if row is not None and path is not None:
            agreed = agreed_entry(row)
            scope.a[path] = replace(agreed.entry, token=agreed.a)
            scope.known.pop(path, None)  # what has its name here by now is not what was agreed there

    def _path_if_kept(self, place: Place) -> RelPath | None:
        """Where a removed entry would be in the mount now: a directory above it may have been renamed."""
        folder = self._now.local_folder(place[0])
        above = self._now.agreed_places(place[0])
        if folder is None and above:
            folder = self._path_if_kept(above[0])
        return None if folder is None else join(folder, from_bytes(place[1]))

    def _add_local(self, scope: Scope, path: RelPath, place: Place) -> None:
        here = self._now.here(place)
        if here is None:
            return
        node = self._tree.node(here)
        scope.members.setdefault(place, set()).add(node.id)
        entry = local_entry(node)
        if entry is None:
            return
        row = next(iter(self._now.agreed(node.id)), None)
        if row is not None and row.generation == node.generation:
            entry = entry.with_digest(row.remote.digest)
        scope.a[path] = entry
        scope.known[path] = Known(node.id, node.generation, node.mtime_ns, stat.S_IMODE(node.mode))

    def _add_remote(self, scope: Scope, path: RelPath, place: Place) -> None:
        row = self._now.row(place)
        seen = self._remote_entry(place)
        if row is not None:
            scope.rows[place] = row
            scope.members.setdefault(place, set()).add(row.node)
            scope.base[path] = agreed_entry(row)
            if seen is not None and seen.token == row.remote.token and seen.kind is row.remote.kind:
                seen = seen.with_digest(seen.digest or row.remote.digest)
        if seen is not None:
            scope.b[path] = seen

    def _moves(self, scope: Scope) -> Iterable[tuple[RelPath, RelPath]]:
        for node in sorted(self._nodes):
            agreed = self._now.agreed_places(node)
            named = self._now.named(node)
            left = [p for p in agreed if p not in named and p in scope.remote_paths]
            new = [p for p in named if p not in agreed and p in scope.local_paths]
            for source, target in zip(left, new, strict=False):
                yield scope.remote_paths[source], scope.local_paths[target]


def _without_idle(moves: list[tuple[RelPath, RelPath]]) -> list[tuple[RelPath, RelPath]]:
    """The moves without those that lead nowhere, because only a directory above has another id now."""
    real = {path for source, target in moves if source != target for path in (source, target)}
    return [
        (source, target)
        for source, target in moves
        if source != target or not real.isdisjoint(ancestors(source))
    ]
