"""Digests that were computed once, valid while the storage reports the same token for the path."""

from __future__ import annotations

from mountsync.model.entry import Digest, Token
from mountsync.paths import RelPath, to_bytes
from mountsync.state.database import Database


class Digests:
    """The cache of one database; `storage` is `StorageInfo.identity`."""

    def __init__(self, database: Database) -> None:
        self._db = database

    def find(self, storage: str, path: RelPath, token: Token) -> Digest | None:
        """The digest of that content, None when it was not computed yet."""
        found = self._db.value(
            "SELECT digest FROM digest WHERE storage = ? AND path = ? AND token = ?",
            (storage, to_bytes(path), token),
        )
        return None if found is None else Digest(found.hex())

    def store(self, storage: str, path: RelPath, token: Token, digest: Digest) -> None:
        """Remembers a digest; an older one of that path is forgotten."""
        with self._db.transaction:
            self._db.execute(
                "INSERT OR REPLACE INTO digest VALUES (?, ?, ?, ?)",
                (storage, to_bytes(path), token, bytes.fromhex(digest)),
            )
