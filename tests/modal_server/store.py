"""Volumes on disk: a table of names in SQLite, blocks in files named by their sha256."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

BLOCK = 8 << 20
EMPTY_BLOCK = hashlib.sha256(b"").digest()
FILE, DIRECTORY, SYMLINK = 1, 2, 3

_SCHEMA = """
CREATE TABLE IF NOT EXISTS volumes(id TEXT PRIMARY KEY, env TEXT, name TEXT, version INT, created REAL);
CREATE TABLE IF NOT EXISTS files(volume TEXT, path TEXT, kind INT, size INT, mtime INT, mode INT, blocks BLOB,
    PRIMARY KEY(volume, path)) WITHOUT ROWID;
"""


class StoreError(Exception):
    """A refusal, with the gRPC status that the server answers."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def absent(path: str) -> StoreError:
    return StoreError("NOT_FOUND", f'path "/{path}" does not exist')


def is_directory(path: str) -> StoreError:
    return StoreError("FAILED_PRECONDITION", f'path "/{path}" is a directory')


@dataclass(frozen=True)
class Node:
    """What stands at a path. `blocks` are raw sha256 of the blocks without their trailing zeros."""

    kind: int
    mtime: int
    size: int = 0
    mode: int = 0
    blocks: tuple[bytes, ...] = ()


def normal(path: str) -> str:
    """The form in which paths are kept: no leading or trailing slash, no dots."""
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise StoreError("INVALID_ARGUMENT", f"invalid path {path!r}")
    return "/".join(parts)


def parent(path: str) -> str:
    return path.rpartition("/")[0]


@dataclass
class Volume:
    """One volume: every node by path, and the children of each directory."""

    id: str
    env: str
    name: str
    version: int
    created: float
    nodes: dict[str, Node] = field(default_factory=dict)
    children: dict[str, set[str]] = field(default_factory=lambda: {"": set()})

    def find(self, path: str) -> Node | None:
        """The node, None when absent; refuses a path below a file."""
        if not path:
            return Node(DIRECTORY, int(self.created))
        if path not in self.nodes:
            self.refuse_file_above(path)
        return self.nodes.get(path)

    def refuse_file_above(self, path: str) -> None:
        above = parent(path)
        while above:
            node = self.nodes.get(above)
            if node is not None and node.kind != DIRECTORY:
                raise StoreError(
                    "FAILED_PRECONDITION", f'path "/{path}" contains a non-directory parent: "/{above}"'
                )
            above = parent(above)

    def below(self, path: str) -> Iterator[str]:
        """Every path below the directory, parents first."""
        for child in sorted(self.children.get(path, ())):
            yield child
            yield from self.below(child)


class Store:
    """All volumes of the server. Not safe for several threads: the server's loop is its only user."""

    def __init__(self, root: Path, clock: Callable[[], float] = time.time) -> None:
        self.root = root
        self.clock = clock
        (root / "blocks").mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(root / "store.db", isolation_level=None, check_same_thread=False)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.executescript(_SCHEMA)
        self.volumes: dict[str, Volume] = {}
        self._load()

    def close(self) -> None:
        self._db.close()

    def _load(self) -> None:
        for row in self._db.execute("SELECT id, env, name, version, created FROM volumes"):
            self.volumes[row[0]] = Volume(*row)
        rows = self._db.execute(
            "SELECT volume, path, kind, size, mtime, mode, blocks FROM files ORDER BY path"
        )
        for volume_id, path, kind, size, mtime, mode, raw in rows:
            blocks = tuple(raw[i : i + 32] for i in range(0, len(raw), 32))
            self._place(self.volumes[volume_id], path, Node(kind, mtime, size, mode, blocks))

    def now(self) -> int:
        return int(self.clock())

    # volumes

    def named(self, env: str, name: str) -> Volume | None:
        return next((v for v in self.volumes.values() if (v.env, v.name) == (env, name)), None)

    def by_id(self, volume_id: str) -> Volume:
        volume = self.volumes.get(volume_id)
        if volume is None:
            raise StoreError("NOT_FOUND", f"Volume {volume_id} not found")
        return volume

    def create(self, env: str, name: str, version: int = 2) -> Volume:
        volume = Volume(f"vo-{uuid.uuid4().hex[:22]}", env, name, version or 1, self.clock())
        self.volumes[volume.id] = volume
        self._db.execute(
            "INSERT INTO volumes VALUES(?,?,?,?,?)",
            (volume.id, env, name, volume.version, volume.created),
        )
        return volume

    def drop(self, volume_id: str) -> None:
        self.by_id(volume_id)
        del self.volumes[volume_id]
        self._db.execute("DELETE FROM volumes WHERE id=?", (volume_id,))
        self._db.execute("DELETE FROM files WHERE volume=?", (volume_id,))

    def rename(self, volume_id: str, name: str) -> None:
        volume = self.by_id(volume_id)
        if self.named(volume.env, name) is not None:
            raise StoreError("ALREADY_EXISTS", f"Volume {name!r} already exists")
        volume.name = name
        self._db.execute("UPDATE volumes SET name=? WHERE id=?", (name, volume_id))

    # nodes

    def _place(self, volume: Volume, path: str, node: Node) -> None:
        volume.nodes[path] = node
        volume.children.setdefault(parent(path), set()).add(path)
        if node.kind == DIRECTORY:
            volume.children.setdefault(path, set())

    def set(self, volume: Volume, path: str, node: Node) -> None:
        """Puts a node, and the directories above it."""
        above = parent(path)
        if above and above not in volume.nodes:
            self.set(volume, above, Node(DIRECTORY, self.now()))
        self._place(volume, path, node)
        self._db.execute(
            "INSERT OR REPLACE INTO files VALUES(?,?,?,?,?,?,?)",
            (volume.id, path, node.kind, node.size, node.mtime, node.mode, b"".join(node.blocks)),
        )

    def unset(self, volume: Volume, path: str) -> None:
        del volume.nodes[path]
        volume.children.pop(path, None)
        volume.children[parent(path)].discard(path)
        self._db.execute("DELETE FROM files WHERE volume=? AND path=?", (volume.id, path))

    def remove(self, volume: Volume, path: str, *, recursive: bool, vanish: bool) -> None:
        node = volume.find(path)
        if node is None or not path:
            raise absent(path)
        below = list(volume.below(path))
        if below and not recursive:
            raise StoreError("FAILED_PRECONDITION", f'directory "/{path}" is not empty')
        for each in reversed(below):
            self.unset(volume, each)
        self.unset(volume, path)
        above = parent(path)
        while vanish and above and not volume.children[above]:
            self.unset(volume, above)
            above = parent(above)

    def copy(self, volume: Volume, sources: list[str], target: str, *, recursive: bool) -> None:
        """As `cp`: several sources, or an existing directory as target, copy into it."""
        found = volume.find(target)
        into = found is not None and found.kind == DIRECTORY
        if len(sources) > 1 and not into:
            raise StoreError("FAILED_PRECONDITION", f'path "/{target}" is not a directory')
        for source in sources:
            name = source.rpartition("/")[2]
            self._copy_one(volume, source, f"{target}/{name}".lstrip("/") if into else target, recursive)

    def _copy_one(self, volume: Volume, source: str, target: str, recursive: bool) -> None:
        node = volume.find(source)
        if node is None:
            raise absent(source)
        if node.kind == DIRECTORY and not recursive:
            raise is_directory(source)
        old = volume.find(target)
        if old is not None and old.kind == DIRECTORY and node.kind != DIRECTORY:
            raise is_directory(target)
        for path in [source, *volume.below(source)]:
            one = volume.nodes[path]
            copy = Node(one.kind, self.now(), one.size, one.mode, one.blocks)
            self.set(volume, target + path[len(source) :], copy)

    # blocks

    def _block_path(self, digest: bytes) -> Path:
        name = digest.hex()
        return self.root / "blocks" / name[:2] / name

    def has_block(self, digest: bytes) -> bool:
        return digest == EMPTY_BLOCK or self._block_path(digest).exists()

    def add_block(self, data: bytes) -> bytes:
        digest = hashlib.sha256(data).digest()
        if data:
            path = self._block_path(digest)
            path.parent.mkdir(exist_ok=True)
            temporary = path.with_suffix(f".{uuid.uuid4().hex}")
            temporary.write_bytes(data)
            os.replace(temporary, path)
        return digest

    def block(self, digest: bytes, start: int, length: int) -> bytes:
        """The stored bytes of the slice, without the zeros that were stripped."""
        if digest == EMPTY_BLOCK:
            return b""
        with open(self._block_path(digest), "rb") as file:
            file.seek(start)
            return file.read(length)

    # for tests: the whole content, and a file as a foreign writer makes it

    def content(self, volume: Volume, path: str) -> bytes:
        node = volume.nodes[path]
        pieces = []
        for index, digest in enumerate(node.blocks):
            want = min(BLOCK, node.size - index * BLOCK)
            pieces.append(self.block(digest, 0, want).ljust(want, b"\0"))
        return b"".join(pieces)

    def plant(self, volume: Volume, path: str, data: bytes, *, mtime: int | None = None) -> Node:
        blocks = [data[i : i + BLOCK].rstrip(b"\0") for i in range(0, len(data), BLOCK)]
        digests = tuple(self.add_block(block) for block in blocks)
        node = Node(FILE, self.now() if mtime is None else mtime, len(data), 0o644, digests)
        self.set(volume, path, node)
        return node
