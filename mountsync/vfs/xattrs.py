"""Extended attributes: those of programs stay on this machine; `user.mountsync.*` are facts of ours."""

from __future__ import annotations

from typing import Final

from mountsync.errors import NoAttribute, PermissionDenied, TooLarge, Unsupported
from mountsync.vfs.attributes import Attributes

MAX_VALUE: Final = 64 << 10
_USER: Final = b"user."
_OURS: Final = b"user.mountsync."
SHA256: Final = _OURS + b"sha256"


class ExtendedAttributes(Attributes):
    """Verbs on extended attributes. Only the namespace `user` can be set."""

    def getxattr(self, node_id: int, name: bytes) -> bytes:
        """The value. Raises NoAttribute, or Unsupported for a namespace that is not kept.

        Programs that look at every file of a folder stop asking once they hear Unsupported.
        """
        if not name.startswith(_USER):
            raise Unsupported("this namespace of extended attributes is not kept")
        if name.startswith(_OURS):
            return self._inspect(node_id, name)
        found = self.database.value("SELECT value FROM xattr WHERE node = ? AND name = ?", (node_id, name))
        if found is None:
            raise NoAttribute("no such extended attribute")
        return bytes(found)

    def _inspect(self, node_id: int, name: bytes) -> bytes:
        fact = name[len(_OURS) :].decode("ascii", "replace")
        found = None if self.inspector is None else self.inspector.inspect(self.tree.node(node_id), fact)
        if found is None:
            raise NoAttribute("no such extended attribute")
        return found

    async def getxattr_computed(self, node_id: int, name: bytes) -> bytes:
        """As `getxattr`; a digest that nobody knows yet is computed of what is here, never fetched for."""
        try:
            return self.getxattr(node_id, name)
        except NoAttribute:
            node = self.tree.node(node_id)
            found = None if name != SHA256 or self.inspector is None else await self.inspector.digest(node)
            if found is None:
                raise
            return found

    def setxattr(self, node_id: int, name: bytes, value: bytes) -> None:
        """Sets an attribute; one ordered commit."""
        self._settable(name)
        if len(value) > MAX_VALUE:
            raise TooLarge(f"an extended attribute holds at most {MAX_VALUE} bytes")
        node = self.tree.node(node_id)
        with self.database.transaction:
            self.database.execute("INSERT OR REPLACE INTO xattr VALUES (?, ?, ?)", (node_id, name, value))
            self._changed(node.id)

    def removexattr(self, node_id: int, name: bytes) -> None:
        """Removes an attribute; one ordered commit. Raises NoAttribute."""
        self._settable(name)
        self.getxattr(node_id, name)
        with self.database.transaction:
            self.database.execute("DELETE FROM xattr WHERE node = ? AND name = ?", (node_id, name))
            self._changed(node_id)

    def _settable(self, name: bytes) -> None:
        self._refuse_read_only()
        if not name.startswith(_USER) or len(name) == len(_USER):
            raise Unsupported("this namespace of extended attributes is not kept")
        if name.startswith(_OURS):
            raise PermissionDenied("attributes of mountsync cannot be set")

    def _changed(self, node_id: int) -> None:
        opened = self._opened.get(node_id)
        node = self.tree.node(node_id)
        node.ctime_ns = self.clock()
        node.prepared = None
        if opened is None or not opened.unsaved:
            self.tree.save(node)
        self._stir()

    def listxattr(self, node_id: int) -> list[bytes]:
        """Names of the attributes that programs set, sorted."""
        self.tree.node(node_id)
        found = self.database.rows("SELECT name FROM xattr WHERE node = ? ORDER BY name", (node_id,))
        return [row[0] for row in found]
