"""A mount under a service manager: the manager's socket is real, the manager is the test."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.parts.real_mount import PATIENCE_S, Mounted


class Manager:
    """Reads what services say, as systemd does."""

    def __init__(self, address: Path) -> None:
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(address))

    def next(self, within: float = PATIENCE_S) -> str | None:
        """The next message; None when none comes."""
        self._socket.settimeout(within)
        try:
            return self._socket.recv(4096).decode()
        except TimeoutError:
            return None

    def until(self, begin: str) -> str:
        """The next message that begins so."""
        while True:
            message = self.next()
            assert message is not None, f"never told: {begin}"
            if message.startswith(begin):
                return message

    def drain(self) -> list[str]:
        """What has been said and not heard yet."""
        heard = []
        while (message := self.next(within=0.001)) is not None:
            heard.append(message)
        return heard

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify")
    yield made
    made.close()


@pytest.fixture
def managed(tmp_path: Path, manager: Manager) -> Iterator[Mounted]:
    """Not started; write delays are long, so that what is written stays here."""
    made = Mounted(tmp_path / "place", "--write-delay", "1h")
    made.more = {"NOTIFY_SOCKET": str(manager.address)}
    yield made
    made.end()
