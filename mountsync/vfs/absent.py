"""Signals that something must be fetched first. Whoever serves the kernel fetches and asks again."""

from __future__ import annotations

from dataclasses import dataclass

from mountsync.state.tree import NodeId


@dataclass(slots=True)
class ContentAbsent(Exception):
    """The bytes `[start, stop)` of a file are not all here."""

    node: NodeId
    start: int
    stop: int


@dataclass(slots=True)
class ChildrenAbsent(Exception):
    """The entries of a directory were never listed."""

    node: NodeId
