"""The forms of every `--json` output. `docs/json.schema.json` is generated from them."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from mountsync.control.protocol import Conflicts
from mountsync.model.status import Status


class Failed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why something could not be done: the class of `mountsync.errors` and a sentence."""

    class_: str = msgspec.field(name="class")
    message: str
    path: str | None = None


class Silent(msgspec.Struct, frozen=True, kw_only=True):
    """A mount that does not answer."""

    mountpoint: str
    error: Failed


class Mounts(msgspec.Struct, frozen=True, kw_only=True):
    """`status` without a mount point."""

    version: int = 1
    mounts: list[Status]
    silent: list[Silent] = []
    jobs: list[Status] = []
    """Jobs of the daemon."""


class ListedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One object of a remote. `size` in bytes; `mtime` in ISO 8601, UTC; null where there is none."""

    path: str
    kind: str
    """`file`, `directory` or `symlink`."""
    size: int
    mtime: str | None
    mtime_ns: int | None
    target: str | None
    sha256: str | None
    """Only where the remote tells it in a listing."""


class ListedProblem(msgspec.Struct, frozen=True, kw_only=True):
    """A path that could not be looked at."""

    path: str
    reason: str


class Entries(msgspec.Struct, frozen=True, kw_only=True):
    """`ls`, `lsl`, `lsd`, `lsf`."""

    version: int = 1
    remote: str
    entries: list[ListedEntry]
    problems: list[ListedProblem]


class FileDigest(msgspec.Struct, frozen=True, kw_only=True):
    """A file and its digest in lower-case hexadecimal."""

    path: str
    digest: str


class Digests(msgspec.Struct, frozen=True, kw_only=True):
    """`hashsum`."""

    version: int = 1
    remote: str
    hash: str
    files: list[FileDigest]
    problems: list[ListedProblem]


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One check of `doctor`; `level` is `ok`, `note` or `wrong`, `fix` the next step."""

    check: str
    level: str
    found: str
    fix: str | None = None


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """`doctor`."""

    version: int = 1
    findings: list[Finding]


class Versions(msgspec.Struct, frozen=True, kw_only=True):
    """`version`: names of parts and their versions."""

    version: int = 1
    versions: dict[str, str]


class Configured(msgspec.Struct, frozen=True, kw_only=True):
    """`config show`: sections by name, secrets as stars."""

    version: int = 1
    file: str
    remotes: dict[str, dict[str, Any]]
    mounts: dict[str, dict[str, Any]]
    jobs: dict[str, dict[str, Any]]


class ImportedRemote(msgspec.Struct, frozen=True, kw_only=True):
    """A remote that was taken over from rclone."""

    name: str
    type: str
    left_out: list[str]
    """Options of rclone's that mean nothing here."""
    note: str | None
    """What is still to be done for it to work."""


class SkippedRemote(msgspec.Struct, frozen=True, kw_only=True):
    """A remote of rclone's that was not taken over."""

    name: str
    type: str
    reason: str


class ImportedRemotes(msgspec.Struct, frozen=True, kw_only=True):
    """`config import-rclone`."""

    version: int = 1
    file: str
    imported: list[ImportedRemote]
    skipped: list[SkippedRemote]


class Damage(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that `fsck` found wrong."""

    path: str | None
    what: str
    repaired: bool


class Verified(msgspec.Struct, frozen=True, kw_only=True):
    """`fsck`."""

    version: int = 1
    subject: str
    checked: int
    damages: list[Damage]


class Exported(msgspec.Struct, frozen=True, kw_only=True):
    """`export`. `missing`: files whose bytes are only on the remote."""

    version: int = 1
    files: int
    bytes: int
    missing: list[str]
    failed: list[Failed]


class SyncAction(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that was done, or with `dry_run` would be. `target`: where a rename leads."""

    side: str
    """The side that was changed: `a` or `b`."""
    what: str
    path: str
    target: str | None


class SyncConflict(msgspec.Struct, frozen=True, kw_only=True):
    """A path that both sides changed; sizes in bytes, times in ns since 1970, null for absence."""

    path: str
    reason: str
    a_size: int | None
    a_mtime_ns: int | None
    b_size: int | None
    b_mtime_ns: int | None


class SyncResolved(msgspec.Struct, frozen=True, kw_only=True):
    """A conflict that the policy settled; `copy`: where the other version is kept, on both sides."""

    path: str
    policy: str
    winner: str
    copy: str | None


class SyncProblem(msgspec.Struct, frozen=True, kw_only=True):
    """A path that could not be synced; `error` is a class of `mountsync.errors`."""

    path: str
    reason: str
    error: str


class Synced(msgspec.Struct, frozen=True, kw_only=True):
    """`bisync`, `copy` and `sync`."""

    version: int = 1
    a: str
    b: str
    dry_run: bool
    exit_code: int
    first: bool
    unknown: str | None
    """Why nothing was concluded from an earlier sync."""
    halted: str | None
    actions: list[SyncAction]
    conflicts: list[SyncConflict]
    resolved: list[SyncResolved]
    problems: list[SyncProblem]
    entries_a: int
    entries_b: int
    bytes_moved: int
    hashed: int
    backups_a: int
    backups_b: int
    seconds: float


class Compared(msgspec.Struct, frozen=True, kw_only=True):
    """`check`."""

    version: int = 1
    a: str
    b: str
    by: str
    equal: int
    only_a: list[str]
    only_b: list[str]
    differ: list[str]
    problems: list[SyncProblem]


class KeptObject(msgspec.Struct, frozen=True, kw_only=True):
    """One version in the backups."""

    job: str
    stamp: str
    path: str
    size: int


class KeptObjects(msgspec.Struct, frozen=True, kw_only=True):
    """`backups list`, and what `backups restore` brought back and `backups prune` removed."""

    version: int = 1
    remote: str
    backups: list[KeptObject]


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """`stop`."""

    version: int = 1
    stopped: list[str]
    """Jobs that run no more."""
    daemon: bool
    """The daemon was ended; its jobs come back with it."""


class Leftover(msgspec.Struct, frozen=True, kw_only=True):
    """One object of a chunker's base that no file uses."""

    path: str
    owner: str
    """The file whose chunk it was, or was to be."""
    size: int
    reason: str
    """`temporary`: of an upload that was never finished; `unfinished`: of one that this machine has under
    way or can take up again; `orphan`: in its final place, without a file."""
    age: float | None
    """Seconds; null when it cannot be told."""
    removed: bool


class Leftovers(msgspec.Struct, frozen=True, kw_only=True):
    """`gc`."""

    version: int = 1
    remote: str
    leftovers: list[Leftover]
    problems: list[ListedProblem]


FORMS: Final[dict[str, Any]] = {
    "status": Mounts,
    "status MOUNTPOINT": Status,
    "flush": Status,
    "conflicts": Conflicts,
    "ls": Entries,
    "lsd": Entries,
    "lsl": Entries,
    "lsf": Entries,
    "hashsum": Digests,
    "config show": Configured,
    "config import-rclone": ImportedRemotes,
    "fsck": Verified,
    "export": Exported,
    "gc": Leftovers,
    "doctor": Findings,
    "bisync": Synced,
    "copy": Synced,
    "sync": Synced,
    "check": Compared,
    "backups list": KeptObjects,
    "backups restore": KeptObjects,
    "backups prune": KeptObjects,
    "start": Status,
    "start --dry-run": Synced,
    "stop": Stopped,
    "version": Versions,
}
"""The form of the output of each command with `--json`."""


def json_schema() -> dict[str, Any]:
    """JSON Schema of every output."""
    kinds = list(dict.fromkeys(FORMS.values()))
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/$defs/{name}")
    by_kind = dict(zip(kinds, schemas, strict=True))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mountsync --json",
        "commands": {name: by_kind[kind] for name, kind in FORMS.items()},
        "$defs": components,
    }
