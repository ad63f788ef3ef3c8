"""Which names a volume holds, and which files on it are none of the user's. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from mountsync.errors import NameRefused, PathError
from mountsync.formats.modal_sidecar import FOLDER, RCLONE_NAME
from mountsync.paths import OURS, RelPath, is_text, name_of
from mountsync.storage.api import NameRules

KEEPER: Final = ".mountsync-keep"
"""The name of the empty file that holds a directory open where directories go with their last file."""

GOOD_VOLUMES: Final = "names of volumes are of letters, digits, `-`, `_` and `.`, 64 at most"
_VOLUME: Final = re.compile(r"(?!\.{1,2}$)(?!ap-[a-zA-Z0-9]{22}$)[a-zA-Z0-9_.-]{1,64}")


def is_volume_name(name: str) -> bool:
    """Whether we use a volume of this name. One that is called `.mountsync` would be taken for ours."""
    return _VOLUME.fullmatch(name) is not None and name != OURS


def beside(name: str) -> RelPath:
    """Where the problem of a volume's name is told that can be no path: it covers nothing else there."""
    return RelPath(ascii(name).replace("/", "%2F"))


def is_hidden(path: str, *, with_sidecar: bool) -> bool:
    """Whether the path, from the root of a volume, is no file of the user's."""
    if path.rpartition("/")[2] == KEEPER:
        return True
    if not with_sidecar:
        return False
    return path in (RCLONE_NAME, FOLDER) or path.startswith(f"{FOLDER}/")


@dataclass(frozen=True, slots=True)
class ModalNames(NameRules):
    """UTF-8, and nothing that is hidden. `base`: the storage's root, from the list of volumes."""

    utf8_only: bool = True
    base: str = ""
    with_sidecar: bool = True

    def refusal(self, path: RelPath, *, size: int = 0) -> PathError | None:
        """The error that making `path` would meet, or None."""
        return NameRules.refusal(self, path, size=size) or self.unseen(path) or self._no_volume(path)

    def _no_volume(self, path: RelPath) -> NameRefused | None:
        name = self.split(path)[0]
        if not path or self.base or is_volume_name(name):
            return None
        if name == OURS:
            reason = "the list of volumes has no room for backups and notes of mountsync: name a volume"
            return NameRefused(reason, path=path)
        return NameRefused("a volume cannot have this name", path=path, hint=GOOD_VOLUMES)

    def depends_on_place(self, name: str) -> bool:
        """Whether another folder can make a difference."""
        if not self.base and not is_volume_name(name):
            return True
        return self.with_sidecar and name in (RCLONE_NAME, name_of(RelPath(FOLDER)))

    def unseen(self, path: RelPath) -> NameRefused | None:
        """Why nothing can ever be seen at `path`, None when something can."""
        if not is_text(path):
            return NameRefused("the remote holds only names that are valid UTF-8", path=path)
        if is_hidden(self.split(path)[1], with_sidecar=self.with_sidecar):
            return NameRefused(
                "this name is kept for what is noted of other files", path=path, hint="choose another one"
            )
        return None

    def split(self, path: RelPath) -> tuple[str, str]:
        """The volume's name (empty for the list of volumes) and the path inside it."""
        name, _, inner = f"{self.base}/{path}".strip("/").partition("/")
        return name, inner
