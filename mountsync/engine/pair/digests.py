"""Digests that are known already: from the base, or computed in an earlier run."""

from __future__ import annotations

from collections.abc import Mapping

from mountsync.model.entry import Digest, Token
from mountsync.model.side import Side
from mountsync.paths import RelPath
from mountsync.state.pairs import PairState, Rows, form_of


class PairDigests:
    """The cache of a pair. Rows of the base count even when nothing else is concluded from them."""

    def __init__(self, state: PairState, rows: Rows, identities: Mapping[Side, str]) -> None:
        self._state = state
        self._rows = rows
        self._a = identities[Side.A]
        self._fresh: dict[tuple[str, RelPath], tuple[Token, Digest]] = {}

    def find(self, storage: str, path: RelPath, token: Token) -> Digest | None:
        """The digest of that version, None when it was not computed yet."""
        fresh = self._fresh.get((storage, path))
        if fresh is not None and fresh[0] == token:
            return fresh[1]
        packed = self._rows.get(path)
        if packed is not None:
            form = form_of(packed)
            if form.digest is not None and (form.a if storage == self._a else form.b) == token:
                return Digest(form.digest.hex())
        return self._state.find_digest(storage, path, token)

    def store(self, storage: str, path: RelPath, token: Token, digest: Digest) -> None:
        """Remembers a digest; `flush` makes it outlive this run."""
        self._fresh[storage, path] = (token, digest)

    def flush(self) -> None:
        """Writes down what was computed."""
        self._state.store_digests((s, path, token, d) for (s, path), (token, d) in self._fresh.items())
        self._fresh.clear()
