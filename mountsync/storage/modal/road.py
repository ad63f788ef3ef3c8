"""How gRPC gets to a server: directly, or through the tunnel of a proxy, with TLS where the URL says so.

On the asyncio loop only. Proxies and certificates are those that blocks go by; see `http`.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Final, TypeVar

from mountsync.storage.modal.http import Origin, Proxy, proxy_to

P = TypeVar("P", bound=asyncio.Protocol)

_HEAD_MOST: Final = 64 << 10
_ADDRESS_DELAY: Final = 0.25
"""Seconds after which a name's next address is tried beside the one before."""
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20"
"""HTTP/2 forbids the others."""


class Road:
    """Connects protocols of asyncio. `proxies`: as of urllib's getproxies."""

    def __init__(self, proxies: Mapping[str, str]) -> None:
        self._proxies = proxies

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """Trusts what the machine trusts, or what SSL_CERT_FILE and SSL_CERT_DIR name."""
        context = ssl.create_default_context()
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers(_CIPHERS)
        context.set_alpn_protocols(["h2"])
        return context

    async def local(self, make: Callable[[], P], path: str) -> P:
        """Connects to a socket of this machine. Raises OSError."""
        _, protocol = await asyncio.get_running_loop().create_unix_connection(make, path)
        return protocol

    async def to(self, make: Callable[[], P], origin: Origin) -> P:
        """Connects to a server. Raises OSError."""
        tls = self.tls if origin.is_secure else None
        proxy = proxy_to(origin, self._proxies)
        loop = asyncio.get_running_loop()
        if proxy is None:
            _, protocol = await loop.create_connection(
                make, origin.host, origin.port, ssl=tls, happy_eyeballs_delay=_ADDRESS_DELAY
            )
            return protocol
        name = origin.host if tls is not None else None
        tunnel = await _tunnel(proxy, origin)
        try:
            _, protocol = await loop.create_connection(make, sock=tunnel, ssl=tls, server_hostname=name)
        except BaseException:
            tunnel.close()
            raise
        return protocol


async def _tunnel(proxy: Proxy, origin: Origin) -> socket.socket:
    """A socket that leads through the proxy to the server."""
    tunnel = await _dial(proxy.host, proxy.port)
    try:
        headers = {"Host": origin.address} | dict(proxy.headers)
        lines = [f"CONNECT {origin.address} HTTP/1.1", *(f"{name}: {text}" for name, text in headers.items())]
        request = "\r\n".join([*lines, "", ""]).encode("ascii")
        await asyncio.get_running_loop().sock_sendall(tunnel, request)
        _accept(await _head(tunnel))
    except BaseException:
        tunnel.close()
        raise
    return tunnel


async def _dial(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    last = OSError(0, "the proxy has no address")
    for family, kind, protocol, _, address in await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM):
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        try:
            await loop.sock_connect(connection, address)
        except BaseException as error:
            connection.close()
            if not isinstance(error, OSError):
                raise
            last = error
        else:
            return connection
    raise last


async def _head(tunnel: socket.socket) -> bytes:
    """The proxy's answer; byte by byte, since what follows it is the server's."""
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        more = await asyncio.get_running_loop().sock_recv(tunnel, 1)
        if not more or len(head) > _HEAD_MOST:
            raise ConnectionResetError("the proxy gave no answer")
        head += more
    return head


def _accept(head: bytes) -> None:
    status = head.split(b" ", 2)[1:2]
    if not head.startswith(b"HTTP/1.") or status != [b"200"]:
        line = head.split(b"\r\n", 1)[0][:100].decode("ascii", "replace")
        raise OSError(0, f"the proxy answered {line!r}")
