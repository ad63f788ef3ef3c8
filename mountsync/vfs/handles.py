"""What is open: one `OpenFile` per node that somebody uses, one `Handle` per open(2)."""

from __future__ import annotations

from dataclasses import dataclass, field

from mountsync.state.tree import Node


@dataclass(slots=True, eq=False)
class OpenFile:
    """The state in memory of a file that is open; its content is `data`, or behind `fd`, or not here.

    `data`: the whole content while it is small and may change; it rules over the rows.
    `clean`: the whole content of a blob that was read, as the row has it.
    `fd`: the content file, -1 when it is not open.
    `unsaved`: memory or the content file hold changes that the rows do not describe yet.
    `touched`: the journal says that bytes of the content file are being changed in place.
    `soft`: the file was created by a transaction that is not committed yet.
    `writes`: counts changes of the content.
    `finished`: the count at the last close, flush or fsync: a program was done with what it wrote until then.
    `room`: up to this many bytes its names are known to bear; 0 when they were not asked yet.
    """

    node: Node
    handles: int = 0
    data: bytearray | None = None
    clean: bytes | None = None
    fd: int = -1
    unsaved: bool = False
    touched: bool = False
    soft: bool = False
    writes: int = 0
    finished: int = 0
    room: int = 0


@dataclass(slots=True, eq=False)
class Handle:
    """One open(2) of a file; `id` is what the kernel calls it by."""

    id: int
    file: OpenFile
    flags: int
    privileged: bool = True
    """Whether writes keep the setuid and setgid bits."""


@dataclass(slots=True, eq=False)
class DirHandle:
    """One opendir(3). `names` are those given so far: offset n means "after names[n - 1]"."""

    id: int
    node: Node
    names: list[bytes] = field(default_factory=list)
