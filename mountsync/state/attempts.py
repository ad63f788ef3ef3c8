"""What was begun on the remote and is not in the base yet.

A process that dies between an effect on the remote and the commit that records it leaves something that
nobody knows of, and by the time it is found the local side may have moved on. So each step is written down
before the first of its batch is made, with what is needed to tell later, by a look at the remote alone,
whether it happened. It goes in the transaction that records the outcome. It decides nothing.

Places are the remote's paths, as they are once the steps before it are done: ids of directories would
need a base that is right, and that is what has to be found out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from mountsync.model.entry import Digest, Entry, Kind, Token
from mountsync.paths import RelPath, from_bytes, to_bytes
from mountsync.state.database import Database, Row
from mountsync.state.tree import NodeId

_KINDS: Final = (Kind.FILE, Kind.DIRECTORY, Kind.SYMLINK)
_COLUMNS: Final = (
    "batch, step, verb, path, source, node, generation, kind, size, mtime_ns, mode, target,"
    " old_kind, old_size, old_mtime_ns, old_token, old_target, digest"
)
_MARKS: Final = ",".join("?" * 18)


class Verb(IntEnum):
    """What is done to the remote."""

    PUT = 0
    """A file, a link or a directory comes to `path`."""
    ADJUST = 1
    """Time and mode of what is at `path` are set; its content is agreed."""
    MOVE = 2
    """What is at `source` goes to `path`."""
    DELETE = 3
    """What is at `path` goes."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One step. `entry` is what is sent, without digest and token; None where nothing is.

    `expect` is what the remote has before: at `source` for a move, else at `path`; None when nothing is
    there. Its mode and digest are not kept. `node` is 0 for a removal.
    """

    verb: Verb
    path: RelPath
    node: NodeId
    generation: int
    entry: Entry | None
    expect: Entry | None
    source: RelPath | None = None
    digest: Digest | None = None
    """Of the content that is moved, if it is known; of one that is sent from when it is on its way."""


class Attempts:
    """The steps of all batches. Writing needs an open transaction.

    A batch is *running* while its cycle is; what is left of it afterwards is *unknown*, and so is all
    that an earlier process left. What could not be looked at is *put off*: it stays for a later look, and
    nobody waits for it.
    """

    def __init__(self, database: Database) -> None:
        self._db = database
        left = [row[0] for row in database.rows("SELECT DISTINCT batch FROM attempt ORDER BY batch")]
        self._unknown: dict[int, None] = dict.fromkeys(left)
        self._put_off: dict[int, None] = {}
        self._next = 1 + max(left, default=0)

    def begin(self, steps: Sequence[Attempt]) -> int:
        """Writes down a batch, which runs from now on; gives its number."""
        batch, self._next = self._next, self._next + 1
        for number, step in enumerate(steps):
            self._db.execute(f"INSERT INTO attempt ({_COLUMNS}) VALUES ({_MARKS})", _row(batch, number, step))
        return batch

    def sending(self, batch: int, number: int, digest: Digest) -> None:
        """Writes down what the body of a step is, before any of it leaves."""
        self._db.execute(
            "UPDATE attempt SET digest = ? WHERE batch = ? AND step = ?",
            (bytes.fromhex(digest), batch, number),
        )

    def known(self, batch: int, numbers: Iterable[int]) -> None:
        """Forgets steps whose outcome the same transaction records."""
        for number in numbers:
            self._db.execute("DELETE FROM attempt WHERE batch = ? AND step = ?", (batch, number))

    def end(self, batch: int) -> None:
        """The cycle of a batch, or a look at it, is over: what is left is unknown. Needs no transaction."""
        if self._db.row("SELECT 1 FROM attempt WHERE batch = ? LIMIT 1", (batch,)) is not None:
            self._unknown[batch] = None
        else:
            self._unknown.pop(batch, None)

    def forget(self, batch: int) -> None:
        """Forgets a batch whose outcome the same transaction records; then call `end`."""
        self._db.execute("DELETE FROM attempt WHERE batch = ?", (batch,))

    def put_off(self, batch: int) -> None:
        """It cannot be looked at now. Needs no transaction."""
        self._unknown.pop(batch, None)
        self._put_off[batch] = None

    def take_up(self, is_due: Callable[[int], bool]) -> None:
        """Batches that were put off and are due may be looked at again. Needs no transaction."""
        for batch in [batch for batch in self._put_off if is_due(batch)]:
            self._unknown[batch] = self._put_off.pop(batch)

    @property
    def unknown(self) -> list[int]:
        """The batches whose outcome somebody has to find out, in the order in which they began."""
        return sorted(self._unknown)

    def steps(self, batch: int) -> list[Attempt]:
        """What is left of a batch, in the order in which it was to be done."""
        found = self._db.rows(f"SELECT {_COLUMNS} FROM attempt WHERE batch = ? ORDER BY step", (batch,))
        return [_attempt(row) for row in found]


def _row(batch: int, number: int, step: Attempt) -> Row:
    entry, old = step.entry, step.expect
    return (
        *(batch, number, int(step.verb), to_bytes(step.path), _raw(step.source), step.node, step.generation),
        None if entry is None else _KINDS.index(entry.kind),
        None if entry is None else entry.size,
        None if entry is None else entry.mtime_ns,
        None if entry is None else entry.mode,
        None if entry is None else _raw(entry.target),
        None if old is None else _KINDS.index(old.kind),
        None if old is None else old.size,
        None if old is None else old.mtime_ns,
        None if old is None else old.token,
        None if old is None else _raw(old.target),
        None if step.digest is None else bytes.fromhex(step.digest),
    )


def _raw(text: str | None) -> bytes | None:
    return None if text is None else to_bytes(text)


def _attempt(row: Row) -> Attempt:
    verb, path, source, node, generation = row[2:7]
    kind, size, mtime, mode, target = row[7:12]
    old_kind, old_size, old_mtime, old_token, old_target, raw = row[12:18]
    digest = None if raw is None else Digest(raw.hex())
    entry = None if kind is None else Entry(_KINDS[kind], size, mtime, mode, target=_text(target))
    old = None
    if old_kind is not None:
        token = None if old_token is None else Token(old_token)
        old = Entry(_KINDS[old_kind], old_size, old_mtime, token=token, target=_text(old_target))
    origin = None if source is None else from_bytes(source)
    return Attempt(Verb(verb), from_bytes(path), NodeId(node), generation, entry, old, origin, digest)


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else from_bytes(raw)
