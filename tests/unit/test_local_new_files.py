"""A local file where nothing is expected: what is there is told and stays, whatever the disk can do."""

import errno
import os
from pathlib import Path

import pytest
import trio

from mountsync.errors import IsADirectory, Stale
from mountsync.paths import RelPath
from mountsync.storage import local_draft, local_root, syscalls
from mountsync.storage.api import ABSENT
from mountsync.storage.local_draft import Draft
from tests.parts.bodies import StoppingSource, body, get, put


def _refusing(number):
    def call(*_, **__):
        raise OSError(number, os.strerror(number))

    return call


@pytest.fixture(params=["renames", "links", "neither"])
def step(request, monkeypatch):
    """What the file system has to put a file where nothing is."""
    if request.param != "renames":
        monkeypatch.setattr(syscalls, "rename_noreplace", _refusing(errno.EINVAL))
    if request.param == "neither":
        monkeypatch.setattr(os, "link", _refusing(errno.EPERM))
    return request.param


@pytest.fixture
def looks(monkeypatch):
    """The names at which drafts looked."""
    names = []

    def look(fd, name):
        names.append(name)
        return local_root.look(fd, name)

    monkeypatch.setattr(local_draft, "look", look)
    return names


async def test_a_small_new_file_costs_no_look(storage, step, looks):
    await put(storage, "d/f", b"new", expect=ABSENT)
    assert looks == ([b"f"] if step == "neither" else [])
    assert await get(storage, "d/f") == b"new"


_THERE = {
    "file": (lambda path: path.write_bytes(b"theirs"), Stale),
    "link": (lambda path: path.symlink_to("nowhere"), Stale),
    "pipe": (os.mkfifo, Stale),
    "folder": (Path.mkdir, IsADirectory),
}


@pytest.mark.parametrize("kind", _THERE)
@pytest.mark.parametrize("size", [100, 3_000_000])
@pytest.mark.parametrize("late", [False, True])
async def test_what_is_there_unexpectedly_is_told_and_stays(
    storage, root, step, monkeypatch, kind, size, late
):
    """Also what comes while the body is written; and nothing unfinished is left beside it."""
    plant, error = _THERE[kind]
    append = Draft.append

    def disturbed(draft, data):
        if not os.path.lexists(root / "d" / "f"):
            plant(root / "d" / "f")
        append(draft, data)

    if late:
        monkeypatch.setattr(Draft, "append", disturbed)
    else:
        (root / "d").mkdir()
        plant(root / "d" / "f")
        before = (root / "d" / "f").lstat()
    with pytest.raises(error) as told:
        await put(storage, "d/f", body(size), expect=ABSENT)
    assert type(told.value) is error
    assert os.listdir(root / "d") == ["f"]
    after = (root / "d" / "f").lstat()
    assert after.st_size != size
    assert late or (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


async def test_the_root_is_a_folder_also_where_nothing_is_expected(storage, root, step):
    with pytest.raises(IsADirectory):
        await put(storage, "", b"x", expect=ABSENT)
    assert os.listdir(root) == []


async def test_what_goes_away_between_step_and_look_was_there(storage, root, monkeypatch):
    (root / "f").write_bytes(b"theirs")
    monkeypatch.setattr(local_draft, "look", lambda *_: None)
    with pytest.raises(Stale, match="nothing was expected"):
        await put(storage, "f", b"new", expect=ABSENT)
    assert (root / "f").read_bytes() == b"theirs"


async def test_a_large_body_does_not_travel_where_something_is(storage, root):
    (root / "f").write_bytes(b"theirs")
    source = StoppingSource(body(3_000_000), 0)
    with trio.fail_after(10), pytest.raises(Stale):
        await storage.write(RelPath("f"), source, expect=ABSENT)
    assert not source.reached.is_set()
