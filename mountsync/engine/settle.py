"""Writes down what a cycle of a mount really did: base and journal in one transaction."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from typing import Final

from mountsync.engine.apply import is_surprise
from mountsync.engine.problems import as_error
from mountsync.engine.scope import Known, Place, Scope
from mountsync.errors import MountsyncError
from mountsync.model.base import Agreed
from mountsync.model.entry import DIRECTORY, Digest, Entry, Kind
from mountsync.model.plan import (
    Action,
    Delete,
    MakeDirectory,
    MakeSymlink,
    Move,
    Plan,
    Put,
    SetAttributes,
    Side,
    path_of,
)
from mountsync.paths import RelPath, ancestors, is_within, name_of, parent_of, relocate, to_bytes
from mountsync.state.attempts import Attempt, Attempts, Verb
from mountsync.state.base import Base, BaseRow
from mountsync.state.database import Database
from mountsync.state.journal import Journal
from mountsync.state.tree import ROOT_ID, NodeId, Tree

_FIRST_WAIT_S: Final = 2.0
_LONGEST_WAIT_S: Final = 600.0
_HOPELESS_WAIT_S: Final = 3600.0
"""For what will not pass by itself; it is tried again all the same, because remotes change."""
_LOOK_WAIT_S: Final = 2.0
"""For what is looked at again by other means: a look at the remote comes first."""
_NO_PLACE: Final[Place] = (NodeId(0), b"")


def wait_before_retry(attempts: int, *, transient: bool) -> float:
    """Seconds until a failed path is tried again: exponential, with jitter."""
    if not transient:
        return _HOPELESS_WAIT_S
    longest = min(_FIRST_WAIT_S * 2.0 ** min(attempts, 20), _LONGEST_WAIT_S)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 - spreads retries, guards nothing


@dataclass(frozen=True, slots=True)
class Failure:
    """An action that could not be done."""

    side: Side
    path: RelPath
    error: MountsyncError

    @property
    def is_surprise(self) -> bool:
        """Whether that side was not what the plan expected: it has to be looked at again, no more."""
        return is_surprise(self.error)


class MountRecorder:
    """Collects the outcomes of one cycle; `commit` makes them the new base."""

    def __init__(
        self,
        database: Database,
        tree: Tree,
        base: Base,
        journal: Journal,
        attempts: Attempts,
        scope: Scope,
        clock: Callable[[], int],
    ) -> None:
        self._db = database
        self._tree = tree
        self._base = base
        self._journal = journal
        self._scope = scope
        self._clock = clock
        self._attempts = attempts
        self._batch: int | None = None
        self._begun: dict[tuple[type[Action], RelPath], int] = {}
        """The numbers of the steps on the remote that were written down."""
        self._known: set[int] = set()
        """Those of them that were done."""
        self._implied: list[Attempt] = []
        """Directories that come into being with what is put into them."""
        self._filled: set[RelPath] = set()
        """Directories above what was done."""
        self._writes: list[Callable[[], None]] = []
        self.failures: list[Failure] = []
        self.done_on = {Side.A: 0, Side.B: 0}
        self._left: set[NodeId] = set()
        self._waiting: set[NodeId] = set()
        """Nodes in a conflict: nothing can be done until one side changes or a person speaks."""
        self._heirs: dict[NodeId, NodeId] = {}
        """Ids of directories of the remote that were replaced by others while this was written down."""
        self._began_ns = clock()
        self._vacated: list[tuple[RelPath, Agreed]] = []
        """What is agreed at places whose rows follow a rename first."""
        self._moved_rows: dict[Place, BaseRow] = {}
        self._row_places = {path: place for place, path in scope.remote_paths.items()}
        self._row_places |= {path: at for at, path in scope.remote_paths.items() if at in scope.rows}
        """Where the base has what the remote has at a path, while moves are carried out."""

    def sending(self, side: Side, action: Put, digest: Digest) -> None:
        number = self._begun.get((type(action), path_of(action)))
        if side is Side.B and self._batch is not None and number is not None:
            self._attempts.sending(self._batch, number, digest)

    def done(self, side: Side, action: Action, entry: Entry | None) -> None:
        self.done_on[side] += 1
        if side is Side.A:
            return  # the adopter recorded it in the transaction that changed the tree
        number = self._begun.get((type(action), path_of(action)))
        if number is not None:
            self._known.add(number)
        if not isinstance(action, Delete):
            self._filled.update(ancestors(path_of(action)))
        match action:
            case Delete(path=path):
                self._forget(path)
            case Move():
                self._moved(action, entry)
            case _:
                assert entry is not None
                known_at = action.origin if isinstance(action, Put) else path_of(action)
                self._agreed(path_of(action), known_at, entry)

    def failed(self, side: Side, action: Action, error: MountsyncError) -> None:
        path = path_of(action)
        self.failures.append(Failure(side, path, error))
        self._leave(path)
        if isinstance(action, Move):
            self.failures.append(Failure(side, action.source, error))
            self._leave(action.source)

    def _leave(self, path: RelPath) -> None:
        self._left |= self._nodes_at(path)

    def _place(self, path: RelPath) -> Place | None:
        place = self._scope.places.get(path)
        if place is not None:
            return place
        parent = self._tree.resolve(to_bytes(parent_of(path)))
        return None if parent is None else (parent, to_bytes(name_of(path)))

    def _row_place(self, path: RelPath) -> Place | None:
        """The place in the base of what the remote has at `path` now."""
        place = self._row_places.get(path)
        if place is not None:
            return place
        folder = parent_of(path)
        if not folder:
            return ROOT_ID, to_bytes(name_of(path))
        above = self._row_place(folder)
        row = None if above is None else self._row(above)
        return None if row is None else (row.node, to_bytes(name_of(path)))

    def _row(self, place: Place) -> BaseRow | None:
        return self._moved_rows.get(place) or self._base.find(*place)

    def _forget(self, path: RelPath) -> None:
        place = self._row_place(path)
        if place is not None:
            self._writes.append(lambda: self._base.remove(*self._as_written(place)))

    def _as_written(self, place: Place) -> Place:
        """A place of the scope in the base as it is now: its directory may have got another id."""
        return self._heirs.get(place[0], place[0]), place[1]

    def _agreed(self, path: RelPath, known_at: RelPath, remote: Entry) -> None:
        place = self._place(path)
        known = self._scope.known.get(known_at)
        if place is None or known is None:
            self._leave(path)
            return
        row = _base_row(place, known, remote)
        self._writes.append(lambda: self._put_row(row))

    def _put_row(self, row: BaseRow) -> None:
        self._heirs |= self._base.put(row)
        if not self._is_at(row.parent, row.name, row.node) and not self._journal.has(row.node):
            # Removed or replaced while its first upload was under way: nobody else knows of the object.
            self._journal.note(row.node, self._clock())

    def _moved(self, action: Move, entry: Entry | None) -> None:
        if action.base is None:
            return
        source = self._row_place(action.base)
        target = self._place(action.target)
        row = None if source is None else self._row(source)
        if source is None or target is None or row is None:
            self._leave(action.source)
            return
        self._go_along(action.base, action.target)
        self._row_places[action.target] = target
        self._moved_rows[target] = row
        self._writes.append(lambda: self._move_row(source, target, entry))

    def _go_along(self, source: RelPath, target: RelPath) -> None:
        """What the remote had at a path and below it is elsewhere: something else may come to that path."""
        self._row_places.pop(source, None)
        for path in [path for path in self._row_places if is_within(path, source)]:
            self._row_places[relocate(path, source, target)] = self._row_places.pop(path)

    def _move_row(self, source: Place, target: Place, entry: Entry | None) -> None:
        self._base.move(*self._as_written(source), *target)
        row = self._base.find(*target)
        if row is not None and entry is not None and entry.kind is not Kind.DIRECTORY:
            remote = replace(entry, digest=entry.digest or row.remote.digest)
            self._base.put(replace(row, remote=remote))

    def adopt_plan(self, plan: Plan) -> None:
        """Takes over what needs no action, and keeps conflicts and problems in the journal."""
        leaving = {action.base for action in plan.to_b if isinstance(action, Move)}
        for path, agreed in sorted(plan.to_base.items(), key=itemgetter(0)):  # directories first
            if agreed is None:
                self._forget(path)
            elif path in leaving:  # its row is still needed: it goes along with what is renamed
                self._vacated.append((path, agreed))
            else:
                self._already_equal(path, agreed)
        self._take_over(plan)
        for conflict in plan.conflicts:
            self._leave(conflict.path)
            self._waiting |= self._nodes_at(conflict.path)
        for path, problem in plan.problems.items():
            self._leave(path)
            self.failures.append(Failure(Side.B, path, as_error(path, problem)))

    def _take_over(self, plan: Plan) -> None:
        """Both sides have a directory or the same link, but not the one that was agreed there: it is now.

        A directory that was renamed entry by entry leaves another one behind, and one that is removed and
        made anew is another. To the merge, which knows paths, nothing has changed; but what is agreed in it
        has to go to the new id, and a later removal has to be known for one of what was agreed.
        """
        coming, leaving = set(_coming(plan)), set(_leaving(plan))
        for row, there, here in self._counterparts(plan):
            known, remote, local = self._scope.known[here], self._scope.b[there], self._scope.a[here]
            if known.node == row.node or here in coming or there in leaving:
                continue
            if _look_alike(local, remote, row.remote):
                mode = known.mode if remote.mode is None else remote.mode
                agreed = _base_row(self._scope.places[here], replace(known, mode=mode), remote)
                self._writes.append(partial(self._put_row, agreed))

    def _counterparts(self, plan: Plan) -> Iterable[tuple[BaseRow, RelPath, RelPath]]:
        """What is agreed and on both sides: the row, its path there, and the path here; directories first.

        It is here in the same directory, whatever path that has, or else at the path that it has there when
        the plan is carried out, unless something is renamed here.
        """
        moving = {path for move in _moves(plan.to_a) for path in (move.source, move.target)}
        for there, place in sorted(self._row_places.items()):
            row, here = self._scope.rows.get(place), self._scope.local_paths.get(place)
            if here is None and not any(is_within(there, path) for path in moving):
                here = _after(plan, there)
            if row is not None and here is not None and here in self._scope.known and there in self._scope.b:
                yield row, there, here

    def _already_equal(self, path: RelPath, agreed: Agreed) -> None:
        remote = self._scope.b.get(path)
        if remote is None:
            place = self._scope.places.get(path)
            remote = self._scope.b.get(self._scope.remote_paths.get(place, path)) if place else None
        if _is_folder(agreed) and (remote is None or remote.kind is not Kind.DIRECTORY):
            remote = DIRECTORY  # the remote has directories only where files are in them
        if remote is None:
            self._leave(path)
            return
        self._agreed(path, path, remote.with_digest(remote.digest or agreed.entry.digest))

    def settle_moves(self) -> None:
        with self._db.transaction:
            self._write()

    def _write(self) -> None:
        for write in self._writes:
            write()
        self._writes.clear()

    def begin(self, plan: Plan) -> None:
        """Writes down what the remote is about to get, so that it is known for ours after a crash."""
        self._implied = list(self._folders(plan))
        steps = list(self._implied)
        earlier: list[Move] = []
        for action in plan.to_b:
            step = self._attempt(action, earlier)
            if isinstance(action, Move):
                earlier.append(action)
            if step is not None:
                self._begun[type(action), path_of(action)] = len(steps)
                steps.append(step)
        if self._begun:
            with self._db.transaction:
                self._batch = self._attempts.begin(steps)

    def _folders(self, plan: Plan) -> Iterable[Attempt]:
        """Directories that are there without an action of their own: what goes into them needs their ids."""
        made = {path_of(action) for action in plan.to_b if isinstance(action, MakeDirectory | Move)}
        above = {up for action in plan.to_b for up in ancestors(path_of(action))}
        agreed = {path for path, row in plan.to_base.items() if _is_folder(row)}
        for path in sorted((above | agreed) - made):
            here, known = self._scope.a.get(path), self._scope.known.get(path)
            if here is None or here.kind is not Kind.DIRECTORY or known is None:
                continue
            place = self._place(path)
            row = None if place is None else self._base.find(*place)
            if row is None or row.node != known.node:
                entry = Entry(Kind.DIRECTORY, mode=known.mode)
                yield Attempt(Verb.PUT, path, known.node, known.generation, entry, None)

    def _agree_implied(self) -> None:
        for step in self._implied:
            place, known = self._place(step.path), self._scope.known[step.path]
            row = None if place is None else self._base.find(*place)
            if place is not None and step.path in self._filled and (row is None or row.node != known.node):
                self._put_row(_base_row(place, known, DIRECTORY))

    def _attempt(self, action: Action, earlier: Sequence[Move]) -> Attempt | None:
        match action:
            case Delete():
                return Attempt(Verb.DELETE, action.path, NodeId(0), 0, None, action.expect)
            case Move():
                return self._begun_move(action, earlier)
            case _:
                return self._sent(action)

    def _begun_move(self, action: Move, earlier: Sequence[Move]) -> Attempt | None:
        path = action.base
        if path is None:
            return None  # what is set aside is new to the base, under either name
        for move in reversed(earlier):
            if move.base is not None:  # by then its row, and those below, will have gone along
                path = relocate(path, move.target, move.base)
        place = self._row_place(path)
        row = None if place is None else self._row(place)
        if row is None:
            return None
        expect, digest = action.expect, action.expect.digest or row.remote.digest
        return Attempt(
            Verb.MOVE, action.target, row.node, row.generation, None, expect, action.source, digest
        )

    def _sent(self, action: Put | MakeDirectory | MakeSymlink | SetAttributes) -> Attempt | None:
        known = self._scope.known.get(action.origin if isinstance(action, Put) else action.path)
        if known is None:
            return None
        verb = Verb.ADJUST if isinstance(action, SetAttributes) else Verb.PUT
        expect = None if isinstance(action, MakeDirectory) else action.expect
        entry = replace(action.entry, digest=None, token=None, mode=known.mode)
        return Attempt(verb, action.path, known.node, known.generation, entry, expect)

    def end(self) -> None:
        """The cycle is over, however it went: what it began and did not record is unknown from now on."""
        if self._batch is not None:
            self._attempts.end(self._batch)

    def commit(self) -> None:
        """One transaction: the base is what was really done, and settled rows leave the journal."""
        now = self._clock()
        for path, agreed in self._vacated:
            if path in self._row_places:
                self._leave(path)  # it could not be renamed
            else:
                self._already_equal(path, agreed)
        with self._db.transaction:
            self._write()
            self._agree_implied()
            for node in list(self._strays()):
                self._journal.note(node, now)  # as a change since this cycle began: it is not settled by it
            if self._batch is not None and len(self._known) == len(self._begun):
                self._attempts.forget(self._batch)
            elif self._batch is not None:
                self._attempts.known(self._batch, self._known)
            for node, version in self._scope.versions.items():
                if node not in self._left and not self._journal.settle(node, version):
                    self._journal.agreed_until(node, self._began_ns)
            for failure in self.failures:
                if not failure.is_surprise:
                    self._postpone(self._nodes_at(failure.path), failure.error, now)
            self._let_wait(now)

    def _strays(self) -> Iterable[NodeId]:
        """What would leave the journal though something else is agreed at its place, or it has none here.

        Where a directory is renamed, or takes the place of another, rows go along without a look at each:
        what was made anew in it and is equal has no action. One more look agrees on it by itself; without
        that nobody would know of what its removal has to remove.
        """
        for folder in set(self._heirs.values()):
            for row in self._base.children(folder):
                if row.node not in self._left and not self._is_at(row.parent, row.name, row.node):
                    yield row.node
        for path, known in self._scope.known.items():
            place = self._scope.places.get(path)
            if place is None or known.node not in self._scope.versions or known.node in self._left:
                continue
            agreed = self._base.find(*place)
            if agreed is not None and agreed.node != known.node and self._is_at(*place, known.node):
                yield known.node

    def _is_at(self, folder: NodeId, name: bytes, node: NodeId) -> bool:
        return self._tree.child_id(folder, name) == node

    def give_up(self, error: MountsyncError) -> None:
        """Nothing of this cycle may be written down; all of it is tried again after a while."""
        now = self._clock()
        self._left.update(self._scope.versions)
        with self._db.transaction:
            if not is_surprise(error):
                self._postpone(self._scope.versions, error, now)
            self._let_wait(now)
        self._writes.clear()

    def _postpone(self, nodes: Iterable[NodeId], error: MountsyncError, now: int) -> None:
        for node in nodes:
            row = self._journal.find(node)
            if row is None or self._scope.versions.get(node) != row.version:
                continue
            wait = wait_before_retry(row.attempts, transient=error.transient)
            self._journal.postpone(node, row.version, now + int(wait * 1e9), str(error))

    def _let_wait(self, now: int) -> None:
        """What stays in the journal must not be due again at once."""
        for node in self._left:
            version = self._scope.versions.get(node)
            if version is not None:
                wait = _HOPELESS_WAIT_S if node in self._waiting else _LOOK_WAIT_S
                self._journal.rest(node, version, now + int(wait * 1e9))

    def _nodes_at(self, path: RelPath) -> set[NodeId]:
        """What is at a path here, and what was agreed where the remote has it: the place may be another."""
        found = set()
        for place in (self._scope.places.get(path), self._row_places.get(path)):
            if place is not None:
                found |= self._scope.members.get(place, set())
        known = self._scope.known.get(path)
        return found if known is None else found | {known.node}


def _moves(actions: Sequence[Action]) -> Iterable[Move]:
    return (action for action in actions if isinstance(action, Move))


def _after(plan: Plan, path: RelPath) -> RelPath:
    """Where the remote has what it has at `path` now, when the plan is carried out."""
    for move in _moves(plan.to_b):
        path = relocate(path, move.source, move.target)
    return path


def _is_folder(agreed: Agreed | None) -> bool:
    return agreed is not None and agreed.entry.kind is Kind.DIRECTORY


def _coming(plan: Plan) -> Iterable[RelPath]:
    """Where something else is put or taken away, by paths as they are here."""
    return (path_of(action) for action in (*plan.to_a, *plan.to_b) if not isinstance(action, SetAttributes))


def _leaving(plan: Plan) -> Iterable[RelPath]:
    """What goes elsewhere or is forgotten, by paths as they were agreed."""
    for move in _moves((*plan.to_a, *plan.to_b)):
        yield move.source if move.base is None else move.base
    yield from (path for path, agreed in plan.to_base.items() if agreed is None)


def _look_alike(here: Entry, there: Entry, agreed: Entry) -> bool:
    """Whether all are directories, or links to the same target: the merge tells such only by that."""
    kinds = {here.kind, there.kind, agreed.kind}
    return kinds == {Kind.DIRECTORY} or (
        kinds == {Kind.SYMLINK} and here.target == there.target == agreed.target
    )


def _base_row(place: Place, known: Known, remote: Entry) -> BaseRow:
    return BaseRow(*place, known.node, known.generation, remote, known.mtime_ns, known.mode)
