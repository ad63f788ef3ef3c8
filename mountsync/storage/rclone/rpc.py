"""Calls of rclone's remote control, and bytes from it, over its socket."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Final, TypeAlias
from urllib.parse import quote

import msgspec
import trio

from mountsync.errors import Unreachable
from mountsync.formats.rclone_names import to_rclone
from mountsync.storage.rclone.refusals import refusal
from mountsync.storage.rclone.server import Server
from mountsync.storage.rclone.wire import Answer, Broken, Wire

_LOOK_S: Final = 90.0
"""The longest that an answer without bodies, or a piece of one, may take; rclone gives up earlier."""
_JSON: Final = {"Content-Type": "application/json"}
_GOOD: Final = (200, 206)
_LOOKS: Final = frozenset({"operations/list", "operations/stat", "operations/fsinfo", "operations/about"})


_Answered: TypeAlias = tuple[int, bytes]
"""Status and body."""
_groups = itertools.count(1)


class _Refused(msgspec.Struct):
    error: str = ""


class Rpc:
    """One server, asked by many tasks at once. A server that died is started again."""

    def __init__(self, server: Server) -> None:
        """Owns the server, which need not run yet."""
        self._server = server
        self._wire: Wire | None = None

    async def call(self, command: str, path: str | None = None, /, **arguments: object) -> bytes:
        """The JSON that `command`, which only looks, answers. `path` is for errors.

        Raises what `refusals.refusal` makes of a failure; Unreachable when rclone is gone.
        """
        try:
            with trio.fail_after(_LOOK_S):
                return _good(await self._called(command, arguments), path)
        except trio.TooSlowError as error:
            raise Unreachable("rclone does not answer", path=path) from error

    async def change(self, command: str, path: str | None = None, /, **arguments: object) -> None:
        """Does something, however long it takes; never twice. Errors as of `call`.

        When it is cancelled rclone is told to stop, and its answer is waited for: nothing happens later.
        """
        group = f"mountsync-{next(_groups)}"
        answers: list[_Answered | Unreachable] = []
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with trio.CancelScope(shield=True):
                    try:
                        answers.append(await self._called(command, arguments | {"_group": group}))
                    except Unreachable as error:
                        answers.append(error)
                nursery.cancel_scope.cancel()

            nursery.start_soon(ask)
            try:
                await trio.sleep_forever()
            except trio.Cancelled:
                if not answers:
                    await self._stop(group)
                raise
        for answer in answers:
            if isinstance(answer, Unreachable):
                raise answer
            _good(answer, path)

    async def _stop(self, group: str) -> None:
        with trio.move_on_after(_LOOK_S) as scope:
            scope.shield = True
            with suppress(Unreachable):
                await self._called("job/stopgroup", {"group": group})

    async def _called(self, command: str, arguments: Mapping[str, object]) -> _Answered:
        body = msgspec.json.encode(arguments)
        try:
            return await self._once(command, body)
        except Broken as error:
            if error.sent and command not in _LOOKS:
                raise Unreachable(f"rclone broke off: {error}") from error
        try:
            return await self._once(command, body)
        except Broken as error:
            raise Unreachable(f"rclone broke off: {error}") from error

    async def _once(self, command: str, body: bytes) -> _Answered:
        wire = await self._connected()
        try:
            async with wire.ask("POST", f"/{command}", _JSON, body) as answer:
                return answer.status, await answer.whole()
        except Broken:
            self._forget(wire)
            raise

    @asynccontextmanager
    async def get(self, remote: str, path: str, headers: Mapping[str, str]) -> AsyncIterator[Answer]:
        """The answer to a GET of the object's bytes, its body still to be read."""
        wire = await self._connected()
        target = "/" + quote(f"[{remote}]/{to_rclone(path)}", safe="/")
        try:
            async with wire.ask("GET", target, headers) as answer:
                if answer.status not in _GOOD:
                    raise refusal(answer.status, _words(await answer.whole()), path)
                yield answer
        except Broken as error:
            self._forget(wire)
            raise Unreachable(f"rclone broke off: {error}", path=path) from error

    async def _connected(self) -> Wire:
        if self._wire is None:
            socket = await self._server.ensure()
            if self._wire is None:
                self._wire = Wire(socket)
        return self._wire

    def _forget(self, wire: Wire) -> None:
        """A connection broke: the next one goes to a server that was seen to answer."""
        wire.close()
        if self._wire is wire:
            self._wire = None

    async def aclose(self) -> None:
        """Ends the server. Safe to call twice."""
        if self._wire is not None:
            self._wire.close()
            self._wire = None
        await self._server.aclose()


async def next_piece(answer: Answer, path: str) -> bytes:
    """The next bytes of a body; none at its end. Raises Unreachable when they do not come."""
    try:
        with trio.fail_after(_LOOK_S):
            return await answer.piece()
    except (Broken, trio.TooSlowError) as error:
        raise Unreachable(f"rclone broke off: {error or 'it does not answer'}", path=path) from error


def _good(answered: _Answered, path: str | None) -> bytes:
    status, body = answered
    if status not in _GOOD:
        raise refusal(status, _words(body), path)
    return body


def _words(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Refused).error
    except msgspec.MsgspecError:
        return body.decode("utf-8", "replace")
