"""The mounted tree with all its verbs. One object per mount, used on the trio thread only.

Every method is synchronous, quick, and atomic against all others, but for those that are coroutines.
They raise `mountsync.errors`, or `ContentAbsent` and `ChildrenAbsent` when something must be fetched
first; the call is then made again.
"""

from __future__ import annotations

from mountsync.vfs.barrier import Barriers
from mountsync.vfs.bodies import Bodies
from mountsync.vfs.listing import Listing
from mountsync.vfs.renaming import Renaming
from mountsync.vfs.xattrs import ExtendedAttributes


class Volume(Renaming, Listing, ExtendedAttributes, Barriers, Bodies):
    """Names (`namespace`, `renaming`, `listing`), contents (`files`, `saving`, `filling`, `bodies`),
    attributes (`attributes`, `xattrs`) and durability (`barrier`) of one tree."""
