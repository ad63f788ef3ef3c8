"""The client for blocks: proxies, TLS, and where the bodies go."""

import asyncio
import random
import ssl

import pytest

from mountsync.errors import MountsyncError
from mountsync.storage.modal.answers import BadAnswer, Lent
from tests.parts.block_http import answer, ask, client, echo, listening, resting, run
from tests.parts.tls import certificate, server_context


def test_a_proxy_in_the_clear():
    async def work():
        async with listening(echo) as server:
            proxies = {"http": f"http://u:p%40@127.0.0.1:{server.port}"}
            async with client(proxies) as http:
                found = await http.ask("GET", "http://far.example/x", headers={}, limit=99)
                assert b"".join(found.body) == b"GET http://far.example/x 0"
                assert "Proxy-Authorization: Basic dTpwQA==\r\n" in server.seen[0]
                assert "Host: far.example\r\n" in server.seen[0]

    run(work)


async def _pump(reader, writer):
    while data := await reader.read(1 << 16):
        writer.write(data)
    writer.close()


async def tunnel(server, head, reader, writer, length):
    if head.split()[0] != "CONNECT":
        writer.write(answer(b"", "405 No"))
        return True
    host, port = head.split()[1].split(":")
    there, back = await asyncio.open_connection(host, int(port))
    writer.write(b"HTTP/1.1 200 Go\r\n\r\n")
    await asyncio.gather(_pump(reader, back), _pump(there, writer), return_exceptions=True)
    return True


@pytest.fixture
def tls(tmp_path, monkeypatch):
    """A context of a server whose certificate is trusted."""
    both = certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(both))
    return server_context(both, "http/1.1")


def test_tls_by_itself_and_through_a_proxy(tls):
    data = memoryview(bytes(range(256)) * 20_000)

    async def work():
        async with listening(echo, tls) as server, listening(tunnel) as proxy:
            for proxies in (None, {"https": f"127.0.0.1:{proxy.port}"}):
                async with client(proxies) as http:
                    for _ in range(2):
                        found = await ask(http, server, "/", "PUT", "https", body=data)
                        assert found == (200, b"PUT / 5120000")
                    assert server.bodies[-1] == data
            assert server.connections == 2
            assert [head.split()[0] for head in proxy.seen] == ["CONNECT"]

    run(work)


def test_an_unknown_certificate_is_refused(tls, monkeypatch, tmp_path):
    (tmp_path / "none.pem").write_bytes(b"")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nowhere"))

    async def work():
        async with listening(echo, tls) as server, client() as http:
            with pytest.raises(ssl.SSLCertVerificationError):
                await ask(http, server, scheme="https")
            assert server.seen == []

    run(work)


def test_tls_is_not_given_up_on_the_way(tls):
    async def downgrade(server, head, reader, writer, length):
        writer.write(answer(b"", "302 Found", f"Location: http://127.0.0.1:{server.port}/\r\n"))

    async def work():
        async with listening(downgrade, tls) as server, client() as http:
            with pytest.raises(BadAnswer, match="TLS"):
                await ask(http, server, scheme="https")

    run(work)


def test_an_unknown_certificate_behind_a_proxy_is_refused(tls, monkeypatch, tmp_path):
    (tmp_path / "none.pem").write_bytes(b"")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", str(tmp_path / "nowhere"))

    async def work():
        async with listening(echo, tls) as server, listening(tunnel) as proxy:
            async with client({"https": f"127.0.0.1:{proxy.port}"}) as http:
                with pytest.raises(ssl.SSLCertVerificationError):
                    await ask(http, server, scheme="https")
            assert server.seen == []

    run(work)


def test_a_refusing_proxy_is_told():
    async def refuse(server, head, reader, writer, length):
        writer.write(answer(b"no", "407 Who"))

    async def work():
        async with listening(refuse) as server:
            async with client({"https": f"127.0.0.1:{server.port}"}) as http:
                with pytest.raises(OSError, match="407"):
                    await http.ask("GET", "https://far.example/x", headers={}, limit=9)

    run(work)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_body_that_nobody_takes_waits_at_the_server(tls, scheme):
    """However long: it is not the server that is slow."""
    body = bytes(range(256)) * 250_000
    sent = 0

    async def pour(server, head, reader, writer, length):
        nonlocal sent
        writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n".encode())
        for start in range(0, len(body), 100_000):
            writer.write(body[start : start + 100_000])
            await writer.drain()
            sent = start

    async def work():
        taken, taps = [], []

        def outlet(headers, tap):
            taps.append(tap)
            return take

        def take(piece):
            taken.append(piece)
            if len(taken) == 1:
                taps[0].pause()

        async with listening(pour, tls if scheme == "https" else None) as server, client(idle=0.2) as http:
            asking = asyncio.create_task(ask(http, server, scheme=scheme, limit=1 << 30, outlet=outlet))
            while not taken:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.5)
            assert not asking.done()
            assert sent < len(body) - (1 << 24)
            assert sum(map(len, taken)) < 1 << 22
            taps[0].resume()
            assert await asking == (200, b"")
            assert b"".join(taken) == body
            taps[0].pause()  # too late to matter
            assert await ask(http, server, scheme=scheme, limit=1 << 30) == (200, body)
            assert server.connections == 1

    run(work)


@pytest.mark.parametrize("way", ["clear", "tls", "proxy"])
def test_bodies_side_by_side_are_lent_out_of_one_buffer(tls, way):
    bodies = [random.Random(n).randbytes(5_000_000 + n) for n in range(4)]

    async def reply(server, head, reader, writer, length):
        writer.write(answer(bodies[int(head.split()[1].strip("/"))]))

    async def work():
        async with listening(reply, None if way == "clear" else tls) as server, listening(tunnel) as proxy:
            async with client({"https": f"127.0.0.1:{proxy.port}"} if way == "proxy" else {}) as http:

                async def fetch(number):
                    got, scheme = bytearray(), "http" if way == "clear" else "https"
                    more = {"scheme": scheme, "outlet": lambda _headers, _tap: Lent(got.extend)}
                    for _ in range(2):  # the second time on a connection that was used
                        got.clear()
                        assert await ask(http, server, f"/{number}", **more) == (200, b"")
                        assert got == bodies[number]

                await asyncio.gather(*map(fetch, range(4)))
                assert server.connections == 4

    run(work)


@pytest.mark.parametrize("error", [MountsyncError("the disk is full"), ZeroDivisionError()])
def test_an_error_of_whoever_takes_a_body_is_raised_and_ends_the_connection(error):
    async def reply(server, head, reader, writer, length):
        writer.write(answer(bytes(5_000_000)))

    def take(_piece):
        raise error

    async def work():
        async with listening(reply) as server, client() as http:
            with pytest.raises(type(error)):
                await ask(http, server, outlet=lambda _headers, _tap: Lent(take))
            assert not resting(http)
            await server.closed.wait()

    run(work)
