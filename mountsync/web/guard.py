"""Who may ask. Pure: a request in, a refusal out.

The server listens on the loopback, which every program and every web page that is open on this machine
can reach. So a request must show that it comes from our own page, in the browser of the user who holds
the token:

- its Host is this server's (a foreign name that was made to point here is refused: DNS rebinding);
- it carries the cookie that only the address with the token gives, which no script can read and which
  the browser never sends from another site (`HttpOnly`, `SameSite=Strict`);
- what changes something comes from our own origin, as JSON, with the word that stands in our page, which
  no other site can read.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.cookies import CookieError, SimpleCookie
from typing import Final
from urllib.parse import parse_qs, urlsplit

CSRF_HEADER: Final = "x-mountsync-word"


@dataclass(frozen=True, slots=True)
class Request:
    """One request: header names in lower case, header values as sent."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def path(self) -> str:
        """Without the query."""
        return urlsplit(self.target).path

    def query(self, name: str) -> str:
        """The one value of a name in the query; empty when there is none, or several."""
        values = parse_qs(urlsplit(self.target).query).get(name, [])
        return values[0] if len(values) == 1 else ""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The status and the sentence of a refusal."""

    status: int
    reason: str


def _secret() -> str:
    return secrets.token_urlsafe(32)


@dataclass(frozen=True, slots=True)
class Guard:
    """The secrets of one server. All are made anew at each start."""

    port: int
    token: str = field(default_factory=_secret, repr=False)
    """In the address that the user opens."""
    session: str = field(default_factory=_secret, repr=False)
    """In the cookie."""
    word: str = field(default_factory=_secret, repr=False)
    """In the page, and in every request that changes something."""

    @property
    def address(self) -> str:
        """What the user opens."""
        return f"http://127.0.0.1:{self.port}/?token={self.token}"

    @property
    def cookie(self) -> str:
        """The value of Set-Cookie. Cookies do not know ports, so the name has it."""
        return f"{self._cookie_name}={self.session}; HttpOnly; SameSite=Strict; Path=/"

    @property
    def _cookie_name(self) -> str:
        return f"mountsync-{self.port}"

    def misdirected(self, request: Request) -> Refusal | None:
        """For every request: is it for this server at all?"""
        hosts = (f"127.0.0.1:{self.port}", f"localhost:{self.port}")
        if request.headers.get("host", "") in hosts:
            return None
        return Refusal(421, "this is not the address of this page")

    def opens(self, request: Request) -> bool:
        """Whether the request's address carries the token."""
        return secrets.compare_digest(request.query("token").encode(), self.token.encode())

    def knows(self, request: Request) -> bool:
        """Whether the request carries the cookie."""
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(request.headers.get("cookie", ""))
        except CookieError:
            return False
        found = cookies.get(self._cookie_name)
        return found is not None and secrets.compare_digest(found.value.encode(), self.session.encode())

    def stranger(self, request: Request) -> Refusal | None:
        """For what only the user may see."""
        site = request.headers.get("sec-fetch-site", "same-origin")
        if site not in ("same-origin", "none"):
            return Refusal(403, "another site must not ask this")
        return None if self.knows(request) else Refusal(403, "open the address that `mountsync web` printed")

    def forged(self, request: Request) -> Refusal | None:
        """For what changes something, after `stranger`."""
        if request.headers.get("origin") != f"http://{request.headers.get('host')}":
            return Refusal(403, "it does not come from this page")
        kind = request.headers.get("content-type", "").partition(";")[0].strip()
        if kind != "application/json":
            return Refusal(415, "it must be JSON")
        word = request.headers.get(CSRF_HEADER, "")
        if not secrets.compare_digest(word.encode(), self.word.encode()):
            return Refusal(403, "it does not come from this page; load it again")
        return None
