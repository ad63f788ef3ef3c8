"""How connections get to a server: by which proxy, and that none is left open."""

from __future__ import annotations

import asyncio
import os
import socket
from urllib.request import getproxies

import pytest

from mountsync.storage.modal.road import Origin, Road, proxy_to

ORIGIN = Origin("https", "blocks.example.com", 443)


@pytest.mark.parametrize(
    ("environ", "host"),
    [
        ({}, None),
        ({"https_proxy": "http://p:8080"}, "p"),
        ({"HTTPS_PROXY": "http://q", "https_proxy": "p:8080"}, "p"),
        ({"HTTP_PROXY": "http://p"}, None),
        ({"all_proxy": "socks5://p"}, None),
        ({"https_proxy": "http://p", "no_proxy": "other.com, .example.com"}, None),
        ({"https_proxy": "http://p", "no_proxy": "blocks.example.com:443"}, None),
        ({"https_proxy": "http://p", "NO_PROXY": "*"}, None),
        ({"https_proxy": "http://p", "no_proxy": "ample.com"}, "p"),
    ],
)
def test_the_usual_variables_name_proxies(environ, host, monkeypatch):
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_to(ORIGIN, getproxies())
    assert (proxy.host if proxy else None) == host


def test_a_proxy_that_cannot_be_spoken_to_is_an_error():
    with pytest.raises(OSError, match="socks5"):
        proxy_to(ORIGIN, {"https": "socks5://p:1080"})


def sockets() -> int:
    """How many sockets this process has open."""
    links = (os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if gone_is_fine(fd))
    return sum(link.startswith("socket:") for link in links)


def gone_is_fine(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")


async def hop_and_cancel(road: Road, origin: Origin, hops: int) -> bool:
    """Cancels a connection after so many turns of the loop; whether it was there by then."""
    task = asyncio.ensure_future(road.to(asyncio.Protocol, origin))
    for _ in range(hops):
        await asyncio.sleep(0)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError:
        return False
    return True


async def loopback(_host, port, **_) -> list:
    """Both addresses of this machine, without a thread that takes who knows how many turns."""
    of_four = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("127.0.0.1", port))
    of_six = (socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", ("::1", port, 0, 0))
    return [of_six, of_four]


def test_whenever_a_connection_is_cancelled_its_socket_is_closed():
    """asyncio alone forgets the socket when that happens in the moment of success."""

    async def work() -> None:
        asyncio.get_running_loop().getaddrinfo = loopback
        with socket.create_server(("127.0.0.1", 0), backlog=200) as server:
            origin, road = Origin("http", "here", server.getsockname()[1]), Road({}, "h2")
            hops, before = 0, sockets()
            while not await hop_and_cancel(road, origin, hops):
                await asyncio.sleep(0.01)
                assert sockets() == before, hops
                hops += 1
            assert hops > 3

    asyncio.run(work())
