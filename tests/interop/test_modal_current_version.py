"""A file that others changed a moment ago opens as it is now, though nothing told the mount."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.interop.test_modal_mount import body
from tests.modal_server import ModalServer
from tests.parts.real_mount import Mounted

SIZES = {"small": 3000, "large": 5 << 20}


@pytest.fixture
def mount(server: ModalServer, tmp_path: Path) -> Iterator[Mounted]:
    mount = Mounted(tmp_path / "home", "--poll-interval", "10m", spec=":modal:data")
    mount.more = server.environment()
    for name, size in SIZES.items():
        plant(server, name, body(size), 1_700_000_000)
    mount.start().flush()
    yield mount
    mount.end()


def plant(server: ModalServer, name: str, data: bytes, mtime: int) -> None:
    volume = server.volume("data")
    server.do(lambda: server.store.plant(volume, name, data, mtime=mtime))


@pytest.mark.parametrize("name", SIZES)
def test_another_version(mount: Mounted, server: ModalServer, name: str) -> None:
    assert (mount.path / name).stat().st_size == SIZES[name]
    data = body(SIZES[name] + 10)
    plant(server, name, data, 1_700_000_100)
    assert (mount.path / name).read_bytes() == data
    with open(mount.path / name, "rb") as held:
        assert held.read(10) == data[:10]
        plant(server, name, body(77), 1_700_000_200)
        assert held.read() == data[10:], "what is here stays what was opened"
    mount.umount()


@pytest.mark.parametrize("name", SIZES)
def test_gone(mount: Mounted, server: ModalServer, name: str) -> None:
    volume = server.volume("data")
    server.do(lambda: server.store.remove(volume, name, recursive=False, vanish=False))
    with pytest.raises(FileNotFoundError):
        (mount.path / name).read_bytes()
    assert name not in os.listdir(mount.path)


def test_offline_it_opens_as_it_is_known(mount: Mounted, server: ModalServer) -> None:
    assert (mount.path / "small").read_bytes() == body(SIZES["small"])
    server.__exit__()
    fd = os.open(mount.path / "large", os.O_RDONLY)
    with pytest.raises(OSError, match="unreachable"):
        os.read(fd, 10)
    os.close(fd)
    assert (mount.path / "small").read_bytes() == body(SIZES["small"])
