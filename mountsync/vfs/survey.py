"""What a state folder holds, read without changing anything and however damaged it is."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apsw

from mountsync.content.store import content_name

_ROOT = 1
_DEEPEST = 4096


@dataclass(frozen=True, slots=True)
class Unsent:
    """A local change that the remote does not have yet. `content` names its file, None: in the database."""

    path: str
    size: int
    content: str | None


@dataclass(slots=True)
class Survey:
    """What was found; `unreadable` says why rows are missing, None when all could be read."""

    known: int = 0
    unsent: list[Unsent] = field(default_factory=list)
    content_files: int = 0
    content_bytes: int = 0
    unreadable: str | None = None


def survey(folder: Path) -> Survey:
    """Looks at a state folder, of this version or a damaged one."""
    found = Survey()
    for file in _files(folder / "content"):
        found.content_files += 1
        found.content_bytes += file.stat().st_size
    try:
        _read_rows(folder, found)
    except apsw.Error as error:
        found.unreadable = str(error)
    return found


def _files(folder: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in names)


def _read_rows(folder: Path, found: Survey) -> None:
    connection = apsw.Connection(str(folder / "state.db"), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        found.known = next(iter(connection.execute("SELECT count(*) FROM dentry")))[0]
        rows = connection.execute(
            "SELECT n.id, n.size, n.place FROM journal j JOIN node n ON n.id = j.node ORDER BY n.id"
        )
        for node, size, place in rows:
            path = _path_of(connection, node)
            content = str(folder / "content" / content_name(node)) if place in (2, 3) else None
            found.unsent.append(Unsent(path=path, size=size, content=content))
    finally:
        connection.close()


def _path_of(connection: apsw.Connection, node: int) -> str:
    parts: list[bytes] = []
    while node != _ROOT and len(parts) < _DEEPEST:
        row = connection.execute("SELECT parent, name FROM dentry WHERE node = ? LIMIT 1", (node,)).fetchone()
        if row is None:
            break
        node = row[0]
        parts.append(row[1])
    return b"/".join(reversed(parts)).decode("utf-8", "surrogateescape")
