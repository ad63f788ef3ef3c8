"""What the server answers."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any, Final, Literal

import msgspec

from mountsync.control import overview, wire
from mountsync.control.protocol import Keep
from mountsync.errors import MountsyncError, UsageError, describe
from mountsync.model.saying import saying
from mountsync.model.status import SessionState, Status
from mountsync.web.guard import Guard, Refusal, Request

_STATIC: Final = {
    "/style.css": ("style.css", "text/css; charset=utf-8"),
    "/script.js": ("script.js", "text/javascript; charset=utf-8"),
    "/favicon.svg": ("favicon.svg", "image/svg+xml"),
}
_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@dataclass(frozen=True, slots=True)
class Response:
    """One answer."""

    status: int
    body: bytes = b""
    kind: str = "text/plain; charset=utf-8"
    extra: Mapping[str, str] = field(default_factory=dict)

    @property
    def headers(self) -> list[tuple[str, str]]:
        """All of them, those that keep others out among them."""
        length = {"Content-Type": self.kind, "Content-Length": str(len(self.body))}
        return [*_HEADERS.items(), *length.items(), *self.extra.items()]


class Shown(msgspec.Struct, frozen=True, kw_only=True):
    """One mount or job on the page. `error` says why there is no status."""

    kind: Literal["mount", "job"]
    id: str
    """The mount point, or the job's name."""
    remote: str
    saying: str
    level: Literal["good", "busy", "waiting", "bad"]
    halted: bool = False
    """A person's word lets it go on."""
    lost: bool = False
    """Nothing lets it go on: its remote is not there any more."""
    paused: bool = False
    status: Status | None = None
    error: str | None = None


class Everything(msgspec.Struct, frozen=True, kw_only=True):
    """`GET /api/overview`. `now` in seconds since 1970."""

    version: int = 1
    now: float
    shown: list[Shown]


class Act(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`POST /api/act`: one thing to do. `path` and `keep` are for `resolve`, `confirm` for `resume`."""

    kind: Literal["mount", "job"]
    id: str
    do: Literal["pause", "resume", "resolve"]
    path: str | None = None
    keep: Keep | None = None
    confirm: bool = False


class Pages:
    """Answers requests; what it must not answer it refuses."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard

    async def answer(self, request: Request) -> Response:
        """Never raises what a request could cause."""
        refusal = self.guard.misdirected(request)
        if refusal is not None:
            return _refused(refusal)
        if request.path == "/api/act":
            return await self._guarded(request, "POST", _act)
        if request.path == "/api/overview":
            return await self._guarded(request, "GET", _everything)
        return self._file(request)

    def _file(self, request: Request) -> Response:
        if request.method not in ("GET", "HEAD"):
            return Response(405, b"only GET\n", extra={"Allow": "GET, HEAD"})
        if request.path == "/":
            return self._front(request)
        if request.path in _STATIC:
            name, kind = _STATIC[request.path]
            return Response(200, _file(name), kind)
        return Response(404, b"there is no such page\n")

    def _front(self, request: Request) -> Response:
        if not (self.guard.opens(request) or self.guard.knows(request)):
            return Response(403, b"open the address that `mountsync web` printed\n")
        page = _file("page.html").replace(b"{{word}}", self.guard.word.encode())
        return Response(200, page, "text/html; charset=utf-8", {"Set-Cookie": self.guard.cookie})

    async def _guarded(
        self, request: Request, method: str, answer: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        if request.method != method:
            return Response(405, b"", extra={"Allow": method})
        refusal = self.guard.stranger(request)
        if refusal is None and method == "POST":
            refusal = self.guard.forged(request)
        return _refused(refusal) if refusal is not None else await answer(request)


def _refused(refusal: Refusal) -> Response:
    return Response(refusal.status, f"{refusal.reason}\n".encode())


@cache
def _file(name: str) -> bytes:
    return files("mountsync.web").joinpath(name).read_bytes()


def _json(status: int, value: Any) -> Response:
    return Response(status, wire.encode(value), "application/json")


async def _everything(_: Request) -> Response:
    return _json(200, everything(await overview.look(), time.time()))


def everything(found: overview.Overview, now: float) -> Everything:
    """What the page shows."""
    shown = [
        Shown(
            kind="mount",
            id=seen.record.mountpoint,
            remote=seen.record.remote,
            saying="does not answer",
            level="bad",
            error=str(seen.error),
        )
        if seen.status is None
        else shown_of("mount", seen.record.mountpoint, seen.status)
        for seen in found.mounts
    ]
    shown += [shown_of("job", job.name, job) for job in found.jobs]
    if found.daemon_error is not None:
        words = str(found.daemon_error)
        shown.append(Shown(kind="job", id="", remote="", saying="does not answer", level="bad", error=words))
    return Everything(now=now, shown=shown)


def shown_of(kind: Literal["mount", "job"], identity: str, status: Status) -> Shown:
    """One that answered."""
    state = SessionState(status.state) if status.state in _STATES else None
    lost = kind == "mount" and state is SessionState.HALTED_REMOTE
    return Shown(
        kind=kind,
        id=identity,
        remote=status.remote,
        saying=saying(status) if lost else saying(status).partition(";")[0],
        level=_level(status, state),
        halted=state is not None and state.halted and not lost,
        lost=lost,
        paused=state is SessionState.PAUSED,
        status=status,
    )


_STATES: Final = frozenset(state.value for state in SessionState)


def _level(status: Status, state: SessionState | None) -> Literal["good", "busy", "waiting", "bad"]:
    if state is None or state.halted or state is SessionState.FAILED:
        return "bad"
    if status.conflicts or status.problems:
        return "waiting"
    if state in (SessionState.PAUSED, SessionState.OFFLINE, SessionState.WAITING_TO_RETRY):
        return "waiting"
    at_rest = state in (SessionState.WATCHING, SessionState.SETTLED) and not status.pending
    return "good" if at_rest else "busy"


async def _act(request: Request) -> Response:
    try:
        await carry_out(_read(request.body))
    except MountsyncError as error:
        return _json(400 if isinstance(error, UsageError) else 409, describe(error))
    return _json(200, {"done": True})


def _read(body: bytes) -> Act:
    try:
        act = wire.decode(body, Act)
    except (msgspec.DecodeError, RecursionError, UnicodeError) as error:
        raise UsageError(f"not understood: {error}") from error
    if act.do == "resolve" and (act.path is None or act.keep is None):
        raise UsageError("resolve needs path and keep")
    return act


async def carry_out(act: Act) -> None:
    """Does it, over the control socket. Raises what the mount or the daemon says."""
    args: dict[str, Any] = {}
    if act.do == "resolve":
        assert act.keep is not None
        args = {"path": act.path, "keep": act.keep.value}
    elif act.do == "resume":
        args = {"confirm": act.confirm}
    if act.kind == "mount":
        await overview.tell_mount(act.id, act.do, **args)
    else:
        await overview.tell_daemon(act.do, job=act.id, **args)
