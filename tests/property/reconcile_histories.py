"""Random histories of a side: edits, deletes, renames and type changes, with the identity of each object."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hypothesis import strategies as st
from reconcile_world import Tree

from mountsync.paths import ROOT, RelPath, ancestors, is_within, join, parent_of, relocate

NAMES = ("p", "q", "r", "s")

Op = tuple[str, int, int, str]
"""What, the number of an object, the number of a directory, a name in it."""


@dataclass(slots=True)
class Node:
    """One object; `born` is its path in base, None when it came later."""

    value: str
    born: RelPath | None = None
    edited: bool = False


class History:
    """A tree whose objects keep their identity. Operations that make no sense do nothing."""

    def __init__(self, base: Tree, mark: str) -> None:
        self.nodes = {RelPath(p): Node(v, RelPath(p)) for p, v in base.items()}
        self.mark = mark
        self.count = 0

    def run(self, ops: Iterable[Op]) -> History:
        for name, which, where, last in ops:
            known = sorted(self.nodes) or [ROOT]
            folders = [ROOT, *(p for p in known if p and self.nodes[p].value == "/")]
            place = join(folders[where % len(folders)], last)
            getattr(self, name)(known[which % len(known)], place)
        return self

    def fresh(self) -> str:
        """A content that nobody else writes; lengths differ now and then."""
        self.count += 1
        return f"{self.mark}{self.count:0{1 + self.count % 3}}"

    def room(self, path: RelPath) -> bool:
        parent = parent_of(path)
        return not parent or (parent in self.nodes and self.nodes[parent].value == "/")

    def add(self, path: RelPath, value: str) -> None:
        if path and path not in self.nodes and self.room(path):
            self.nodes[path] = Node(value)

    def edit(self, path: RelPath, _: RelPath) -> None:
        node = self.nodes.get(path)
        if node is not None and node.value != "/" and not node.value.startswith("@"):
            node.value, node.edited = self.fresh(), True

    def create(self, _: RelPath, place: RelPath) -> None:
        self.add(place, self.fresh())

    def agree(self, _: RelPath, place: RelPath) -> None:
        """Writes what the other side may write too."""
        self.add(place, "the same on both")

    def link(self, _: RelPath, place: RelPath) -> None:
        self.add(place, f"@{self.fresh()}")

    def folder(self, _: RelPath, place: RelPath) -> None:
        self.add(place, "/")

    def remove(self, path: RelPath, _: RelPath) -> None:
        for below in [p for p in self.nodes if is_within(p, path)]:
            del self.nodes[below]

    def put_in_place(self, path: RelPath, place: RelPath) -> None:
        """Deletes one object, whatever it is, and makes another of that name."""
        if not path:
            return
        self.remove(path, place)
        self.add(path, "/" if self.count % 2 else self.fresh())

    def rename(self, source: RelPath, target: RelPath) -> None:
        """As rename(2): over a file, or an empty directory, but never into itself."""
        node, old = self.nodes.get(source), self.nodes.get(target)
        if node is None or not self.room(target) or is_within(target, source) or is_within(source, target):
            return
        if old is not None and ((old.value == "/") is not (node.value == "/")):
            return
        if any(is_within(p, target) and p != target for p in self.nodes):
            return
        self.nodes.pop(target, None)
        for path in [p for p in self.nodes if is_within(p, source)]:
            self.nodes[relocate(path, source, target)] = self.nodes.pop(path)

    def swap(self, one: RelPath, place: RelPath) -> None:
        two = sorted(self.nodes)[len(place) % len(self.nodes)] if self.nodes else one
        if one in self.nodes and two in self.nodes and not is_within(one, two) and not is_within(two, one):
            aside = RelPath("aside")
            self.rename(one, aside)
            self.rename(two, one)
            self.rename(aside, two)

    @property
    def tree(self) -> Tree:
        return {p: n.value for p, n in self.nodes.items()}

    @property
    def moves(self) -> list[tuple[str, str]]:
        """(path in base, path now) of every object that is elsewhere now, or left its directory."""
        gone = {n.born for p, n in self.nodes.items() if n.born is not None and n.born != p}
        return [
            (n.born, p)
            for p, n in self.nodes.items()
            if n.born is not None and (n.born != p or any(up in gone for up in ancestors(p)))
        ]

    def places(self) -> dict[RelPath, tuple[RelPath, Node]]:
        """By path in base: where the object is now."""
        return {n.born: (p, n) for p, n in self.nodes.items() if n.born is not None}


PLAIN = ["edit", "edit", "create", "create", "remove", "remove", "folder", "link", "agree", "put_in_place"]
MOVING = [*PLAIN, *["rename"] * 8, "swap"]
BUILDING = ["folder", "folder", "create", "create", "link"]


def ops(names: list[str], size: int) -> st.SearchStrategy[list[Op]]:
    number = st.integers(0, 31)
    return st.lists(st.tuples(st.sampled_from(names), number, number, st.sampled_from(NAMES)), max_size=size)


def base_trees() -> st.SearchStrategy[Tree]:
    return ops(BUILDING, 14).map(lambda todo: History({}, "o").run(todo).tree)


def worlds(names: list[str], size: int = 6) -> st.SearchStrategy[tuple[Tree, History, History]]:
    """Base, and what happened on each side since."""
    return st.tuples(base_trees(), ops(names, size), ops(names, size)).map(
        lambda x: (x[0], History(x[0], "a").run(x[1]), History(x[0], "b").run(x[2]))
    )
