"""What a call insists on before it changes or reads a file."""

from __future__ import annotations

from mountsync.errors import IsADirectory, NotFound, Stale
from mountsync.storage.api import ABSENT, Expect
from mountsync.storage.chunker.layout import Layout


def insist_file(layout: Layout) -> None:
    """Raises NotFound or IsADirectory when no file or link is there."""
    if not layout.exists:
        raise NotFound("nothing is there", path=layout.path)
    if layout.is_directory:
        raise IsADirectory("it is a directory", path=layout.path)


def insist(layout: Layout, expect: Expect) -> None:
    """Raises Stale when the layout is not what was expected."""
    if expect is None:
        return
    if expect is ABSENT:
        if layout.exists:
            raise Stale("something is there where nothing was expected", path=layout.path)
    elif not layout.exists or layout.entry().token != expect:
        raise Stale("it is not the version that was expected", path=layout.path)


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
