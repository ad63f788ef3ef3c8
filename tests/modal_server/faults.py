"""What can be made to go wrong, and what was counted. All of it is set and read by tests."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class RpcFault:
    """The next `times` calls of `method` end with `status` (a grpclib Status name)."""

    method: str
    status: str
    times: int = 1
    message: str = "injected"
    retry_after: float | None = None
    """Sent as an RPCRetryPolicy detail: the server asks the client to come back after so many seconds."""
    after: bool = False
    """The call takes effect before its answer is lost."""
    skip: int = 0
    """So many calls go well first."""
    action: Callable[[], object] | None = None
    """Done on the server when the fault strikes: what somebody else does at that moment."""


@dataclass
class Faults:
    """Faults are off unless set. Counts go down as they are used."""

    rpc: list[RpcFault] = field(default_factory=list)
    conflict_status: str = "ALREADY_EXISTS"
    """How a create-if-absent is refused: the vendor knows ALREADY_EXISTS; INVALID_ARGUMENT was seen."""
    dedupe: str = "file"
    """`file`: a block is known only if that file holds it; `global`: if any file does."""
    directories_vanish: bool = False
    """A directory goes with its last file."""
    put_keeps_mtime: bool = False
    """A put that changes nothing leaves the mtime."""
    send_digest: bool = False
    """Block answers carry Repr-Digest."""
    list_batch: int = 1000
    list_dies_after: int | None = None
    """The next listing dies after so many batches ..."""
    list_deaths: int = 1
    """... so many times."""
    too_many_files: int | None = None
    """Listings of more entries than this are refused."""
    put_status: list[int] = field(default_factory=list)
    """HTTP statuses of the next block uploads; 0 drops the connection."""
    get_status: list[int] = field(default_factory=list)
    block_retry_after: str | None = None
    """Sent as Retry-After along with those."""
    put_urls_last: int | None = None
    """Of the upload URLs of one call so many are good, those that are used first; the rest is too old."""
    get_urls_last: int | None = None
    repr_digest: str | None = None
    """Sent as Repr-Digest whatever the body is; for the next so many downloads:"""
    repr_digests: int = 0
    get_drip: float = 0.0
    """Seconds between any two of a hundred pieces of a download."""
    get_truncate: int = 0
    """The next so many block downloads end early, chunked, with status 200."""
    get_dies_after: list[int] = field(default_factory=list)
    """The next block downloads announce all of the body; their connection ends after so many bytes."""
    get_overlong: int = 0
    get_corrupt: int = 0
    """The next so many block downloads have a flipped byte (with the digest of the true bytes, if any)."""
    invisible_lookups: int = 0
    """After a put the old state is seen by so many more lookups."""
    delay: float = 0.0
    """Seconds before each RPC is answered."""
    delay_of: dict[str, float] = field(default_factory=dict)
    """The same, by method."""
    list_pause: float = 0.0
    """Seconds after each batch of a listing."""
    block_delay: float = 0.0
    omit_zeros: bool = True
    """Leave trailing zeros off a body when the client said that it pads."""
    unreadable: set[str] = field(default_factory=set)
    """Directories whose listing is refused as too large."""


@dataclass
class Counts:
    """What the server was asked, for assertions on traffic."""

    rpc: Counter[str] = field(default_factory=Counter)
    puts: int = 0
    put_bytes: int = 0
    gets: int = 0
    get_bytes: int = 0
    blocks_now: int = 0
    blocks_most: int = 0
    """The most block transfers that were under way at once."""
    rpc_now: int = 0
    rpc_most: int = 0
    stale_urls: int = 0
    """Block URLs that were used when their time was over."""
    disconnects: int = 0
    """Block transfers that the client broke off."""
    connections: set[object] = field(default_factory=set)
    """Where block transfers came from: one address for each connection."""
