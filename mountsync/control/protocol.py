"""What travels over the control socket: one JSON object per line, in both directions.

A request is `{"id": 1, "cmd": "status", "args": {...}}`, its reply `{"id": 1, "result": ...}` or
`{"id": 1, "error": {"class": ..., "message": ...}}`. Events are `{"event": {"type": ...}}` and come
only after `subscribe`; said again on the same connection it takes the place of the one before. Keys
that are not declared here are refused. `docs/control.schema.json` is generated from this module by
`json_schema`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from mountsync.model.status import ConflictStatus, CycleStatus, ProblemStatus, Status, Transfer

MAX_LINE: Final = 1 << 20
"""The longest request in bytes, the line end not counted. A client that sends more is cut off."""


class Keep(Enum):
    """Which content of a conflict lives on."""

    LOCAL = "local"
    REMOTE = "remote"
    BOTH = "both"


class StateEvent(msgspec.Struct, frozen=True, kw_only=True, tag="state"):
    """The session entered a state (see `SessionState`)."""

    job: str
    state: str
    reason: str | None = None


class ProgressEvent(msgspec.Struct, frozen=True, kw_only=True, tag="progress"):
    """How far the work is; sent at most a few times per second."""

    job: str
    pending: int
    pending_bytes: int
    transfers: list[Transfer] = []
    began: list[str] = []
    """Paths whose bodies began to travel since the last such event, the last hundred at most."""


class ChangeEvent(msgspec.Struct, frozen=True, kw_only=True, tag="change"):
    """A job changed something on one of its sides."""

    job: str
    side: str
    """`local` for side A, `remote` for side B."""
    what: str
    """`new`, `updated`, `renamed`, `deleted`, `new folders`, `removed folders`, `times and modes`."""
    path: str
    source: str | None = None
    """What a renamed path was before."""


class ConflictEvent(msgspec.Struct, frozen=True, kw_only=True, tag="conflict"):
    """A conflict was found and waits for a hand."""

    job: str
    conflict: ConflictStatus


class ProblemEvent(msgspec.Struct, frozen=True, kw_only=True, tag="problem"):
    """A path could not be read or changed."""

    job: str
    problem: ProblemStatus


class CycleEvent(msgspec.Struct, frozen=True, kw_only=True, tag="cycle"):
    """A cycle ended."""

    job: str
    cycle: CycleStatus


class LostEvent(msgspec.Struct, frozen=True, kw_only=True, tag="lost"):
    """The reader was too slow and `count` events were dropped: ask for `status` to catch up."""

    job: str
    count: int


Event: TypeAlias = (
    StateEvent | ProgressEvent | ChangeEvent | ConflictEvent | ProblemEvent | CycleEvent | LostEvent
)
EVENT_TYPES: Final = ("state", "progress", "change", "conflict", "problem", "cycle", "lost")


class Events(Protocol):
    """Events as they come; iteration ends when whoever tells them ends, or after `end`."""

    def __aiter__(self) -> AsyncIterator[Event]: ...

    async def __anext__(self) -> Event: ...

    def end(self) -> None:
        """No new ones; what was told until now is still handed out."""
        ...


class Controllable(Protocol):
    """What can be steered over the socket: a session. All methods run on the trio loop.

    Any of them may raise mountsync.errors; the client sees class and message. `path` arguments are
    relative to the root of the mount.
    """

    async def status(self) -> Status:
        """All there is to show, without asking the remote; answers within milliseconds."""
        ...

    async def flush(self, *, timeout: float | None) -> Status:
        """A full cycle in both directions now, regardless of delays and retry times.

        Returns when nothing is left that can be done, or after `timeout` seconds; `pending`,
        `conflicts` and `problems` of the status say what is left.
        """
        ...

    async def pause(self) -> None:
        """No transfers from now on; returns when none is under way."""
        ...

    async def resume(self, *, confirm: bool) -> Status:
        """Goes on after `pause`. Raises Halted while a safety stop stands and `confirm` is false."""
        ...

    async def conflicts(self) -> list[ConflictStatus]:
        """What waits for a hand."""
        ...

    async def resolve(self, path: str, *, keep: Keep) -> None:
        """Settles one conflict; NotFound when there is none at `path`."""
        ...

    async def pin(self, path: str) -> None:
        """Keeps the content of a file, or of all that is below a directory, on this machine."""
        ...

    async def unpin(self, path: str) -> None:
        """Ends `pin`; NotFound when `path` is not pinned."""
        ...

    async def evict(self, path: str) -> int:
        """Forgets local copies of clean, unpinned, closed files at and below `path`; bytes freed.

        Raises Busy when `path` is one file that has to stay.
        """
        ...

    async def shutdown(self, *, drain: bool) -> None:
        """Ends the mount, after replicating everything when `drain`. Returns when the end is decided.

        Raises Halted, Unreachable or PathError when draining cannot be finished; then it goes on.
        """
        ...

    def subscribe(self) -> AbstractAsyncContextManager[Events]:
        """Events from now on; iteration ends when the session ends."""
        ...


class _Args(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Arguments of a command."""


class StatusArgs(_Args, frozen=True, kw_only=True):
    """No further arguments."""


class FlushArgs(_Args, frozen=True, kw_only=True):
    """`timeout` in seconds, None: as long as it takes."""

    timeout: float | None = None


class PauseArgs(_Args, frozen=True, kw_only=True):
    """No further arguments."""


class ResumeArgs(_Args, frozen=True, kw_only=True):
    """`confirm` clears a safety halt: the user has looked and wants it so."""

    confirm: bool = False


class ConflictsArgs(_Args, frozen=True, kw_only=True):
    """No further arguments."""


class ResolveArgs(_Args, frozen=True, kw_only=True):
    """One conflict, by its path relative to the root."""

    path: str
    keep: Keep


class PathArgs(_Args, frozen=True, kw_only=True):
    """One path relative to the root."""

    path: str


class ShutdownArgs(_Args, frozen=True, kw_only=True):
    """`drain`: replicate everything first."""

    drain: bool = True


class SubscribeArgs(_Args, frozen=True, kw_only=True):
    """No further arguments."""


class Done(msgspec.Struct, frozen=True, kw_only=True):
    """The command was carried out and has nothing else to say."""


class Evicted(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of local content that were given back."""

    freed: int


class Conflicts(msgspec.Struct, frozen=True, kw_only=True):
    """What waits for a hand."""

    version: int = 1
    conflicts: list[ConflictStatus]


@dataclass(frozen=True, slots=True)
class Command:
    """A command's argument and result types."""

    args: type[msgspec.Struct]
    result: type[msgspec.Struct]


COMMANDS: Final[dict[str, Command]] = {
    "status": Command(StatusArgs, Status),
    "flush": Command(FlushArgs, Status),
    "pause": Command(PauseArgs, Done),
    "resume": Command(ResumeArgs, Status),
    "conflicts": Command(ConflictsArgs, Conflicts),
    "resolve": Command(ResolveArgs, Done),
    "pin": Command(PathArgs, Done),
    "unpin": Command(PathArgs, Done),
    "evict": Command(PathArgs, Evicted),
    "subscribe": Command(SubscribeArgs, Done),
    "shutdown": Command(ShutdownArgs, Done),
}
"""Every command that a mount understands."""


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One line from a client. `id` comes back in the reply; the client chooses it."""

    id: int
    cmd: str
    args: dict[str, Any] = {}


class Failure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a command failed: the class of `mountsync.errors` and a sentence for the user."""

    class_: str = msgspec.field(name="class")
    message: str
    path: str | None = None


class Result(msgspec.Struct, frozen=True):
    """A reply to a command that was carried out."""

    id: int
    result: Any


class Refusal(msgspec.Struct, frozen=True):
    """A reply to a command that failed; `id` is None when the line was no request at all."""

    id: int | None
    error: Failure


class Notice(msgspec.Struct, frozen=True):
    """An event on its way to a subscriber."""

    event: Event


def json_schema(
    commands: Mapping[str, Command] = COMMANDS, title: str = "mountsync control socket"
) -> dict[str, Any]:
    """JSON Schema of all requests, results and events, for people and programs in other languages."""
    kinds: list[Any] = [Event]
    for command in commands.values():
        kinds += [command.args, command.result]
    schemas, components = msgspec.json.schema_components(
        [*dict.fromkeys([*kinds, Failure])], ref_template="#/$defs/{name}"
    )
    by_kind = dict(zip(dict.fromkeys([*kinds, Failure]), schemas, strict=True))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "commands": {
            name: {"args": by_kind[command.args], "result": by_kind[command.result]}
            for name, command in commands.items()
        },
        "event": by_kind[Event],
        "error": by_kind[Failure],
        "$defs": components,
    }
