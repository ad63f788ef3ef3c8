"""How the headers of gRPC calls are written: most are the same each time, the rest never are."""

from __future__ import annotations

from typing import Final

from hpack import Encoder
from hpack.hpack import encode_integer

_ONCE: Final = frozenset({b"x-idempotency-key", b"x-modal-timestamp", b"grpc-timeout"})
"""Headers with another value in each call: to put them into the table drives out those that come again."""
_UNINDEXED: Final = b"\x00"
"""A literal without indexing, with a new name: RFC 7541, section 6.2.2."""
_INDEXED: Final = 0x80
"""Marks a header that is an index into the table and no more: section 6.1."""


class Headers(Encoder):
    """An encoder of one connection that remembers what the headers were written as that come again."""

    def __init__(self) -> None:
        super().__init__()
        self._known: dict[tuple[bytes, bytes], bytes] = {}
        """Indexes, as bytes; they hold as long as nothing is added to the table."""

    def add(self, to_add: tuple[bytes, bytes], sensitive: bool, huffman: bool = False) -> bytes:
        """As `Encoder.add`."""
        known = self._known.get(to_add)
        if known is not None and not sensitive:
            return known
        if to_add[0] in _ONCE:
            return _literal(*to_add)
        written = super().add(to_add, sensitive, huffman)
        if written[0] & _INDEXED:
            self._known[to_add] = written
        else:
            self._known.clear()
        return written

    @property
    def header_table_size(self) -> int:
        """Bytes of the table, as the other side allows them. A table that shrinks forgets."""
        return self.header_table.maxsize

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        if value == self.header_table.maxsize:
            return  # hpack would forget that a change of it is still to be told
        self._known.clear()
        Encoder.header_table_size.fset(self, value)  # type: ignore[attr-defined] # a property has it


def _literal(name: bytes, value: bytes) -> bytes:
    """Plain: what Huffman's code would save is not worth the time."""
    parts = (_UNINDEXED, encode_integer(len(name), 7), name, encode_integer(len(value), 7), value)
    return b"".join(parts)
