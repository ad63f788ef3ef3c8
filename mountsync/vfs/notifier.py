"""How the tree tells a kernel that something changed behind its back."""

from __future__ import annotations

from typing import Protocol

from mountsync.state.tree import NodeId


class KernelNotifier(Protocol):
    """Calls return at once; the kernel is told from a task or thread of the notifier's own, in order."""

    def entry_appeared(self, parent: NodeId, name: bytes) -> None:
        """A name that the kernel may remember as missing exists now."""
        ...

    def entry_changed(self, parent: NodeId, name: bytes) -> None:
        """A name leads to another node now."""
        ...

    def entry_vanished(self, parent: NodeId, name: bytes, node: NodeId) -> None:
        """A name is gone; `node` is what it led to."""
        ...

    def attributes_changed(self, node: NodeId) -> None:
        """Attributes of a node changed, its content did not."""
        ...

    def content_changed(self, node: NodeId) -> None:
        """Content of a node changed under the kernel's pages."""
        ...


class NoKernel:
    """For a tree that is not mounted."""

    def entry_appeared(self, parent: NodeId, name: bytes) -> None:
        """Nobody to tell."""

    def entry_changed(self, parent: NodeId, name: bytes) -> None:
        """Nobody to tell."""

    def entry_vanished(self, parent: NodeId, name: bytes, node: NodeId) -> None:
        """Nobody to tell."""

    def attributes_changed(self, node: NodeId) -> None:
        """Nobody to tell."""

    def content_changed(self, node: NodeId) -> None:
        """Nobody to tell."""
