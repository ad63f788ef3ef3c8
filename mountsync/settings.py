"""What a mount is asked to do: one typed value, and the table of options that it comes from.

Each option is a flag (`--cache-size`), an environment variable (`MOUNTSYNC_CACHE_SIZE`) and a key of
`[mount.NAME]` (`cache_size`). `MOUNT_OPTIONS` is the only list of them; flags, checks of the
configuration and documentation follow from it.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Final

from mountsync.errors import ConfigError, UsageError
from mountsync.formats.local_names import LocalNames
from mountsync.formats.sizes import Bandwidth, parse_bandwidth, parse_duration, parse_size
from mountsync.model.plan import ConflictPolicy

NO_DELETE_LIMIT: Final = (1 << 63) - 1
"""`max_delete = "off"`: a cycle may delete any number of entries."""


NO_BANDWIDTH_LIMIT: Final = Bandwidth()
ONLY_USUAL: Final = LocalNames()


class Durability(Enum):
    """When a closed file is safe from power loss; from the death of the process it is safe at once."""

    FSYNC = "fsync"
    """Within 5 s of close, at once after fsync, as POSIX has it."""
    CLOSE = "close"
    """At once: close does what fsync does."""


class Thumbnails(Enum):
    """What programs get that look into every file of a folder by themselves: thumbnailers, indexers."""

    ALLOW = "allow"
    """Every content, downloaded for them where it is not here."""
    REFUSE = "refuse"
    """What is here; EACCES where it would have to be downloaded."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address to listen at."""

    host: str
    port: int
    """0: any that is free."""


def parse_endpoint(text: str) -> Endpoint:
    """`9100`, `127.0.0.1:9100`, `[::1]:9100`; without a host it is this machine alone. Raises UsageError."""
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    is_bracketed = host == f"[{bare}]"
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535 or (":" in bare and not is_bracketed):
        raise UsageError(f"{text!r} is not HOST:PORT", hint="write 127.0.0.1:9100")
    return Endpoint(bare or "127.0.0.1", int(port))


@dataclass(frozen=True, slots=True, kw_only=True)
class MountSettings:
    """One mount, every option resolved and typed. Sizes in bytes, durations in seconds."""

    name: str
    """What the user called it: the name of a `[mount.NAME]` section, else the remote's text."""
    remote: str
    """The remote spec, local paths made absolute."""
    mountpoint: Path
    """Absolute; never resolved through its last part, which may be a dead mount."""
    state_dir: Path
    """The folder for state.db, content/ and control.sock; may not exist yet, make it 0700."""
    backend_options: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """Options that flags gave for a remote type: `{"chunker": {"chunk_size": "4M"}}`; they win."""
    config_path: Path
    """The configuration file, whether it exists or not."""
    cache_size: int | None = None
    """Clean content beyond this is evicted; None: no limit."""
    poll_interval: float = 60.0
    """The longest time between two looks at the remote; 0: never by itself."""
    write_delay: float = 5.0
    """Rest after the last close before a file is uploaded."""
    durability: Durability = Durability.FSYNC
    conflict: ConflictPolicy = ConflictPolicy.KEEP_BOTH
    read_only: bool = False
    allow_other: bool = False
    exec: bool = True
    """Whether programs in the folder can be run."""
    uid: int | None = None
    """Owner shown for what comes from the remote; None: the user who mounts."""
    gid: int | None = None
    umask: int | None = None
    """Bits taken from the mode of remote objects that have none; None: the process's umask."""
    transfers: int = 4
    """How many bodies travel at once, at most."""
    bwlimit: Bandwidth = NO_BANDWIDTH_LIMIT
    filter_from: Path | None = None
    """A file with gitignore patterns; what they match is invisible on both sides and never deleted."""
    max_delete: int | None = None
    """A cycle that would delete more entries halts. None: half of the entries and more than 20."""
    local_only: LocalNames = ONLY_USUAL
    """Which names stay on this machine: temporary and lock files of programs."""
    offline: bool = False
    """Start without asking the remote; nothing travels until `resume`."""
    thumbnails: Thumbnails = Thumbnails.REFUSE
    drain: float = 0.0
    """How long SIGTERM lets what is left be uploaded before the mount ends; the rest is kept."""
    metrics: Endpoint | None = None
    """Where figures for Prometheus are served; None: nowhere."""
    log_level: str = "info"
    log_format: str = "auto"
    log_file: Path | None = None
    source: str | None = None
    """What mount tables show; None: the remote."""
    ready_fd: int = 1
    """Where `announce_ready` writes; standard output, or the pipe of `--daemon`."""
    lock_wait: float = 0.0
    """How long another process may take to end that has unmounted already, but still holds the state."""
    detach: bool = False
    """Leave the caller's session when ready. Not sooner: an automount lets only its own group pass."""

    def announce_ready(self) -> None:
        """Says that programs can use the folder: the line `mounted REMOTE on MOUNTPOINT`."""
        line = f"mounted {self.remote} on {self.mountpoint}\n"
        os.write(self.ready_fd, line.encode("utf-8", "surrogateescape"))
        if self.ready_fd > 2:
            os.close(self.ready_fd)
        if self.detach:
            os.setsid()

    @property
    def control_socket(self) -> Path:
        """Where the mount listens for `mountsync status` and the like."""
        return self.state_dir / "control.sock"


def state_root(environment: Mapping[str, str] = os.environ) -> Path:
    """`$XDG_STATE_HOME/mountsync`, by default `~/.local/state/mountsync`."""
    base = environment.get("XDG_STATE_HOME", "")
    home = Path(base) if base.startswith("/") else Path.home() / ".local" / "state"
    return home / "mountsync"


def state_folder(remote: str, root: Path) -> Path:
    """The state folder of a mount of `remote` (a normalised spec).

    It depends on the remote alone: whoever mounts the same remote at another place finds the changes
    that still wait for upload.
    """
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", remote).strip("-.")[:40]
    return root / f"{readable}-{hashlib.sha256(remote.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"


def storage_state_root() -> Path:
    """Where storages keep their own state (journals), whoever opens them: `Remotes.state_root`."""
    return state_root() / "storages"


@dataclass(frozen=True, slots=True)
class MountOption:
    """One option of a mount; `name` has underscores and is the field of `MountSettings`."""

    name: str
    convert: Callable[[object], object]
    """From text, or from a value of TOML's types. Raises UsageError."""
    metavar: str
    """The form of the value; empty for a switch."""
    help: str
    default: object = None
    """What the help shows as default; the value itself stands in `MountSettings`."""

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "MOUNTSYNC_" + self.name.upper()

    def value(self, given: object, where: str) -> object:
        """`given` converted. Raises ConfigError that begins with `where`."""
        try:
            return self.convert(given)
        except UsageError as error:
            raise ConfigError(f"{where}: {error.reason}", hint=error.hint) from error


def _text(given: object) -> str:
    if isinstance(given, bool) or not isinstance(given, str | int | float):
        raise UsageError(f"{given!r} is not a text")
    return str(given)


def _switch(given: object) -> bool:
    known = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False}
    known["off"] = False
    answer = known.get(str(given).lower())
    if answer is None:
        raise UsageError(f"{given!r} is neither true nor false")
    return answer


def _size(given: object) -> int | None:
    return parse_size(_text(given))


def _duration(given: object) -> float:
    return parse_duration(_text(given))


def _bandwidth(given: object) -> Bandwidth:
    return parse_bandwidth(_text(given))


def _path(given: object) -> Path:
    text = _text(given)
    if not text or "\0" in text:
        raise UsageError(f"{text!r} is not a path")
    return Path(os.path.abspath(os.path.expanduser(text)))


def _endpoint(given: object) -> Endpoint:
    return parse_endpoint(_text(given))


def _local_only(given: object) -> LocalNames:
    patterns = given if isinstance(given, list) else _text(given).split(",")
    if not all(isinstance(pattern, str) and pattern and "/" not in pattern for pattern in patterns):
        raise UsageError(f"{given!r} is not a list of names", hint='write ["*.tmp", "*.part"]')
    return LocalNames.extended(patterns)


def _number(given: object, lowest: int = 0) -> int:
    text = _text(given)
    if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < lowest:
        raise UsageError(f"{text!r} is not a whole number of {lowest} or more")
    return int(text)


def _transfers(given: object) -> int:
    return _number(given, 1)


def _user_id(given: object) -> int:
    number = _number(given)
    if number >= (1 << 32) - 1:
        raise UsageError(f"{number} is not a user or group id")
    return number


def _max_delete(given: object) -> int:
    return NO_DELETE_LIMIT if given == "off" else _number(given)


def _umask(given: object) -> int:
    text = _text(given)
    if not re.fullmatch(r"(0o)?[0-7]{1,4}", text):
        raise UsageError(f"{text!r} is not an octal umask", hint='write "022"')
    return int(text, 8) & 0o777


def _choice(kind: type[Enum]) -> Callable[[object], Enum]:
    names = [str(member.value) for member in kind]

    def convert(given: object) -> Enum:
        if given not in names:
            raise UsageError(f"{given!r} is not one of {', '.join(names)}")
        return kind(given)

    return convert


_POLICY_NAMES: Final = {"local": "a", "remote": "b"}


def _conflict(given: object) -> ConflictPolicy:
    names = [*(policy.value for policy in ConflictPolicy if policy.value not in "ab"), *_POLICY_NAMES]
    plain = _POLICY_NAMES.get(_text(given), _text(given))
    try:
        return ConflictPolicy(plain)
    except ValueError as error:
        raise UsageError(f"{given!r} is not one of {', '.join(names)}") from error


def _word(*names: str) -> Callable[[object], str]:
    def convert(given: object) -> str:
        if given not in names:
            raise UsageError(f"{given!r} is not one of {', '.join(names)}")
        return str(given)

    return convert


MOUNT_OPTIONS: Final[tuple[MountOption, ...]] = (
    MountOption("cache_dir", _path, "DIR", "Keep state and cache in DIR.", "a folder per remote"),
    MountOption(
        "cache_size", _size, "SIZE", "Evict clean content beyond SIZE; a bare number counts KiB.", "off"
    ),
    MountOption(
        "poll_interval", _duration, "TIME", "Look at the remote at least this often; 0: never.", "1m"
    ),
    MountOption("write_delay", _duration, "TIME", "Upload a file this long after its last close.", "5s"),
    MountOption(
        "durability", _choice(Durability), "fsync|close", "What makes a file safe from power loss.", "fsync"
    ),
    MountOption("conflict", _conflict, "POLICY", "What happens where both sides changed.", "keep-both"),
    MountOption("read_only", _switch, "", "Refuse every change in the folder."),
    MountOption("allow_other", _switch, "", "Let other users see the folder."),
    MountOption("exec", _switch, "", "Let programs in the folder be run.", "true"),
    MountOption("uid", _user_id, "N", "Owner of what comes from the remote.", "you"),
    MountOption("gid", _user_id, "N", "Group of what comes from the remote.", "yours"),
    MountOption("umask", _umask, "OCTAL", "Bits to clear in modes that the remote lacks.", "yours"),
    MountOption("transfers", _transfers, "N", "How many files travel at once.", "4"),
    MountOption("bwlimit", _bandwidth, "RATE", "Bandwidth, or UP:DOWN; a bare number counts KiB/s.", "off"),
    MountOption("filter_from", _path, "FILE", "Gitignore patterns of what stays out."),
    MountOption(
        "max_delete", _max_delete, "N", "Halt before deleting more than N entries.", "half, and over 20"
    ),
    MountOption(
        "local_only", _local_only, "NAMES", "More names that never travel, with * and ?, comma between."
    ),
    MountOption(
        "thumbnails",
        _choice(Thumbnails),
        "allow|refuse",
        "Whether thumbnailers and indexers may download what they look at.",
        "refuse",
    ),
    MountOption("offline", _switch, "", "Start without asking the remote; `resume` goes online."),
    MountOption(
        "drain", _duration, "TIME", "On SIGTERM upload what is left for TIME at most; the rest is kept.", "0"
    ),
    MountOption("metrics", _endpoint, "HOST:PORT", "Serve figures for Prometheus there.", "nowhere"),
    MountOption(
        "log_level", _word("debug", "info", "warning", "error"), "LEVEL", "How much is logged.", "info"
    ),
    MountOption("log_format", _word("auto", "human", "json"), "FORMAT", "How the log is written.", "auto"),
    MountOption("log_file", _path, "FILE", "Append the log to FILE instead of standard error."),
)
"""Every option of `mountsync mount`, in the order of its help."""


def mount_settings(
    *,
    name: str,
    remote: str,
    mountpoint: Path,
    values: Mapping[str, object],
    config_path: Path,
    backend_options: Mapping[str, Mapping[str, str]] | None = None,
    ready_fd: int = 1,
) -> MountSettings:
    """The settings of converted option values, by field name; `cache_dir` becomes the state folder."""
    chosen = dict(values)
    cache_dir = chosen.pop("cache_dir", None)
    state_dir = cache_dir if isinstance(cache_dir, Path) else state_folder(remote, state_root())
    return MountSettings(
        name=name,
        remote=remote,
        mountpoint=mountpoint,
        state_dir=state_dir,
        backend_options=backend_options or {},
        config_path=config_path,
        ready_fd=ready_fd,
        **chosen,  # type: ignore[arg-type] # each converter gives the type of the field of its name
    )
