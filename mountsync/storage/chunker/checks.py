"""What a call insists on before it changes or reads a file."""

from __future__ import annotations

from mountsync.errors import IsADirectory, NotFound
from mountsync.storage.api import Expect
from mountsync.storage.chunker.layout import Layout
from mountsync.storage.expectations import refuse_stale


def insist_file(layout: Layout) -> None:
    """Raises NotFound or IsADirectory when no file or link is there."""
    if not layout.exists:
        raise NotFound("nothing is there", path=layout.path)
    if layout.is_directory:
        raise IsADirectory("it is a directory", path=layout.path)


def insist(layout: Layout, expect: Expect) -> None:
    """Raises Stale when the layout is not what was expected."""
    if expect is not None:  # the token of many chunks takes its time
        refuse_stale(layout.entry() if layout.exists else None, expect, layout.path)


def insist_replaceable(layout: Layout, expect: Expect) -> None:
    """Raises what keeps a file from being written where the layout is: IsADirectory, Stale, Unsupported."""
    if layout.is_directory:
        raise IsADirectory("a directory is there", path=layout.path)
    insist(layout, expect)
    refuse_future(layout)


def refuse_future(layout: Layout) -> None:
    """Raises Unsupported for a file of a newer chunker: we must not change what we do not know."""
    if layout.future is not None:
        refusal = layout.refusal()
        assert refusal is not None
        raise refusal
