"""Finds out what became of what was begun on the remote and never recorded.

Whatever a process that died, or a request without an answer, did to the remote is brought into the base
before anything is compared, planned or fetched. From then on the base says again what the remote holds of
our own, and what programs did meanwhile is an ordinary difference between the tree and the base.

Only the remote and the steps that were written down are asked, never the tree: it may have moved on.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

import structlog
import trio

from mountsync.engine.bugs import note_bug
from mountsync.engine.settle import wait_before_retry
from mountsync.engine.storage_replica import StorageReplica
from mountsync.errors import Halted, MountsyncError, NotADirectory, NotFound, Unreachable, Unsupported
from mountsync.model.entry import DIRECTORY, Entry, Kind, usual_mode
from mountsync.paths import RelPath, ancestors, is_within, name_of, parent_of, relocate, to_bytes
from mountsync.state.attempts import Attempt, Attempts, Verb
from mountsync.state.base import Base, BaseRow
from mountsync.state.database import Database
from mountsync.state.journal import Journal
from mountsync.state.tree import ROOT_ID, NodeId

_log = structlog.get_logger(__name__)

_ASKERS: Final = 8
_SECOND: Final = 1_000_000_000

SameContent: TypeAlias = Callable[[Attempt, RelPath, Entry], Awaitable[bool | None]]
"""Whether what the remote has at a path is what was sent; None when nothing tells any more."""


class Fate(Enum):
    """What became of a step."""

    UNDONE = "undone"
    DONE = "done"
    CLEARED = "cleared"
    """A put or a move of which only the first half was done: what was of another kind is gone."""
    COPIED = "copied"
    """A move of which only the first half was done: the object stands at both places."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A step's fate, and what the remote has at its place now."""

    fate: Fate
    entry: Entry | None = None


_FOREIGN: Final = Entry(Kind.SYMLINK)
"""Stands for what a storage cannot read, and so nobody put there through it."""
_UNDONE: Final = Finding(Fate.UNDONE)
_CLEARED: Final = Finding(Fate.CLEARED)


class _Retry(NamedTuple):
    """When a batch that cannot be looked at is tried again, after so many tries before."""

    tries: int
    at_ns: int


class Traces:
    """Settles what is unknown; everybody who is about to rely on the base calls `settle` first."""

    def __init__(
        self,
        database: Database,
        base: Base,
        journal: Journal,
        attempts: Attempts,
        remote: StorageReplica,
        same_content: SameContent,
        clock: Callable[[], int],
    ) -> None:
        self._db = database
        self._base = base
        self._journal = journal
        self._attempts = attempts
        self._remote = remote
        self._same_content = same_content
        self._clock = clock
        self._lock = trio.Lock()
        self._retries: dict[int, _Retry] = {}
        """Batches that were put off."""

    @property
    def are_unknown(self) -> bool:
        """Whether anything was begun whose outcome is not known. Nothing new may be begun meanwhile."""
        return bool(self._attempts.unknown)

    def take_up(self) -> None:
        """What could not be looked at earlier is tried once more by the next `settle`, ever more rarely."""
        self._attempts.take_up(lambda batch: self._retries[batch].at_ns <= self._clock())

    async def settle(self) -> None:
        """Returns when the base has all that was done. Raises Unreachable or Halted.

        A batch at one of whose places the remote could not look is left for later.
        """
        if not self.are_unknown:
            return
        async with self._lock:
            for batch in self._attempts.unknown:
                try:
                    await self._settle(batch)
                except (Unreachable, Halted):
                    raise
                except MountsyncError as error:
                    _log.warning("what was sent earlier cannot be looked at", reason=str(error))
                    self._put_off(batch)
                except Exception as error:  # noqa: BLE001 - a bug about some files must not end the mount
                    note_bug(error)
                    self._put_off(batch)

    def _put_off(self, batch: int) -> None:
        tries = self._retries[batch].tries + 1 if batch in self._retries else 0
        wait = wait_before_retry(tries, transient=True)
        self._retries[batch] = _Retry(tries, self._clock() + int(wait * _SECOND))
        self._attempts.put_off(batch)

    async def _settle(self, batch: int) -> None:
        steps = self._attempts.steps(batch)
        findings = await _Inquiry(self._remote, steps, self._same_content).find()
        await self._remote.barrier()  # what the base says must outlive a power failure there too
        with self._db.transaction:
            for step, finding in zip(steps, findings, strict=True):
                self._record(step, finding)
            self._attempts.forget(batch)
        self._attempts.end(batch)
        self._retries.pop(batch, None)

    def _record(self, step: Attempt, finding: Finding) -> None:
        if finding.fate is Fate.UNDONE:
            return
        if finding.fate is Fate.CLEARED:
            self._cleared(step)
            return
        if step.verb is Verb.DELETE:
            self._removed(step)
            return
        folder = self._folder(parent_of(step.path))
        if folder is None:
            return  # it is not known as a directory: another's hand was there
        if step.verb is Verb.MOVE:
            self._moved(step, finding, folder)
        elif finding.entry is not None:
            self._agreed(step, finding.entry, folder)

    def _folder(self, path: RelPath) -> NodeId | None:
        if not path:
            return ROOT_ID
        row = self._base.resolve(to_bytes(path))
        return None if row is None or row.remote.kind is not Kind.DIRECTORY else row.node

    def _removed(self, step: Attempt) -> None:
        row, expect = self._base.resolve(to_bytes(step.path)), step.expect
        if row is None or expect is None or row.remote.kind is not expect.kind:
            return
        self._base.remove(row.parent, row.name)
        self._note(row.node)

    def _cleared(self, step: Attempt) -> None:
        """What is agreed at the place is not there any more, so that it could be replaced: we did that.

        Only what is of another kind goes first. What is still here, or is here again, is sent anew.
        """
        row, coming = self._base.resolve(to_bytes(step.path)), step.entry or step.expect
        if row is None or coming is None or Kind.DIRECTORY in (row.remote.kind, coming.kind):
            return
        if row.remote.kind is not coming.kind:
            self._base.remove(row.parent, row.name)
            self._note(row.node)

    def _moved(self, step: Attempt, finding: Finding, folder: NodeId) -> None:
        assert step.source is not None
        row = self._base.resolve(to_bytes(step.source))
        if row is None or row.node != step.node:
            return  # it is recorded already
        name, entry = to_bytes(name_of(step.path)), finding.entry
        if finding.fate is Fate.DONE:
            self._base.move(row.parent, row.name, folder, name)
        elif self._is_known(folder, name, entry):
            return  # it is what the move was to replace
        if entry is not None and row.remote.kind is not Kind.DIRECTORY:
            entry = entry.with_digest(entry.digest or row.remote.digest)
            self._base.put(replace(row, parent=folder, name=name, remote=entry))
        self._note(row.node)

    def _is_known(self, folder: NodeId, name: bytes, entry: Entry | None) -> bool:
        row = self._base.find(folder, name)
        return row is not None and entry is not None and row.remote.token == entry.token

    def _agreed(self, step: Attempt, remote: Entry, folder: NodeId) -> None:
        sent, name = step.entry, to_bytes(name_of(step.path))
        assert sent is not None
        before = self._base.find(folder, name)
        if before is not None and (before.node, before.generation) == (step.node, step.generation):
            remote = remote.with_digest(remote.digest or before.remote.digest)
        remote = remote.with_digest(step.digest or remote.digest)
        # What the remote did not take over yet is left as a difference.
        mtime = sent.mtime_ns if _same_time(sent, remote, self._precision) else remote.mtime_ns
        known = usual_mode(remote.kind) if self._remote.sets_modes else sent.mode
        mode = known if remote.mode is None else remote.mode
        self._base.put(BaseRow(folder, name, step.node, step.generation, remote, mtime, mode))
        self._note(step.node)
        if before is not None and before.node != step.node:
            self._note(before.node)

    @property
    def _precision(self) -> int | None:
        return self._remote.info.mtime_precision_ns

    def _note(self, node: NodeId) -> None:
        """The tree may have something else than what is agreed now."""
        if not self._journal.has(node):
            self._journal.note(node, self._clock())


class _Inquiry:
    """One look at the places of one batch.

    Steps are judged from the last to the first, because what a step made may have been renamed, filled or
    replaced by a later one.
    """

    def __init__(self, remote: StorageReplica, steps: Sequence[Attempt], same_content: SameContent) -> None:
        self._remote = remote
        self._steps = steps
        self._same_content = same_content
        self._seen: dict[RelPath, Entry | None] = {}
        self._shifts: list[tuple[RelPath, RelPath]] = []
        """Directories that later steps renamed, in the order in which that was done."""
        self._made: set[RelPath] = set()
        """Paths, as they are now, of what later steps put there."""
        self._filled: set[RelPath] = set()
        """The directories above those: where there are no others, they are there because of them."""

    async def find(self) -> list[Finding]:
        """One finding for each step. Raises what keeps the remote from being looked at."""
        await self._look({path for step in self._steps for path in (step.path, step.source) if path})
        findings = [_UNDONE] * len(self._steps)
        for number in reversed(range(len(self._steps))):
            step = self._steps[number]
            findings[number] = found = await self._judge(step)
            if found.fate is Fate.DONE and step.verb is not Verb.DELETE:
                self._made.add(self._now(step.path))
                self._filled.update(ancestors(self._now(step.path)))
                if step.verb is Verb.MOVE and step.source and _is_folder(step.expect):
                    self._shifts.insert(0, (step.source, step.path))
        return list(self._without_impossible(findings))

    async def _look(self, paths: Iterable[RelPath]) -> None:
        waiting = iter(sorted(paths))

        async def ask() -> None:
            for path in waiting:
                await self._at(path)

        failures: list[MountsyncError] = []

        async def guarded() -> None:
            try:
                await ask()
            except MountsyncError as error:
                failures.append(error)

        async with trio.open_nursery() as nursery:
            for _ in range(min(_ASKERS, len(self._steps))):
                nursery.start_soon(guarded)
        if failures:
            raise next((e for e in failures if isinstance(e, Unreachable)), failures[0])

    async def _at(self, path: RelPath) -> Entry | None:
        if path not in self._seen:
            try:
                self._seen[path] = await self._remote.stat(path)
            except (NotFound, NotADirectory):
                self._seen[path] = None
            except Unsupported:
                self._seen[path] = _FOREIGN
        return self._seen[path]

    def _now(self, path: RelPath) -> RelPath:
        """Where that is now what stood at `path` just after the step that is being judged."""
        for source, target in self._shifts:
            if is_within(path, source):
                path = relocate(path, source, target)
        return path

    async def _judge(self, step: Attempt) -> Finding:
        path = self._now(step.path)
        entry = await self._at(path)
        if step.verb is Verb.DELETE:
            replaced = entry is not None and path in self._made
            return Finding(Fate.DONE) if entry is None or replaced else _UNDONE
        if step.verb is Verb.MOVE:
            return await self._judge_move(step, path, entry)
        if _is_folder(step.entry) and path in self._filled:
            return Finding(Fate.DONE, entry if _is_folder(entry) else DIRECTORY)
        if entry is None:
            return self._cleared if step.verb is Verb.PUT else _UNDONE
        done = (
            self._is_adjusted(step, entry)
            if step.verb is Verb.ADJUST
            else await self._is_put(step, path, entry)
        )
        return Finding(Fate.DONE, entry) if done else _UNDONE

    async def _judge_move(self, step: Attempt, path: RelPath, entry: Entry | None) -> Finding:
        expect = step.expect
        if expect is None or step.source is None:
            return _UNDONE
        if entry is None:
            return self._cleared
        old_path = self._now(step.source)
        old = await self._at(old_path)
        if expect.kind is Kind.DIRECTORY:
            gone = old is None or old.kind is not Kind.DIRECTORY or old_path in self._made
            return Finding(Fate.DONE) if gone and entry.kind is Kind.DIRECTORY else _UNDONE
        left = None if old_path in self._made else old
        half = left is not None and _is_same_object(expect, left)
        if path in self._made and not half:
            return Finding(Fate.DONE)  # what was moved here was changed afterwards
        if not _is_moved(expect, entry):
            same = await self._has_content(step, expect, path, entry)
            if not (left is None if same is None else same):
                return _UNDONE
        return Finding(Fate.COPIED if half else Fate.DONE, entry)

    async def _has_content(self, step: Attempt, expect: Entry, path: RelPath, entry: Entry) -> bool | None:
        """Whether a file that has another time now is what was moved; None when nothing tells."""
        if entry.kind is not Kind.FILE or expect.kind is not Kind.FILE or entry.size != expect.size:
            return False
        return await self._same_content(step, path, entry)

    @property
    def _cleared(self) -> Finding:
        """What a step has done where nothing is, if anything was there."""
        return _CLEARED if self._remote.links_are_objects else _UNDONE

    def _is_adjusted(self, step: Attempt, entry: Entry) -> bool:
        """Whether it is still the object whose content is agreed, whatever of time and mode it has."""
        sent, expect = step.entry, step.expect
        if sent is None or expect is None or entry.kind is not sent.kind:
            return False
        if entry.kind is not Kind.FILE or entry.token == expect.token:
            return True
        return entry.size == sent.size and (
            _same_time(sent, entry, self._precision) or _same_time(expect, entry, 0)
        )

    async def _is_put(self, step: Attempt, path: RelPath, entry: Entry) -> bool:
        sent, expect = step.entry, step.expect
        if sent is None or entry.kind is not sent.kind or entry.target != sent.target:
            return False
        if entry.kind is not Kind.FILE:
            return True
        if entry.size != sent.size or (expect is not None and _is_same_object(expect, entry)):
            return False
        alike = _same_time(sent, entry, self._precision)
        if alike and self._is_telling(sent, entry, expect):
            return True
        same = await self._same_content(step, path, entry)
        return alike and not _alike(sent, expect, self._precision) if same is None else same

    def _is_telling(self, sent: Entry, entry: Entry, expect: Entry | None) -> bool:
        """Whether size and time are as good as a proof: to less than a second, and not those of before."""
        fine = (self._precision or _SECOND) < _SECOND and (entry.mtime_ns or 0) % _SECOND != 0
        return fine and not _alike(sent, expect, self._precision)

    @property
    def _precision(self) -> int | None:
        return self._remote.info.mtime_precision_ns

    def _without_impossible(self, findings: Sequence[Finding]) -> Iterable[Finding]:
        """What stands where something was to be taken away first, and was not, is that other thing."""
        kept: set[RelPath] = set()
        for step, finding in zip(self._steps, findings, strict=True):
            takes_room = step.verb in (Verb.PUT, Verb.MOVE) and step.path in kept
            found = _UNDONE if takes_room and _is_folder(step.entry or step.expect) else finding
            if step.verb is Verb.MOVE and step.source and found.fate is not Fate.DONE:
                kept.add(step.source)
            yield found


def _is_folder(entry: Entry | None) -> bool:
    return entry is not None and entry.kind is Kind.DIRECTORY


def _same_time(one: Entry, other: Entry, precision_ns: int | None) -> bool:
    if one.mtime_ns is None or other.mtime_ns is None:
        return False
    return abs(one.mtime_ns - other.mtime_ns) <= (precision_ns or 0)


def _alike(sent: Entry, expect: Entry | None, precision_ns: int | None) -> bool:
    """Whether what was there before cannot be told by size and time from what was sent."""
    return expect is not None and expect.size == sent.size and _same_time(sent, expect, precision_ns)


def _is_same_object(expect: Entry, entry: Entry) -> bool:
    return entry.kind is expect.kind and entry.token is not None and entry.token == expect.token


def _is_moved(expect: Entry, entry: Entry) -> bool:
    """Whether an object at another place is the one that was expected at the old one, or its copy."""
    if entry.kind is not expect.kind or entry.target != expect.target:
        return False
    if entry.kind is not Kind.FILE or _is_same_object(expect, entry):
        return True
    return entry.size == expect.size and _same_time(expect, entry, 0)
