"""How connections get to a server: directly, or through a proxy, with TLS where the URL says so.

On the asyncio loop only. Certificates are those that the machine trusts, or that SSL_CERT_FILE and
SSL_CERT_DIR name.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final, TypeVar
from urllib.parse import unquote, urlsplit
from urllib.request import proxy_bypass

from aiohappyeyeballs import start_connection

P = TypeVar("P", bound=asyncio.BaseProtocol)

PORTS: Final = {"http": 80, "https": 443}
_HEAD_MOST: Final = 64 << 10
_ADDRESS_DELAY: Final = 0.25
"""Seconds after which a name's next address is tried beside the one before."""
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:DHE+CHACHA20"
"""HTTP/2 forbids the others."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections lead."""

    scheme: str
    host: str
    port: int

    @property
    def is_secure(self) -> bool:
        return self.scheme == "https"

    @property
    def address(self) -> str:
        """Host and port, as CONNECT has them."""
        host = self.host if self.host.isascii() else self.host.encode("idna").decode("ascii")
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"

    @property
    def authority(self) -> str:
        """As `Host` has it, without the port that goes without saying."""
        return self.address.removesuffix(f":{PORTS[self.scheme]}")


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy, which is spoken to in the clear, and the headers that it wants."""

    host: str
    port: int
    headers: Mapping[str, str]


def proxy_to(origin: Origin, proxies: Mapping[str, str]) -> Proxy | None:
    """The proxy on the way there; `proxies` as of urllib's getproxies.

    Raises OSError for one that cannot be used.
    """
    named = proxies.get(origin.scheme)
    if named is None or proxy_bypass(f"{origin.host}:{origin.port}", proxies):
        return None
    try:
        url = urlsplit(named if "://" in named else f"http://{named}")
        port = url.port or 80
    except ValueError:  # of its text, which may hold a password
        raise OSError(0, "the address of the proxy cannot be read") from None
    if url.scheme != "http" or not url.hostname:
        raise OSError(0, f"proxies of the kind {url.scheme!r} cannot be used")
    if url.username is None:
        return Proxy(url.hostname, port, {})
    pair = f"{unquote(url.username)}:{unquote(url.password or '')}".encode()
    basic = f"Basic {base64.b64encode(pair).decode('ascii')}"
    return Proxy(url.hostname, port, {"Proxy-Authorization": basic})


class Road:
    """Connects protocols of asyncio, which will speak `alpn`. `proxies`: as of urllib's getproxies."""

    def __init__(self, proxies: Mapping[str, str], alpn: str) -> None:
        self._proxies = proxies
        self._alpn = alpn

    @cached_property
    def tls(self) -> ssl.SSLContext:
        """What connections with TLS begin with."""
        context = ssl.create_default_context()
        if self._alpn == "h2":
            context.minimum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers(_CIPHERS)
        context.set_alpn_protocols([self._alpn])
        return context

    def proxy_to(self, origin: Origin) -> Proxy | None:
        """The proxy on the way there. Raises OSError for one that cannot be used."""
        return proxy_to(origin, self._proxies)

    async def local(self, make: Callable[[], P], path: str) -> P:
        """Connects to a socket of this machine. Raises OSError."""
        _, protocol = await asyncio.get_running_loop().create_unix_connection(make, path)
        return protocol

    async def straight(self, make: Callable[[], P], proxy: Proxy) -> P:
        """Connects to a proxy itself. Raises OSError."""
        return await _over(await _reach(proxy.host, proxy.port), make)

    async def to(self, make: Callable[[], P], origin: Origin) -> P:
        """Connects to a server. Raises OSError."""
        proxy = self.proxy_to(origin)
        reached = await (_reach(origin.host, origin.port) if proxy is None else _tunnel(proxy, origin))
        if origin.is_secure:
            return await _over(reached, make, ssl=self.tls, server_hostname=origin.host)
        return await _over(reached, make)


async def _over(reached: socket.socket, make: Callable[[], P], **tls: Any) -> P:
    """From here on asyncio sees to it that the socket is closed."""
    _, protocol = await asyncio.get_running_loop().create_connection(make, sock=reached, **tls)
    return protocol


async def _reach(host: str, port: int) -> socket.socket:
    """A connection to whichever address of a name answers; of all others nothing stays open.

    By asyncio alone one would stay open that is cancelled in the moment of success.
    """
    loop = asyncio.get_running_loop()
    try:
        addresses = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError:
        raise OSError(0, "a part of the name of the host is empty or too long") from None
    return await start_connection(addresses, happy_eyeballs_delay=_ADDRESS_DELAY)


async def _tunnel(proxy: Proxy, origin: Origin) -> socket.socket:
    """A socket that leads through the proxy to the server."""
    tunnel = await _reach(proxy.host, proxy.port)
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
