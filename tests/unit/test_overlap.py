"""Sides that are one place, or lie in each other, under whatever name."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from mountsync.engine.pair.overlap import ground_of, refuse_overlap, shared
from mountsync.errors import UsageError
from mountsync.settings import state_root
from mountsync.storage.api import Storage
from mountsync.storage.local import LocalStorage
from mountsync.storage.memory import MemoryStorage
from mountsync.storage.registry import Remotes
from tests.parts.rclone import BINARY

_LIBC = ctypes.CDLL(None, use_errno=True)
_MS_BIND, _MNT_DETACH = 4096, 2


@pytest.fixture
def bound(tmp_path: Path) -> Iterator[Path]:
    """`disk/inner` again, under another path with a blank in it."""
    (tmp_path / "disk/inner/deep").mkdir(parents=True)
    point = tmp_path / "mounted here"
    point.mkdir()
    inner = os.fsencode(tmp_path / "disk/inner")
    if _LIBC.mount(inner, os.fsencode(point), None, _MS_BIND, None) != 0:
        pytest.skip(f"no bind mounts here: {os.strerror(ctypes.get_errno())}")
    yield point
    assert _LIBC.umount2(os.fsencode(point), _MNT_DETACH) == 0


def refused(a: Storage, b: Storage) -> str:
    found = []
    for one, two in ((a, b), (b, a)):
        with pytest.raises(UsageError) as error:
            refuse_overlap(one.info, two.info)
        found.append(str(error.value))
    assert found[0] == found[1]
    return found[0]


async def test_links_are_seen_through(tmp_path):
    (tmp_path / "real/inner").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    assert "same place" in refused(LocalStorage(str(tmp_path / "link")), LocalStorage(str(tmp_path / "real")))
    assert "lies in" in refused(
        LocalStorage(str(tmp_path / "link/inner")), LocalStorage(str(tmp_path / "real"))
    )


async def test_neighbours_with_a_common_beginning_are_no_overlap(tmp_path):
    for name in ("data", "data2", "data.old"):
        (tmp_path / name).mkdir()
    one = LocalStorage(str(tmp_path / "data"))
    for name in ("data2", "data.old"):
        refuse_overlap(one.info, LocalStorage(str(tmp_path / name)).info)
    refuse_overlap(MemoryStorage("x").info, MemoryStorage("xy").info)


async def test_bind_mounts_are_seen_through(tmp_path, bound):
    outer, again = LocalStorage(str(tmp_path / "disk")), LocalStorage(str(bound))
    assert "lies in" in refused(outer, again)
    assert "lies in" in refused(outer, LocalStorage(str(bound / "deep")))
    assert "same place" in refused(LocalStorage(str(tmp_path / "disk/inner")), again)
    (tmp_path / "disk/other").mkdir()
    refuse_overlap(LocalStorage(str(tmp_path / "disk/other")).info, again.info)


@pytest.fixture
def remotes(tmp_path, monkeypatch) -> Remotes:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return Remotes({}, state_root())


async def test_overlays_and_aliases_are_seen_through(tmp_path, remotes):
    (tmp_path / "disk/chunks").mkdir(parents=True)
    plain = LocalStorage(str(tmp_path / "disk"))
    for spec in (f":chunker,remote={tmp_path}/disk/chunks:", f":alias,remote={tmp_path}/disk/chunks:"):
        storage = await remotes.open(spec)
        assert "lies in" in refused(plain, storage)
        await storage.aclose()
    same = await remotes.open(f":chunker,remote={tmp_path}/disk:")
    assert "same place" in refused(plain, same)
    await same.aclose()


@pytest.mark.skipif(BINARY is None, reason="the real rclone is not installed")
async def test_local_remotes_of_rclone_are_seen_through(tmp_path, remotes):
    (tmp_path / "disk/inner").mkdir(parents=True)
    plain = LocalStorage(str(tmp_path / "disk"))
    for remote in (f"{tmp_path}/disk/inner", f":alias,remote='{tmp_path}/disk':inner"):
        storage = await remotes.open(f':rclone,remote="{remote}":')
        assert storage.info.lies_in == f"local:{tmp_path}/disk/inner"
        assert "lies in" in refused(plain, storage)
        await storage.aclose()


async def test_what_two_pairs_share(tmp_path):
    for name in ("notes/inner", "usb", "other"):
        (tmp_path / name).mkdir(parents=True)

    def grounds(*names: str) -> dict[str, str]:
        return {name: ground_of(LocalStorage(str(tmp_path / name)).info) for name in names}

    assert shared(grounds("notes/inner", "usb"), grounds("notes", "other")) == "notes/inner"
    assert shared(grounds("notes", "usb"), grounds("notes/inner", "other")) == "notes"
    assert shared(grounds("notes", "usb"), grounds("other")) is None
