"""The client for blocks: connections, redirects, and servers that misbehave."""

import asyncio
import gc

import pytest

from mountsync.storage.modal.answers import BadAnswer, EndedEarly, Incoming
from tests.parts.block_http import answer, ask, client, echo, listening, resting, run


def test_one_connection_serves_many_requests():
    async def work():
        async with listening(echo) as server, client() as http:
            assert await ask(http, server) == (200, b"GET /x?y=%2f 0")
            assert await ask(http, server, method="PUT", body=b"") == (200, b"PUT /x?y=%2f 0")
            data = bytes(range(256)) * 40_000
            assert await ask(http, server, method="PUT", body=memoryview(data)) == (
                200,
                b"PUT /x?y=%2f 10240000",
            )
            assert server.bodies[-1] == data
            assert server.connections == 1
            assert f"Host: 127.0.0.1:{server.port}\r\n" in server.seen[0]
            await asyncio.gather(*(ask(http, server) for _ in range(5)))
            assert server.connections == 5

    run(work)


def test_a_connection_that_the_server_closed_meanwhile_is_not_used():
    async def once(server, head, reader, writer, length):
        writer.write(answer(b"a"))
        return True

    async def work():
        async with listening(once) as server, client() as http:
            for number in range(3):
                server.closed.clear()
                assert await ask(http, server) == (200, b"a")
                await server.closed.wait()
                while not all(connection.transport.is_closing() for connection in resting(http)):
                    await asyncio.sleep(0.01)  # until the loop has seen it
                assert server.connections == number + 1

    run(work)


def test_redirects_are_followed_and_not_for_ever():
    async def lead(server, head, reader, writer, length):
        await reader.readexactly(length)
        if "/end" in head.split()[1]:
            writer.write(answer(head.split()[0].encode()))
        elif "/loop" in head.split()[1]:
            writer.write(answer(b"", "302 Found", "Location: /loop\r\n"))
        else:
            writer.write(answer(b"", "307 There", "Location: /end\r\n"))

    async def work():
        async with listening(lead) as server, client() as http:
            assert await ask(http, server) == (200, b"GET")
            assert await ask(http, server, method="PUT", body=b"abc") == (200, b"PUT")
            with pytest.raises(BadAnswer):
                await ask(http, server, "/loop")

    run(work)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (b"", ConnectionResetError),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", EndedEarly),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", EndedEarly),
        (b"HTTP/1.1 200 OK\r\nContent-Le", EndedEarly),
        (b"what?\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 101 Switching\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", BadAnswer),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc\r\n", BadAnswer),
        (b"x" * 100_000, BadAnswer),
    ],
)
def test_broken_answers(reply, error):
    async def breaks(server, head, reader, writer, length):
        writer.write(reply)
        await writer.drain()
        writer.close()
        return await reader.read() is not None

    async def work():
        async with listening(breaks) as server, client() as http:
            with pytest.raises(error):
                await ask(http, server)

    run(work)


@pytest.mark.parametrize(
    ("reply", "again"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", True),
        (b"HTTP/1.1 103 Wait\r\n\r\nHTTP/1.1 200 \r\nContent-Length: 3\r\n\r\nabc", True),
        (
            b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n1;x=y\r\na\r\n2\r\nbc\r\n0\r\nT: x\r\n\r\n",
            True,
        ),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcmore", False),
        (b"HTTP/1.1 200 OK\r\n\r\nabc", False),
    ],
)
def test_whole_answers_in_pieces(reply, again):
    async def in_pieces(server, head, reader, writer, length):
        for start in range(0, len(reply), 7):
            writer.write(reply[start : start + 7])
            await writer.drain()
            await asyncio.sleep(0)
        return not again

    async def work():
        async with listening(in_pieces) as server, client() as http:
            for _ in range(2):
                assert await ask(http, server, limit=3) == (200, b"abc")
            assert server.connections == (1 if again else 2)

    run(work)


BIG = bytes(range(256)) * 8192 + b"end"


@pytest.mark.parametrize(
    ("head", "rest", "again"),
    [
        (b"HTTP/1.1 200 OK\r\n", b"", True),
        (b"HTTP/1.1 206 Partial\r\n", b"", True),
        (b"HTTP/1.1 103 Wait\r\n\r\nHTTP/1.1 200 OK\r\n", b"", True),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\n", b"", False),
        (b"HTTP/1.0 200 OK\r\n", b"", False),
        (b"HTTP/1.1 200 OK\r\n", b"more", False),
    ],
)
def test_large_bodies_are_whole_and_the_connection_goes_on(head, rest, again):
    async def large(server, asked, reader, writer, length):
        writer.write(head + b"Content-Length: %d\r\n\r\n" % len(BIG) + BIG + rest)
        await writer.drain()
        return not again

    async def work():
        async with listening(large) as server, client() as http:
            for _ in range(3):
                status, body = await ask(http, server)
                assert status in (200, 206)
                assert body == BIG
            assert server.connections == (1 if again else 3)

    run(work)


def test_a_large_body_that_is_cut_off_is_not_an_answer():
    async def cut(server, head, reader, writer, length):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BIG) + BIG[:-1])
        await writer.drain()
        writer.close()
        return True

    async def work():
        async with listening(cut) as server, client() as http:
            with pytest.raises(EndedEarly):
                await ask(http, server)

    run(work)


def test_headers_that_come_twice_are_one():
    async def twice(server, head, reader, writer, length):
        writer.write(answer(b"", extra="X-A: 1\r\nx-a: 2\r\n"))

    async def work():
        async with listening(twice) as server, client() as http:
            found = await http.ask("GET", f"http://127.0.0.1:{server.port}/", headers={}, limit=1)
            assert found.headers["x-a"] == "1, 2"
            assert found.body == ()

    run(work)


@pytest.mark.parametrize("length", ["Content-Length: 50000000", "Transfer-Encoding: chunked", "X-A: b"])
def test_no_more_of_a_body_is_read_than_is_wanted(length):
    async def endless(server, head, reader, writer, _):
        writer.write(f"HTTP/1.1 200 OK\r\n{length}\r\n\r\n".encode())
        while not reader.at_eof():
            writer.write(b"10000\r\n" + bytes(1 << 16) + b"\r\n")
            await writer.drain()
        return True

    async def work():
        async with listening(endless) as server, client() as http:
            status, body = await ask(http, server, limit=3 << 20)
            assert status == 200
            assert 3 << 20 < len(body) < 4 << 20
            assert not resting(http)
            await server.closed.wait()

    run(work)


def test_what_nobody_asked_for_closes_a_connection():
    async def chatty(server, head, reader, writer, length):
        writer.write(answer(b"a"))
        await server.more.wait()
        writer.write(answer(b"for somebody else"))

    async def work():
        async with listening(chatty) as server, client() as http:
            server.more = asyncio.Event()
            assert await ask(http, server) == (200, b"a")
            server.more.set()
            await server.closed.wait()
            assert await ask(http, server) == (200, b"a")
            assert server.connections == 2

    run(work)


def test_a_connection_at_rest_holds_no_body():
    """Nor is it left to the collector of cycles, which comes late for the few objects that bodies are."""

    async def large(server, head, reader, writer, length):
        writer.write(answer(bytes(3 << 20)))

    async def work():
        async with listening(large) as server, client() as http:
            await ask(http, server)
            gc.collect()
            gc.disable()
            try:
                await ask(http, server)
                held = [thing for thing in gc.get_objects() if isinstance(thing, Incoming)]
            finally:
                gc.enable()
            assert len(resting(http)) == 1
            assert held == []

    run(work)


def test_a_connection_that_rested_for_long_is_not_used(monkeypatch):
    async def work():
        async with listening(echo) as server, client() as http:
            await ask(http, server)
            await ask(http, server)
            assert server.connections == 1
            monkeypatch.setattr("mountsync.storage.modal.http._REST", 0.0)
            await ask(http, server)
            assert server.connections == 2

    run(work)


def test_a_silent_server_is_given_up():
    async def silent(server, head, reader, writer, length):
        return await reader.read() is not None

    async def work():
        async with listening(silent) as server, client(idle=0.05) as http:
            with pytest.raises(TimeoutError):
                await ask(http, server)
            await server.closed.wait()

    run(work)


def test_cancelling_closes_the_connection():
    async def silent(server, head, reader, writer, length):
        return await reader.read() is not None

    async def work():
        async with listening(silent) as server, client() as http:
            asking = asyncio.ensure_future(ask(http, server, method="PUT", body=memoryview(bytes(1 << 20))))
            while not server.seen:
                await asyncio.sleep(0.01)
            asking.cancel()
            await server.closed.wait()

    run(work)


@pytest.mark.parametrize(("status", "fine"), [("403 No", True), ("200 OK", False)])
def test_an_answer_before_all_was_sent(status, fine):
    """A refusal counts; a success cannot be one, for the server has not seen the whole body."""

    async def early(server, head, reader, writer, length):
        writer.write(answer(b"early", status))

    async def work():
        async with listening(early) as server, client() as http:
            body = memoryview(bytes(64 << 20))
            if fine:
                assert await ask(http, server, method="PUT", body=body) == (403, b"early")
            else:
                with pytest.raises(BadAnswer):
                    await ask(http, server, method="PUT", body=body)
            assert not resting(http)

    run(work)


@pytest.mark.parametrize("url", ["ftp://h/x", "http:///x", "file:///etc/passwd"])
def test_urls_that_cannot_be_asked_for(url):
    async def work():
        async with client() as http:
            with pytest.raises(BadAnswer):
                await http.ask("GET", url, headers={}, limit=1)

    run(work)


@pytest.mark.parametrize("path", ["/a b", "/\u00e4", "/\x00"])
def test_no_path_becomes_a_header(path):
    async def work():
        async with listening(echo) as server, client() as http:
            with pytest.raises(BadAnswer, match="cannot be asked for"):
                await ask(http, server, path)
            assert server.seen == []

    run(work)
