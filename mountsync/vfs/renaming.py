"""rename(2) with all its cases."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from mountsync.errors import (
    AlreadyExists,
    IsADirectory,
    NameRefused,
    NotADirectory,
    NotFound,
)
from mountsync.paths import from_bytes
from mountsync.state.tree import Node
from mountsync.vfs.namespace import Namespace

NOREPLACE: Final = 1
EXCHANGE: Final = 2


@dataclass(frozen=True, slots=True)
class _Move:
    """A rename that was looked up: `node` at (source, name) goes to (target, new_name) over `over`."""

    source: Node
    name: bytes
    node: Node
    target: Node
    new_name: bytes
    over: Node | None


class Renaming(Namespace):
    """Verb rename. One ordered commit."""

    def rename(
        self, parent_id: int, name: bytes, new_parent_id: int, new_name: bytes, flags: int = 0
    ) -> None:
        """Moves a name; what it replaces loses its name. `flags`: NOREPLACE or EXCHANGE of renameat2(2).

        Raises NotFound, AlreadyExists, DirectoryNotEmpty, IsADirectory, NotADirectory, NameRefused (into
        its own subtree, unknown flags), ChildrenAbsent.
        """
        if flags not in (0, NOREPLACE, EXCHANGE):
            raise NameRefused("these rename flags are not known")
        source = self._directory(parent_id)
        target = self._vacant(new_parent_id, new_name)
        if new_parent_id == parent_id:
            source = target
        node = self._child(source, name)
        if node is None:
            raise NotFound("there is no such name")
        move = _Move(source, name, node, target, new_name, self._child(target, new_name))
        if node.is_file:
            self._refuse_size(move.target.id, new_name, node.size)
        if flags == EXCHANGE:
            self._exchange(move)
        elif self._may_replace(move, flags):
            self._replace(move)

    def _may_replace(self, move: _Move, flags: int) -> bool:
        over = move.over
        if over is not None and flags == NOREPLACE:
            raise AlreadyExists("something has this name already")
        self._refuse_own_subtree(move.node, move.target)
        if over is None:
            return True
        if over.id == move.node.id:
            return False  # two names of one file: POSIX says that nothing happens
        if move.node.is_directory and not over.is_directory:
            raise NotADirectory("a directory cannot replace a file")
        if over.is_directory:
            if not move.node.is_directory:
                raise IsADirectory("a file cannot replace a directory")
            self._refuse_full(over)
        return True

    def _refuse_own_subtree(self, node: Node, target: Node) -> None:
        if node.is_directory and self.tree.is_below(target.id, node.id):
            raise NameRefused("a directory cannot be moved into itself")

    def _replace(self, move: _Move) -> None:
        now = self.clock()
        over, node = move.over, move.node
        removed = False
        comes_out = self._is_hidden_directory(move.source, move.name, node)
        with self.database.transaction:
            self.tree.unlink(move.source.id, move.name)
            self.tree.relink(move.target.id, move.new_name, node.id)
            lost = 1 if over is not None and over.is_directory else 0
            moved = 1 if node.is_directory else 0
            if move.source is move.target:
                self._touch_parent(move.source, now, links=-lost)
            else:
                self._touch_parent(move.source, now, links=-moved)
                self._touch_parent(move.target, now, links=moved - lost)
            node.ctime_ns = now
            self.tree.save(node)
            self._note(node, now)
            if comes_out:
                self._note_below(node, now)
            if over is not None:
                removed = self._lose_name(over, now)
        self._forget_room()
        self._stir()
        if removed and over is not None:
            self.store.remove(over.id)

    def _exchange(self, move: _Move) -> None:
        over, node = move.over, move.node
        if over is None:
            raise NotFound("there is nothing to exchange with")
        self._refuse_own_subtree(node, move.target)
        self._refuse_own_subtree(over, move.source)
        refusal = self._refusal(move.source.id, move.name, over.size if over.is_file else 0)
        if refusal is not None:
            raise refusal
        if over.id == node.id:
            return
        now = self.clock()
        coming_out = [
            each
            for each, above, name in ((node, move.source, move.name), (over, move.target, move.new_name))
            if self._is_hidden_directory(above, name, each)
        ]
        with self.database.transaction:
            self.tree.relink(move.source.id, move.name, over.id)
            self.tree.relink(move.target.id, move.new_name, node.id)
            shift = int(node.is_directory) - int(over.is_directory)
            if move.source is move.target:
                self._touch_parent(move.source, now)
            else:
                self._touch_parent(move.source, now, links=-shift)
                self._touch_parent(move.target, now, links=shift)
            for each in (node, over):
                each.ctime_ns = now
                self.tree.save(each)
                self._note(each, now)
            for each in coming_out:
                self._note_below(each, now)
        self._forget_room()
        self._stir()

    def _is_hidden_directory(self, above: Node, name: bytes, node: Node) -> bool:
        """Whether a directory is at a path that never travels, in the trash for example."""
        if not node.is_directory:
            return False
        folder = self.tree.path(above.id)
        return folder is not None and self.rules.hides(from_bytes(b"/".join(filter(None, (folder, name)))))

    def _note_below(self, node: Node, now: int) -> None:
        """All below a directory that begins to travel: nothing of it is known to the remote."""
        for below in self.tree.below(node.id):
            self._note(self.tree.node(below), now)
