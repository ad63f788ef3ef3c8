"""A tree of objects in memory, changed in single steps between which nobody can look.

Synchronous and without a clock: times are given by the caller. Every file version has a number that
no other version of any file in the tree ever had.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from mountsync.errors import (
    DirectoryNotEmpty,
    IsADirectory,
    NameRefused,
    NotADirectory,
    NotFound,
    PermissionDenied,
    Unsupported,
)
from mountsync.model.entry import Digest, Entry, Kind, Token
from mountsync.paths import RelPath, is_within, join, name_of, parent_of, parts_of
from mountsync.storage.api import Expect
from mountsync.storage.expectations import refuse_stale, refuse_target

DEFAULT_FILE_MODE = 0o644
DEFAULT_DIRECTORY_MODE = 0o755


@dataclass(slots=True)
class File:
    """One file; `data` is never changed, a new version is a new File."""

    data: bytes
    mtime_ns: int
    mode: int
    version: int
    digest: Digest | None = None

    def entry(self) -> Entry:
        return Entry(Kind.FILE, len(self.data), self.mtime_ns, self.mode, token=Token(f"v{self.version}"))


@dataclass(slots=True)
class Link:
    """One symbolic link."""

    target: str
    mtime_ns: int
    version: int

    def entry(self) -> Entry:
        return Entry(Kind.SYMLINK, 0, self.mtime_ns, token=Token(f"v{self.version}"), target=self.target)


@dataclass(slots=True)
class Directory:
    """One directory and what is in it."""

    children: dict[str, Node] = field(default_factory=dict)
    mode: int = DEFAULT_DIRECTORY_MODE

    def entry(self) -> Entry:
        return Entry(Kind.DIRECTORY, mode=self.mode)


Node: TypeAlias = File | Link | Directory
Listener: TypeAlias = Callable[[RelPath], None]


class Tree:
    """All objects of one in-memory storage; each method is one atomic step.

    Raises the errors that `storage.api` names for the step; then nothing has changed.
    """

    def __init__(self) -> None:
        self._root = Directory()
        self._version = 0
        self._bytes = 0
        self.listeners: set[Listener] = set()
        """Called with every path that a step changed."""

    @property
    def used(self) -> int:
        """Bytes in all files."""
        return self._bytes

    def find(self, path: RelPath) -> Node | None:
        """What is at `path`, None when nothing is."""
        node: Node | None = self._root
        for part in parts_of(path):
            if not isinstance(node, Directory):
                return None
            node = node.children.get(part)
        return node

    def file(self, path: RelPath, expect: Expect) -> File:
        """The file at `path`. Raises NotFound, IsADirectory, Unsupported (a link) or Stale."""
        node = self._leaf(path, expect)
        if isinstance(node, Link):
            raise Unsupported("it is a symbolic link and has no content", path=path)
        return node

    def children(self, path: RelPath) -> list[tuple[str, Entry]]:
        """Names and entries in the directory `path`. Raises NotFound or NotADirectory."""
        return [(name, node.entry()) for name, node in self._directory(path).children.items()]

    def put(self, path: RelPath, data: bytes, *, mtime_ns: int, expect: Expect) -> Entry:
        """Makes or replaces a file; one that was there keeps its mode."""
        old = self.replaceable(path, expect)
        mode = old.mode if isinstance(old, File) else DEFAULT_FILE_MODE
        return self._place(path, File(data, mtime_ns, mode, self._next()))

    def link(self, path: RelPath, target: str, *, mtime_ns: int, expect: Expect) -> Entry:
        """Makes or replaces a symbolic link."""
        self.replaceable(path, expect)
        return self._place(path, Link(target, mtime_ns, self._next()))

    def replaceable(self, path: RelPath, expect: Expect) -> File | Link | None:
        """What a write to `path` would replace. Raises IsADirectory, NotADirectory or Stale."""
        self._check_above(path)
        node = self.find(path)
        if isinstance(node, Directory):
            raise IsADirectory("a directory is there", path=path)
        refuse_stale(_entry(node), expect, path)
        return node

    def delete(self, path: RelPath, expect: Expect) -> None:
        self._leaf(path, expect)
        self._take(path)

    def move(self, source: RelPath, target: RelPath, *, expect: Expect, replace: Expect) -> Entry:
        node = self._mobile(source, expect)
        self._check_target(node, source, target, replace)
        if source == target:
            return node.entry()
        self._take(source)
        return self._place(target, node)

    def copy(self, source: RelPath, target: RelPath, *, expect: Expect, replace: Expect) -> Entry:
        node = self._leaf(source, expect)
        self._check_target(node, source, target, replace)
        if source == target:
            return node.entry()
        if isinstance(node, Link):
            return self._place(target, Link(node.target, node.mtime_ns, self._next()))
        return self._place(target, File(node.data, node.mtime_ns, node.mode, self._next(), node.digest))

    def set_mtime(self, path: RelPath, mtime_ns: int, expect: Expect) -> Entry:
        node = self._leaf(path, expect)
        node.mtime_ns = mtime_ns
        self._changed(path)
        return node.entry()

    def set_mode(self, path: RelPath, mode: int) -> Entry:
        node = self._existing(path)
        if isinstance(node, Link):
            raise Unsupported("a symbolic link has no mode", path=path)
        node.mode = mode & 0o7777
        self._changed(path)
        return node.entry()

    def make_directory(self, path: RelPath) -> Entry:
        found = self.find(path)
        if found is not None and not isinstance(found, Directory):
            raise NotADirectory("something that is not a directory is there", path=path)
        self._check_above(path)
        return self._made(path).entry()

    def remove_directory(self, path: RelPath) -> None:
        if not path:
            raise PermissionDenied("the root of a storage cannot be removed")
        if self._directory(path).children:
            raise DirectoryNotEmpty("the directory is not empty", path=path)
        self._take(path)

    def _next(self) -> int:
        self._version += 1
        return self._version

    def _changed(self, path: RelPath) -> None:
        for listener in tuple(self.listeners):
            listener(path)

    def _existing(self, path: RelPath) -> Node:
        node = self.find(path)
        if node is None:
            raise NotFound("nothing is there", path=path)
        return node

    def _leaf(self, path: RelPath, expect: Expect) -> File | Link:
        node = self._existing(path)
        if isinstance(node, Directory):
            raise IsADirectory("it is a directory", path=path)
        refuse_stale(node.entry(), expect, path)
        return node

    def _directory(self, path: RelPath) -> Directory:
        node = self._existing(path)
        if not isinstance(node, Directory):
            raise NotADirectory("it is not a directory", path=path)
        return node

    def _mobile(self, path: RelPath, expect: Expect) -> Node:
        if not path:
            raise PermissionDenied("the root of a storage cannot be moved")
        node = self._existing(path)
        refuse_stale(node.entry(), expect, path)
        return node

    def _check_above(self, path: RelPath) -> None:
        """Raises NotADirectory when a parent that is needed is a file or link."""
        node: Node | None = self._root
        for part in parts_of(parent_of(path)):
            node = node.children.get(part) if isinstance(node, Directory) else None
            if node is None:
                return
            if not isinstance(node, Directory):
                raise NotADirectory(f"its parent {part!r} is not a directory", path=path)

    def _check_target(self, node: Node, source: RelPath, target: RelPath, replace: Expect) -> None:
        self._check_above(target)
        there = self.find(target)
        refuse_target(_entry(there), replace, target)
        if isinstance(node, Directory):
            self._check_directory_target(there, source, target)
        elif isinstance(there, Directory):
            raise IsADirectory("a directory is there", path=target)

    def _check_directory_target(self, there: Node | None, source: RelPath, target: RelPath) -> None:
        if target != source and is_within(target, source):
            raise NameRefused("a directory cannot be moved into itself", path=target)
        if there is not None and not isinstance(there, Directory):
            raise NotADirectory("something that is not a directory is there", path=target)
        if there is not None and there.children and target != source:
            raise DirectoryNotEmpty("a directory that is not empty is there", path=target)

    def _made(self, path: RelPath) -> Directory:
        node, at = self._root, RelPath("")
        for part in parts_of(path):
            at = join(at, part)
            child = node.children.get(part)
            if child is None:
                child = node.children[part] = Directory()
                self._changed(at)
            assert isinstance(child, Directory)
            node = child
        return node

    def _place(self, path: RelPath, node: Node) -> Entry:
        children = self._made(parent_of(path)).children
        name = name_of(path)
        self._bytes += _size(node) - _size(children.get(name))
        children[name] = node
        self._changed(path)
        return node.entry()

    def _take(self, path: RelPath) -> None:
        gone = self._made(parent_of(path)).children.pop(name_of(path))
        self._bytes -= _size(gone)
        self._changed(path)


def _entry(node: Node | None) -> Entry | None:
    return node.entry() if node is not None else None


def _size(node: Node | None) -> int:
    if isinstance(node, File):
        return len(node.data)
    return sum(map(_size, node.children.values())) if isinstance(node, Directory) else 0


def walk(tree: Tree, path: RelPath, *, recursive: bool) -> Iterator[tuple[RelPath, Entry]]:
    """Every entry below the directory `path`, each directory as it is when the walk gets there."""
    waiting = [path]
    first = True
    while waiting:
        folder = waiting.pop()
        for name, entry in tree.children(folder) if first else _children_now(tree, folder):
            at = join(folder, name)
            yield at, entry
            if recursive and entry.kind is Kind.DIRECTORY:
                waiting.append(at)
        first = False


def _children_now(tree: Tree, folder: RelPath) -> list[tuple[str, Entry]]:
    """The children of a directory that may have gone since it was seen."""
    return tree.children(folder) if isinstance(tree.find(folder), Directory) else []
