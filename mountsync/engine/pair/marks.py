"""The mark that a pair leaves on both sides: it names the base that belongs to what is there.

A base that was put back from a backup has an older mark than the sides; a side that was replaced has
none. Either way nothing may be concluded from the base.
"""

from __future__ import annotations

import secrets
from typing import Final

from mountsync.errors import NotFound, PathError
from mountsync.paths import OURS, RelPath
from mountsync.state.pairs import PairState
from mountsync.storage.api import Storage
from mountsync.storage.sources import BytesSource

_LONGEST: Final = 200


def place_of(pair_id: str) -> RelPath:
    """Where the mark of a pair is, on either side."""
    return RelPath(f"{OURS}/pairs/{pair_id}")


def fresh() -> str:
    """A new mark."""
    return secrets.token_hex(16)


async def read(storage: Storage, pair_id: str) -> str | None:
    """The mark on a side, None when there is none, `!` and why when it cannot be read. Raises Unreachable."""
    try:
        async with storage.read(place_of(pair_id), 0, _LONGEST) as pieces:
            return b"".join([piece async for piece in pieces]).decode("ascii", "replace").strip()
    except NotFound:
        return None
    except PathError as error:
        return f"!{error.reason}"


async def write(storage: Storage, pair_id: str, mark: str) -> None:
    """Leaves the mark on a side."""
    await storage.write(place_of(pair_id), BytesSource(mark.encode("ascii") + b"\n"))


def contradiction(state: PairState, on_sides: list[str | None], *, confirmed: bool) -> str | None:
    """Why the base does not belong to what the sides hold, None when it does.

    The mark before the last one counts too: the process may have died between the commit and the marks.
    `confirmed`: a missing mark is taken as it is, because a person has looked.
    """
    own = state.setting("mark")
    if own is None:
        return None
    for found in on_sides:
        if found is not None and found.startswith("!"):
            return f"what belongs to it on a side cannot be read: {found[1:]}"
        if found is None and not confirmed:
            return "a side was replaced, or lost its folder .mountsync, since the last sync"
        if found is not None and found not in (own, state.setting("previous")):
            return "it is older than what the sides hold: was it put back from a backup?"
    return None
