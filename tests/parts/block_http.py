"""An HTTP server that answers as a test says, and the client for blocks, on a loop of asyncio."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

from mountsync.storage.modal.http import Http

PATIENCE = 30.0


class Server:
    """Answers requests with what `reply` says; `seen` are their heads, in order."""

    def __init__(self, reply):
        self.reply = reply
        self.seen = []
        self.bodies = []
        self.connections = 0
        self.closed = asyncio.Event()

    async def serve(self, reader, writer):
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                self.seen.append(head)
                length = next(
                    (int(line[15:]) for line in head.split("\r\n") if line.startswith("Content-Len")), 0
                )
                if await self.reply(self, head, reader, writer, length):
                    return
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.closed.set()
            writer.transport.abort()


def answer(body, status="200 OK", extra=""):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n".encode() + body


async def echo(server, head, reader, writer, length):
    server.bodies.append(await reader.readexactly(length))
    writer.write(answer(f"{head.split()[0]} {head.split()[1]} {length}".encode()))


@asynccontextmanager
async def listening(reply, tls=None):
    server = Server(reply)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0, ssl=tls)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await listener.wait_closed()


@asynccontextmanager
async def client(proxies=None, idle=PATIENCE):
    http = Http(connect=PATIENCE, idle=idle, proxies=proxies or {})
    try:
        yield http
    finally:
        await http.close()


def resting(http):
    return [connection for found in http._resting.values() for connection in found]


def run(work):
    """These parts live on an asyncio loop, as in the product."""

    async def within():
        async with asyncio.timeout(PATIENCE):
            await work()
        await asyncio.sleep(0.05)  # what was closed goes

    asyncio.run(within())


async def ask(http, server, path="/x?y=%2f", method="GET", scheme="http", limit=1 << 24, **more):
    url = f"{scheme}://127.0.0.1:{server.port}{path}"
    found = await http.ask(method, url, headers={"X-A": "b"}, limit=limit, **more)
    return found.status, b"".join(found.body)
