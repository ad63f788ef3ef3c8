"""Looks at the remote and finds what differs from the base.

A look is never acted upon where we changed something ourselves since it began, nor where it could not
see: what is unreadable is not deleted. What seems to be gone is asked for once more by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import trio

from mountsync.engine.ledger import Ledger, Observation
from mountsync.engine.problems import as_error
from mountsync.engine.scope import Place
from mountsync.engine.storage_replica import StorageReplica
from mountsync.engine.traces import Traces
from mountsync.errors import MountsyncError, NotADirectory, NotFound, Stale
from mountsync.model.entry import DIRECTORY, Entry, Kind, Problem
from mountsync.paths import ROOT, RelPath, from_bytes, is_within, join, name_of, parent_of, parts_of, to_bytes
from mountsync.state.base import Base, BaseRow
from mountsync.state.database import Database
from mountsync.state.tree import ROOT_ID, NodeId, Tree
from mountsync.storage.api import Listed
from mountsync.vfs.adopt import Adopter

Seen: TypeAlias = dict[RelPath, Entry | None]

_SLICE: Final = 48
"""Entries that are compared between two checkpoints: under a millisecond."""
_PLANTED: Final = 16
"""Entries that are planted between two checkpoints: about a millisecond."""
_FOLDED: Final = 8
"""So many of those slices are folded into the database at once."""
_MANY: Final = 24
"""From so many paths in one directory on, listing it is cheaper than asking for each."""
_ROWS: Final = 500
_ASKERS: Final = 8


@dataclass(slots=True)
class Look:
    """What a scan found."""

    changed: Seen = field(default_factory=dict)
    below_new: dict[RelPath, Entry] = field(default_factory=dict)
    """What is in directories that are new themselves: it is shown with them, but tells of renames."""
    problems: dict[RelPath, Problem] = field(default_factory=dict)
    void: set[RelPath] = field(default_factory=set)
    """Where something differed but a cycle was at work: to be looked at again."""
    entries: int = 0


@dataclass(slots=True)
class _Folder:
    node: NodeId
    listed: bool


class Observer:
    """Compares the remote with the base."""

    def __init__(
        self,
        database: Database,
        tree: Tree,
        base: Base,
        remote: StorageReplica,
        adopter: Adopter,
        ledger: Ledger,
        traces: Traces,
    ) -> None:
        self._db = database
        self._tree = tree
        self._base = base
        self._remote = remote
        self._adopter = adopter
        self._ledger = ledger
        self._traces = traces
        self._urgent = 0
        self._calm = trio.Event()

    def looking(self) -> AbstractContextManager[Observation]:
        """A look, to be taken by `scan` or `look_at` and true, as far as `still` says, until it ends."""
        return self._ledger.looking()

    def still(self, paths: Iterable[RelPath], observation: Observation) -> bool:
        """Whether what was seen at these paths may still be true: no cycle of ours was there since."""
        return all(self._still(path, observation) for path in paths)

    def _still(self, path: RelPath, observation: Observation) -> bool:
        """Neither the path nor a directory above it, which may have been renamed, was touched."""
        folder: NodeId | None = ROOT_ID
        for name in map(to_bytes, parts_of(path)):
            if folder is None or not observation.holds_for((folder, name)):
                return False
            row = self._base.find(folder, name)
            folder = row.node if row is not None and row.remote.kind is Kind.DIRECTORY else None
        return True

    async def scan(self, observation: Observation) -> Look:
        """Lists everything. Raises Unreachable when the listing could not be finished.

        Directories whose content was never shown are filled on the way, without a plan.
        """
        self._traces.take_up()
        await self._traces.settle()
        look = Look()
        walk = _Walk(self, look)
        async with self._remote.storage.list(ROOT, recursive=True) as batches:
            async for batch in batches:
                await walk.take(self._remote.shown(batch))
        walk.finish()
        missing = await self._missing(walk.seen, look)
        await self._confirm(missing, observation, look)
        self._leave_out_void(look, observation)
        return look

    def _leave_out_void(self, look: Look, observation: Observation) -> None:
        """What a cycle of ours worked on during the look has to be looked at again, all of it together."""
        for path in list(look.changed):
            if not self._still(path, observation):
                del look.changed[path]
                look.void.add(path)

    async def look_at(self, paths: Iterable[RelPath], observation: Observation) -> Look:
        """Asks for single paths, or lists their directory when they are many."""
        await self._traces.settle()
        look = Look()
        for folder, members in _by_folder(paths).items():
            if len(members) >= _MANY:
                await self._look_into(folder, observation, look)
            else:
                await self._confirm(members, observation, look)
        if any(entry is None for entry in look.changed.values()):
            await self._look_below_new(look)
        self._leave_out_void(look, observation)
        return look

    def adopt_implied(self, look: Look) -> None:
        """Shows the new directories of a remote that has them only where files are in them.

        No plan is about such a directory itself: it is there because of what is in it, which is seen next.
        """
        if self._remote.info.empty_directories:
            return
        for path in sorted(path for path, entry in look.changed.items() if entry == DIRECTORY):
            folder = self.folder_id(parent_of(path))
            place = None if folder is None else (folder, to_bytes(name_of(path)))
            if place is not None and not self._ledger.is_claimed(place) and self._adopt_directory(*place):
                del look.changed[path]

    def _adopt_directory(self, parent: NodeId, name: bytes) -> bool:
        row, node = self._base.find(parent, name), self._tree.child(parent, name)
        if row is not None and not (node is not None and self._adopter.has_changes(node)):
            return False  # it replaces what was agreed: that is decided as usual
        if node is not None and node.is_directory:
            self._adopter.agree_directory(parent, name, node)
            return True
        if node is not None:
            self._adopter.give_way(parent, name, node.id)
        if row is None:
            self._adopter.plant(parent, name, DIRECTORY, instead_of=None)
        return row is None

    async def _look_below_new(self, look: Look) -> None:
        """Where something vanished, a new directory may be that under another name: what is in it tells."""
        for path, entry in list(look.changed.items()):
            if entry is None or entry.kind is not Kind.DIRECTORY or self.folder_id(path) is not None:
                continue
            try:
                async with self._remote.storage.list(path, recursive=True) as batches:
                    async for batch in batches:
                        found = self._remote.shown(batch)
                        look.below_new.update((at, e) for at, e in found if isinstance(e, Entry))
            except (NotFound, NotADirectory):
                continue  # gone again

    async def sure(self) -> None:
        """Returns when the base says where the remote has what we sent. Raises Unreachable."""
        await self._traces.settle()

    async def children(self, node: NodeId) -> None:
        """Fills a directory that was never listed.

        Raises Unreachable, NotFound when it is gone, and what the remote refuses to list it for: then it
        stays one that was never listed, because nobody may take it for empty.
        """
        await self._traces.settle()
        path = self.remote_path(node)
        if path is None:
            self._adopter.mark_listed([node])  # made here: the remote holds nothing in it
            return
        with self._urgently():
            await self._fill(node, path)

    async def _fill(self, node: NodeId, path: RelPath) -> None:
        found: list[Listed] = []
        try:
            async with self._remote.storage.list(path, recursive=False) as batches:
                async for batch in batches:
                    found += _members(path, self._remote.shown(batch))
        except NotFound:
            if self._remote.info.empty_directories:
                raise
            # it went there with the last file in it
        await self._plant(node, found)
        self._adopter.mark_listed([node])

    @contextmanager
    def _urgently(self) -> Iterator[None]:
        """Somebody waits: meanwhile scans stand still."""
        self._urgent += 1
        try:
            yield
        finally:
            self._urgent -= 1
            if not self._urgent:
                self._calm.set()
                self._calm = trio.Event()

    async def give_way(self) -> None:
        """A pause of a scan, for other tasks and as long as somebody waits for a directory."""
        await trio.lowlevel.checkpoint()
        while self._urgent:
            await self._calm.wait()

    async def _plant(self, node: NodeId, found: Sequence[Listed]) -> None:
        for first in range(0, len(found), _PLANTED):
            await self._plant_some(node, found[first : first + _PLANTED])
            await trio.lowlevel.checkpoint()
            if first // _PLANTED % _FOLDED == 0:
                self._db.fold()  # a little at a time: all at once it would take long
            if self._db.checkpoint_due:
                await self._db.checkpoint()

    async def _plant_some(self, node: NodeId, found: Sequence[Listed]) -> None:
        entries = []
        for path, entry in found:
            whole = None if isinstance(entry, Problem) else await self._complete(path, entry)
            if whole is not None:
                entries.append((to_bytes(name_of(path)), whole))
        directory = self._tree.find(node)
        if directory is not None and not directory.listed:  # else it may have been changed here since
            self._adopter.plant_many(node, entries)

    async def _complete(self, path: RelPath, entry: Entry) -> Entry | None:
        """The entry with its link's target; None when it is another object by now: a later look sees it."""
        try:
            return await self._remote.complete(path, entry)
        except (NotFound, Stale):
            return None

    def remote_path(self, node: NodeId) -> RelPath | None:
        """Where the remote has a directory; None when it does not have it."""
        if node == ROOT_ID:
            return ROOT
        rows = self._base.of_node(node)
        raw = self._base.path(rows[0].parent, rows[0].name) if rows else None
        return None if raw is None else from_bytes(raw)

    async def _look_into(self, folder: RelPath, observation: Observation, look: Look) -> None:
        """Lists one directory and compares it whole."""
        node = self.folder_id(folder)
        if node is None:
            return
        seen = set()
        try:
            async with self._remote.storage.list(folder, recursive=False) as batches:
                async for batch in batches:
                    for path, entry in self._remote.shown(batch):
                        seen.add(path)
                        await self._compare(path, entry, (node, to_bytes(name_of(path))), look)
        except (NotFound, NotADirectory):
            await self._confirm([folder] if folder else [], observation, look)
            return
        rows = self._base.children(node)
        gone = [p for row in rows if (p := join(folder, from_bytes(row.name))) not in seen]
        await self._confirm(gone, observation, look)

    async def _compare(self, path: RelPath, entry: Entry | Problem, place: Place, look: Look) -> None:
        if isinstance(entry, Problem):
            look.problems[path] = entry
            return
        if not self._differs(self._base.find(*place), entry):
            return
        whole = await self._complete(path, entry)
        if whole is not None:
            look.changed[path] = whole

    def folder_id(self, path: RelPath) -> NodeId | None:
        """The id of a directory of the remote, None when the base does not know it."""
        if not path:
            return ROOT_ID
        row = self._base.resolve(to_bytes(path))
        return row.node if row is not None and row.remote.kind is Kind.DIRECTORY else None

    def is_unknown(self, path: RelPath) -> bool:
        """Whether nothing is at a path here, and nothing was agreed there."""
        raw = to_bytes(path)
        return self._tree.resolve(raw) is None and self._base.resolve(raw) is None

    async def _missing(self, seen: set[int], look: Look) -> list[RelPath]:
        """Paths of the base that a whole scan did not see, without those below another one."""
        gone: list[Place] = []
        last: Place = (NodeId(0), b"")
        while rows := self._db.rows(
            "SELECT parent, name, node FROM base WHERE (parent, name) > (?, ?) ORDER BY parent, name LIMIT ?",
            (*last, _ROWS),
        ):
            last = rows[-1][0], rows[-1][1]
            gone += [(row[0], row[1]) for row in rows if hash((row[0], row[1])) not in seen]
            await trio.lowlevel.checkpoint()
        paths = []
        for count, place in enumerate(gone):
            path = self._gone_path(place, look)
            if path is not None:
                paths.append(path)
            if count % _SLICE == 0:
                await trio.lowlevel.checkpoint()
        known = set(paths)
        return [path for path in paths if not _has_ancestor_in(path, known)]

    def _gone_path(self, place: Place, look: Look) -> RelPath | None:
        row = self._base.find(*place)
        if self._only_implied(row):
            return None
        is_directory = row is not None and row.remote.kind is Kind.DIRECTORY
        raw = self._base.path(*place)
        path = None if raw is None else from_bytes(raw)
        if path is None or self._remote.hides(path, is_directory=is_directory):
            return None
        if any(is_within(path, bad) for bad in look.problems):
            return None
        return path

    async def _confirm(self, paths: Sequence[RelPath], observation: Observation, look: Look) -> None:
        """Asks for each path by name; takes those that differ from the base."""
        failures: list[MountsyncError] = []
        waiting = iter(paths)

        async def ask() -> None:
            for path in waiting:
                if failures:
                    return
                try:
                    await self._ask(path, observation, look)
                except MountsyncError as error:
                    failures.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(min(max(_ASKERS, self._remote.info.small_at_once), len(paths))):
                nursery.start_soon(ask)
        if failures:
            raise failures[0]

    async def _ask(self, path: RelPath, observation: Observation, look: Look) -> None:
        folder = self.folder_id(parent_of(path))
        if folder is None:
            return
        place = (folder, to_bytes(name_of(path)))
        if not observation.holds_for(place):
            look.void.add(path)  # not even worth asking
            return
        entry = await self._remote.stat(path)
        row = self._base.find(*place)
        if self._differs(row, entry) and not (entry is None and self._only_implied(row)):
            look.changed[path] = entry

    def _differs(self, row: BaseRow | None, entry: Entry | None) -> bool:
        """Whether the remote holds something else than what was agreed, or tells another time of it."""
        if differs(row, entry):
            return True
        info = self._remote.info
        return info.times_outside_tokens and _has_other_time(row, entry, info.mtime_precision_ns or 0)

    def _only_implied(self, row: BaseRow | None) -> bool:
        """Whether it is a directory of a remote that has them only where files are in them."""
        is_directory = row is not None and row.remote.kind is Kind.DIRECTORY
        return is_directory and not self._remote.info.empty_directories


class _Walk:
    """The state of one scan."""

    def __init__(self, observer: Observer, look: Look) -> None:
        self._observer = observer
        self._look = look
        self._folders: dict[RelPath, _Folder | None] = {}
        self._unlisted: set[NodeId] = set()
        self.seen: set[int] = set()
        """Hashes of the places that were seen: 60 bytes each where a place itself is 200."""

    async def take(self, batch: Sequence[Listed]) -> None:
        """Compares a batch, a slice at a time."""
        for first in range(0, len(batch), _SLICE):
            await self._take_slice(batch[first : first + _SLICE])
            await self._observer.give_way()

    async def _take_slice(self, items: Sequence[Listed]) -> None:
        fresh: dict[NodeId, list[Listed]] = {}
        for path, entry in items:
            self._look.entries += 1
            if isinstance(entry, Problem):
                self._look.problems[path] = entry
                continue
            above = parent_of(path)
            if fresh and above not in self._folders:
                await self._fill_all(fresh)  # the directory may be among them
            folder = self._folder(above)
            if folder is None:
                self._look.below_new[path] = entry
                continue
            place = (folder.node, to_bytes(name_of(path)))
            self.seen.add(hash(place))
            if folder.listed:
                await self._compare(path, entry, place)
            else:
                fresh.setdefault(folder.node, []).append((path, entry))
        await self._fill_all(fresh)

    async def _fill_all(self, fresh: dict[NodeId, list[Listed]]) -> None:
        while fresh:
            await self._fill(*fresh.popitem())

    async def _fill(self, node: NodeId, found: Sequence[Listed]) -> None:
        # Known rows of a directory that is not fully listed are compared like all others.
        find = self._observer._base.find
        names = [to_bytes(name_of(path)) for path, _ in found]
        known = {name for name in names if find(node, name) is not None}
        new = [item for item, name in zip(found, names, strict=True) if name not in known]
        await self._observer._plant(node, new)
        for (path, entry), name in zip(found, names, strict=True):
            if name in known and isinstance(entry, Entry):
                await self._compare(path, entry, (node, name))

    async def _compare(self, path: RelPath, entry: Entry, place: Place) -> None:
        await self._observer._compare(path, entry, place, self._look)

    def _folder(self, path: RelPath) -> _Folder | None:
        if path in self._folders:
            return self._folders[path]
        node = self._observer.folder_id(path)
        found = None if node is None else self._known_folder(path, node)
        if found is None:
            self._imply(path)
        self._folders[path] = found
        return found

    def _known_folder(self, path: RelPath, node: NodeId) -> _Folder:
        if path:
            above = self._folder(parent_of(path))
            if above is not None:
                self.seen.add(hash((above.node, to_bytes(name_of(path)))))
        directory = self._observer._tree.find(node)
        listed = directory is None or bool(directory.listed)
        if not listed:
            self._unlisted.add(node)
        return _Folder(node, listed)

    def _imply(self, path: RelPath) -> None:
        """A directory that was seen only by what is in it is new: the topmost such is reported."""
        above = self._folder(parent_of(path))
        if above is not None and path not in self._look.changed:
            self._look.changed[path] = DIRECTORY

    def finish(self) -> None:
        """The whole listing was seen: directories that were filled on the way are complete."""
        problems = self._look.problems
        complete = [
            folder.node
            for path, folder in self._folders.items()
            if folder is not None
            and folder.node in self._unlisted
            and not any(is_within(path, bad) or parent_of(bad) == path for bad in problems)
        ]
        self._observer._adopter.mark_listed(complete)


def _members(folder: RelPath, batch: Sequence[Listed]) -> list[Listed]:
    """What stands in the directory itself. Raises the problem that its own listing has with it."""
    for path, entry in batch:
        if path == folder and isinstance(entry, Problem):
            raise as_error(folder, entry)
    return [item for item in batch if parent_of(item[0]) == folder]


def differs(row: BaseRow | None, entry: Entry | None) -> bool:
    """Whether the remote holds something else than what was agreed.

    Times of equal tokens do not count: many listings tell others than those that were set.
    """
    if row is None or entry is None:
        return (row is None) is not (entry is None)
    then = row.remote
    if then.kind is not entry.kind:
        return True
    agreed = row.local_mode if then.mode is None else then.mode
    if agreed is not None and entry.mode is not None and agreed != entry.mode:
        return then.kind is not Kind.SYMLINK
    if then.kind is Kind.DIRECTORY:
        return False
    return then.token != entry.token


def _has_other_time(row: BaseRow | None, entry: Entry | None, step_ns: int) -> bool:
    if row is None or entry is None or entry.kind is not Kind.FILE:
        return False
    then, now = row.remote.mtime_ns, entry.mtime_ns
    return then is not None and now is not None and abs(now - then) > step_ns


def _by_folder(paths: Iterable[RelPath]) -> dict[RelPath, list[RelPath]]:
    found: dict[RelPath, list[RelPath]] = {}
    for path in paths:
        if path:
            found.setdefault(parent_of(path), []).append(path)
    return found


def _has_ancestor_in(path: RelPath, known: set[RelPath]) -> bool:
    above = parent_of(path)
    while above:
        if above in known:
            return True
        above = parent_of(above)
    return False
