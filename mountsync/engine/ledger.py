"""Which places are being worked on, and which observations are still true.

Cycles run side by side when they share no place and no changed node, and none renames or removes a
directory above another's place. An observation of the remote says nothing about a place that we changed
ourselves since it began.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mountsync.engine.scope import Place
from mountsync.state.tree import NodeId


@dataclass(frozen=True, slots=True)
class Claim:
    """What one cycle works on."""

    places: frozenset[Place]
    folders: frozenset[NodeId]
    shifted: frozenset[NodeId]
    nodes: frozenset[NodeId]


class Observation:
    """A look at the remote that began at some moment."""

    def __init__(self, ledger: Ledger, began: int) -> None:
        self._ledger = ledger
        self.began = began

    def holds_for(self, place: Place) -> bool:
        """Whether we have not touched the place since the look began."""
        return not self._ledger.is_claimed(place) and not self._ledger.changed_since(place, self.began)


class Ledger:
    """The claims of all cycles of one session."""

    def __init__(self) -> None:
        self._places: set[Place] = set()
        self._folders: Counter[NodeId] = Counter()
        self._shifted: Counter[NodeId] = Counter()
        self._nodes: set[NodeId] = set()
        self._sequence = 0
        self._changed: dict[Place, int] = {}
        self._looks: Counter[int] = Counter()
        self.on_release: Callable[[], None] = _nothing

    def claim(
        self,
        places: Iterable[Place],
        folders: Iterable[NodeId],
        shifted: Iterable[NodeId],
        nodes: Iterable[NodeId],
    ) -> Claim | None:
        """Takes the places and the changed nodes for a cycle; None when another cycle is in the way.

        A node whose first upload is under way has no place in the base yet: renamed meanwhile, its new
        place is free, but nobody knows of the object under its old name before that upload has ended.
        """
        wanted = Claim(frozenset(places), frozenset(folders), frozenset(shifted), frozenset(nodes))
        if not self._places.isdisjoint(wanted.places) or not self._nodes.isdisjoint(wanted.nodes):
            return None
        if any(node in self._folders for node in wanted.shifted):
            return None
        if any(node in self._shifted for node in wanted.folders):
            return None
        self._places |= wanted.places
        self._folders.update(wanted.folders)
        self._shifted.update(wanted.shifted)
        self._nodes |= wanted.nodes
        return wanted

    def release(self, claim: Claim) -> None:
        """Gives the places back; observations that began before now are void for them."""
        self._places -= claim.places
        self._take(self._folders, claim.folders)
        self._take(self._shifted, claim.shifted)
        self._nodes -= claim.nodes
        self._sequence += 1
        if self._looks:
            self._changed.update(dict.fromkeys(claim.places, self._sequence))
        self.on_release()

    @staticmethod
    def _take(counter: Counter[NodeId], nodes: Iterable[NodeId]) -> None:
        for node in nodes:
            counter[node] -= 1
            if counter[node] <= 0:
                del counter[node]

    def is_changing(self, node: NodeId) -> bool:
        """Whether a cycle is about changes of this node now."""
        return node in self._nodes

    def is_shifting(self, node: NodeId) -> bool:
        """Whether a cycle renames or removes a node now."""
        return node in self._shifted

    def is_claimed(self, place: Place) -> bool:
        """Whether a cycle works on the place now."""
        return place in self._places

    def changed_since(self, place: Place, began: int) -> bool:
        """Whether a cycle that worked on the place ended after that moment."""
        return self._changed.get(place, 0) > began

    @property
    def is_idle(self) -> bool:
        """Whether no cycle runs."""
        return not self._places

    @contextmanager
    def looking(self) -> Iterator[Observation]:
        """A look at the remote begins; it is true only as far as `Observation.holds_for` says."""
        began = self._sequence
        self._looks[began] += 1
        try:
            yield Observation(self, began)
        finally:
            self._looks[began] -= 1
            if not self._looks[began]:
                del self._looks[began]
            if not self._looks:
                self._changed.clear()


def _nothing() -> None:
    """Nobody waits."""
