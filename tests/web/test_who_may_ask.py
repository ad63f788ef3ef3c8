"""The page's server lets in its own page, in the browser of the user who has the address, and nobody else."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import h11
import pytest
import trio

from mountsync.errors import MountError
from mountsync.web.guard import Guard, Request
from mountsync.web.http import listen, port_of, serve
from mountsync.web.page import Pages

Answer = tuple[int, dict[str, str], bytes]


class Asker:
    """Speaks to one server, as any program on this machine can."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard

    async def raw(self, data: bytes) -> bytes:
        """All that comes back until the server hangs up."""
        async with await trio.open_tcp_stream("127.0.0.1", self.guard.port) as stream:
            await stream.send_all(data)
            await stream.send_eof()
            return b"".join([piece async for piece in stream])

    async def ask(self, method: str, target: str, body: bytes = b"", **headers: str | None) -> Answer:
        """One request; `None` leaves out a header that is usually there."""
        usual: dict[str, str | None] = {
            "host": f"127.0.0.1:{self.guard.port}",
            "content-length": str(len(body)),
        }
        given = usual | {name.replace("_", "-"): value for name, value in headers.items()}
        head = "".join(f"{name}: {value}\r\n" for name, value in given.items() if value is not None)
        said = await self.raw(
            f"{method} {target} HTTP/1.1\r\n{head}connection: close\r\n\r\n".encode() + body
        )
        return _parsed(said, method)

    def ours(self, **changes: str | None) -> dict[str, str | None]:
        """The headers that our own page sends."""
        usual: dict[str, str | None] = {
            "cookie": self.guard.cookie.partition(";")[0],
            "origin": f"http://127.0.0.1:{self.guard.port}",
            "content_type": "application/json",
            "x_mountsync_word": self.guard.word,
            "sec_fetch_site": "same-origin",
        }
        return usual | changes


def _parsed(said: bytes, method: str) -> Answer:
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("host", "x")]))
    client.send(h11.EndOfMessage())
    client.receive_data(said)
    client.receive_data(b"")
    head = client.next_event()
    assert isinstance(head, h11.Response), said
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += bytes(event.data)
    headers = {name.decode(): value.decode() for name, value in head.headers}
    return head.status_code, headers, body


@asynccontextmanager
async def _served() -> AsyncIterator[Asker]:
    listener = await listen(0)
    guard = Guard(port_of(listener))
    async with listener, trio.open_nursery() as nursery:
        nursery.start_soon(serve, listener, Pages(guard).answer)
        yield Asker(guard)
        nursery.cancel_scope.cancel()


@pytest.fixture
async def asker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asker]:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    async with _served() as made:
        yield made


ACT = json.dumps({"kind": "mount", "id": "/nowhere", "do": "pause"}).encode()


async def test_the_address_lets_in_and_gives_a_cookie(asker: Asker) -> None:
    status, headers, body = await asker.ask("GET", f"/?token={asker.guard.token}")
    assert status == 200
    assert asker.guard.word.encode() in body
    assert headers["set-cookie"] == asker.guard.cookie
    assert "HttpOnly; SameSite=Strict" in headers["set-cookie"]
    assert "script-src 'self'" in headers["content-security-policy"]
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert headers["cache-control"] == "no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert asker.guard.token.encode() not in body


@pytest.mark.parametrize("target", ["/", "/?token=", "/?token=x", "/?token={0}&token={0}"])
async def test_no_page_without_the_token(asker: Asker, target: str) -> None:
    status, headers, body = await asker.ask("GET", target.format(asker.guard.token))
    assert (status, body) == (403, b"open the address that `mountsync web` printed\n")
    assert "set-cookie" not in headers


async def test_our_page_sees_everything(asker: Asker) -> None:
    status, headers, body = await asker.ask("GET", "/api/overview", **asker.ours())
    assert (status, headers["content-type"]) == (200, "application/json")
    assert json.loads(body)["shown"] == []


@pytest.mark.parametrize(
    "change",
    [
        {"cookie": None},
        {"cookie": "mountsync-{port}=guessed"},
        {"cookie": "mountsync-1={session}"},
        {"cookie": "\x01=;="},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
async def test_strangers_see_nothing(asker: Asker, change: dict[str, str | None]) -> None:
    filled = {
        name: None if value is None else value.format(port=asker.guard.port, session=asker.guard.session)
        for name, value in change.items()
    }
    for method, target in (("GET", "/api/overview"), ("POST", "/api/act")):
        status, _, body = await asker.ask(
            method, target, ACT if method == "POST" else b"", **asker.ours(**filled)
        )
        assert status in (400, 403), body
        assert b"shown" not in body


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "0.0.0.0:{port}"]
)
async def test_a_foreign_name_that_points_here_is_refused(asker: Asker, host: str) -> None:
    named = host.format(port=asker.guard.port)
    for target in ("/", "/style.css", "/api/overview", f"/?token={asker.guard.token}"):
        status, headers, _ = await asker.ask("GET", target, **asker.ours(host=named))
        assert status == 421
        assert "set-cookie" not in headers


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"origin": None}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:1"}, 403),
        ({"content_type": "text/plain"}, 415),
        ({"content_type": "application/x-www-form-urlencoded"}, 415),
        ({"content_type": None}, 415),
        ({"x_mountsync_word": None}, 403),
        ({"x_mountsync_word": "guessed"}, 403),
        ({}, 409),  # it is let in, and nothing is mounted there
    ],
)
async def test_nothing_is_done_for_another_site(
    asker: Asker, change: dict[str, str | None], wanted: int
) -> None:
    status, _, body = await asker.ask("POST", "/api/act", ACT, **asker.ours(**change))
    assert status == wanted, body


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"kind":"mount","id":"/x","do":"shutdown"}',
        b'{"kind":"mount","id":"/x","do":"pause","more":1}',
        b'{"kind":"mount","id":"/x","do":"resolve","path":"a"}',
        b'{"kind":"mount","id":"/x","do":"resolve","path":"a","keep":"none"}',
        b'{"kind":"\\ud800","id":"/x","do":"pause"}',
        b"[" * 5000,
        b"\xff\xfe",
    ],
)
async def test_what_is_not_understood_is_refused(asker: Asker, body: bytes) -> None:
    status, _, said = await asker.ask("POST", "/api/act", body, **asker.ours())
    assert (status, json.loads(said)["class"]) == (400, "UsageError")


async def test_the_rest(asker: Asker) -> None:
    assert (await asker.ask("GET", "/style.css"))[1]["content-type"].startswith("text/css")
    assert (await asker.ask("GET", "/../guard.py"))[0] == 404
    assert (await asker.ask("POST", "/"))[0] == 405
    assert (await asker.ask("GET", "/api/act", **asker.ours()))[0] == 405
    assert (await asker.ask("DELETE", "/api/overview", **asker.ours()))[0] == 405
    status, headers, body = await asker.ask("HEAD", "/style.css")
    assert (status, body) == (200, b"")
    assert int(headers["content-length"]) > 1000


async def test_bad_clients_harm_nobody(asker: Asker) -> None:
    for data in (
        b"",
        b"\0\1\2\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
    ):
        said = await asker.raw(data)
        assert said == b"" or said.startswith((b"HTTP/1.1 4", b"HTTP/1.1 5")), said
    assert (await asker.raw(b"GET /" + b"a" * 40_000)).startswith(b"HTTP/1.1 431")
    huge = await asker.ask("POST", "/api/act", b" " * 70_000, **asker.ours())
    assert huge[0] == 413
    assert (await asker.ask("GET", "/api/overview", **asker.ours()))[0] == 200


async def test_a_silent_client_is_cut_off(
    asker: Asker, autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", asker.guard.port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\n")
        assert await stream.receive_some() == b""


async def test_several_requests_on_one_connection(asker: Asker) -> None:
    host = f"host: 127.0.0.1:{asker.guard.port}\r\n"
    said = await asker.raw(
        f"GET /style.css HTTP/1.1\r\n{host}\r\nGET /script.js HTTP/1.1\r\n{host}\r\n".encode()
    )
    assert said.count(b"HTTP/1.1 200") == 2


async def test_only_the_loopback_is_listened_on_and_a_taken_port_is_told(asker: Asker) -> None:
    listener = await listen(0)
    async with listener:
        assert listener.socket.getsockname()[0] == "127.0.0.1"
        with pytest.raises(MountError, match="choose another --port"):
            await listen(port_of(listener))


def test_secrets_are_new_each_time_and_never_shown() -> None:
    one, two = Guard(1), Guard(1)
    found: list[Any] = [one.token, one.session, one.word, two.token, two.session, two.word]
    assert len(set(found)) == 6
    assert all(len(each) >= 43 and each not in repr((one, two)) for each in found)
    assert not one.knows(Request("GET", "/", {"cookie": f"mountsync-1={two.session}"}))
