"""The volume against a reference of dictionaries, with restarts and deaths of the process in between."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from volume_kit import Kit

from mountsync.errors import errno_of
from mountsync.state.tree import ROOT_ID, Place
from mountsync.vfs import fsck
from mountsync.vfs.handles import Handle

SIZES = st.sampled_from([1, 100, 4096, 65_535, 65_536, 65_537, 100_000])
WHICH = st.integers(0, 7)
"""Which of the folders, or of the open handles, that there are: counted around."""
NAMES = st.sampled_from([b"a", b"b", b"c", b"\xff", b"long" * 20])
OFFSETS = st.sampled_from([0, 1, 5000, 65_536, 90_000])


@dataclass(eq=False)
class File:
    mode: int
    data: bytes = b""
    saved: bytes = b""
    """What is there at least after the process died."""
    unsaved: bool = False
    names: int = 1
    target: bytes | None = None
    new: bool = False
    """Made and never flushed: it may vanish with the process."""


@dataclass(eq=False)
class Folder:
    mode: int
    entries: dict[bytes, File | Folder] = field(default_factory=dict)


def put(data: bytes, offset: int, piece: bytes) -> bytes:
    data = data.ljust(offset, b"\0")
    return data[:offset] + piece + data[offset + len(piece) :]


@settings(
    max_examples=120,
    stateful_step_count=80,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
class VolumeMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="volume-model-"))
        self.kit = Kit(self.home)
        self.root = Folder(0o755)
        self.open: list[tuple[Handle, File]] = []

    def teardown(self) -> None:
        self.contents_are_the_same(self.root, ROOT_ID)
        for handle, _ in self.open:
            self.kit.volume.release(handle)
        self.kit.volume.close()
        assert fsck.check(self.kit.database, self.kit.store) == []
        self.kit.close()
        shutil.rmtree(self.home)

    # Where things are.

    def place(self, which: int) -> tuple[int, Folder]:
        """One of the folders that there are, with its node."""
        found: list[tuple[int, Folder]] = [(int(ROOT_ID), self.root)]
        for node_id, folder in found:
            for name, below in sorted(folder.entries.items()):
                if isinstance(below, Folder):
                    node = self.kit.volume.lookup(node_id, name)
                    assert node is not None
                    found.append((node.id, below))
        return found[which % len(found)]

    def expect(self, number: int | None, call, *args) -> object:
        """The call must succeed, or raise exactly that errno."""
        try:
            found = call(*args)
        except Exception as error:
            assert errno_of(error) == number, f"{error!r} instead of errno {number}"
            return None
        assert number is None, f"errno {number} was expected"
        return found

    # Names.

    @initialize()
    def begin(self) -> None:
        """Something of each kind, so that no step is wasted."""
        self.mkdir(0, b"a")
        self.mkdir(1, b"b")
        self.create(0, b"b")
        self.create(1, b"c")

    @rule(which=WHICH, name=NAMES)
    def mkdir(self, which: int, name: bytes) -> None:
        node_id, folder = self.place(which)
        taken = name in folder.entries
        self.expect(17 if taken else None, self.kit.volume.mkdir, node_id, name, 0o750, 1, 2)
        if not taken:
            folder.entries[name] = Folder(0o750)

    @rule(which=WHICH, name=NAMES)
    def create(self, which: int, name: bytes) -> None:
        node_id, folder = self.place(which)
        if name in folder.entries:
            self.expect(17, self.kit.volume.create, node_id, name, 0o640, os.O_RDWR, 0, 0)
            return
        handle, _ = self.kit.volume.create(node_id, name, 0o640, os.O_RDWR, 0, 0)
        file = folder.entries[name] = File(0o640, new=True)
        self.open.append((handle, file))

    @rule(path=WHICH, name=NAMES, text=st.binary(min_size=1, max_size=9))
    def symlink(self, path: int, name: bytes, text: bytes) -> None:
        place = self.place(path)
        if place is not None:
            taken = name in place[1].entries
            self.expect(17 if taken else None, self.kit.volume.symlink, place[0], name, text, 0, 0)
            if not taken:
                place[1].entries[name] = File(0o777, target=text)

    @rule(path=WHICH, name=NAMES, to=WHICH, new_name=NAMES)
    def link(self, path, name, to, new_name) -> None:
        source, target = self.place(path), self.place(to)
        if source is None or target is None:
            return
        entry = source[1].entries.get(name)
        if not isinstance(entry, File):
            return
        node = self.kit.volume.lookup(source[0], name)
        taken = new_name in target[1].entries
        self.expect(17 if taken else None, self.kit.volume.link, node.id, target[0], new_name)
        if not taken:
            target[1].entries[new_name] = entry
            entry.names += 1

    @rule(path=WHICH, name=NAMES)
    def unlink(self, path, name) -> None:
        place = self.place(path)
        if place is None:
            return
        entry = place[1].entries.get(name)
        number = 2 if entry is None else 21 if isinstance(entry, Folder) else None
        self.expect(number, self.kit.volume.unlink, place[0], name)
        if isinstance(entry, File):
            del place[1].entries[name]
            entry.names -= 1

    @rule(path=WHICH, name=NAMES)
    def rmdir(self, path, name) -> None:
        place = self.place(path)
        if place is None:
            return
        entry = place[1].entries.get(name)
        number = 2 if entry is None else 20 if isinstance(entry, File) else 39 if entry.entries else None
        self.expect(number, self.kit.volume.rmdir, place[0], name)
        if number is None:
            del place[1].entries[name]

    @rule(path=WHICH, name=NAMES, to=WHICH, new_name=NAMES, flags=st.sampled_from([0, 0, 1, 2]))
    def rename(self, path, name, to, new_name, flags) -> None:
        source, target = self.place(path), self.place(to)
        if source is None or target is None:
            return
        entry, over = source[1].entries.get(name), target[1].entries.get(new_name)
        number = self.rename_errno(entry, over, target[1], source[1], flags)
        self.expect(number, self.kit.volume.rename, source[0], name, target[0], new_name, flags)
        if number is not None or over is entry:
            return
        if flags == 2:
            source[1].entries[name], target[1].entries[new_name] = over, entry
            return
        del source[1].entries[name]
        target[1].entries[new_name] = entry
        if isinstance(over, File):
            over.names -= 1

    def rename_errno(self, entry, over, target, source, flags) -> int | None:
        if entry is None:
            return 2
        if flags == 2:
            if over is None:
                return 2
            return 22 if holds(entry, target) or holds(over, source) else None
        if over is not None and flags == 1:
            return 17
        if holds(entry, target):
            return 22
        if over is None or over is entry:
            return None
        if isinstance(entry, Folder) and isinstance(over, File):
            return 20
        if isinstance(over, Folder):
            return 21 if isinstance(entry, File) else 39 if over.entries else None
        return None

    # Contents.

    def opened(self, which: int) -> tuple[Handle, File]:
        return self.open[which % len(self.open)]

    @rule(path=WHICH, name=NAMES, empty=st.booleans())
    def open_again(self, path, name, empty):
        place = self.place(path)
        entry = place[1].entries.get(name) if place else None
        if not isinstance(entry, File) or entry.target is not None:
            return
        node = self.kit.volume.lookup(place[0], name)
        handle = self.kit.volume.open(node.id, os.O_RDWR | (os.O_TRUNC if empty else 0))
        if empty:
            entry.data, entry.unsaved = b"", True
        self.open.append((handle, entry))

    @precondition(lambda self: self.open)
    @rule(which=WHICH, offset=OFFSETS, size=SIZES, byte=st.integers(1, 255))
    def write(self, which, offset, size, byte) -> None:
        handle, file = self.opened(which)
        piece = bytes([byte]) * size
        assert self.kit.volume.write(handle, offset, piece) == size
        file.data, file.unsaved = put(file.data, offset, piece), True

    @precondition(lambda self: self.open)
    @rule(which=WHICH, offset=OFFSETS, size=SIZES)
    def read(self, which, offset, size) -> None:
        handle, file = self.opened(which)
        wanted = file.data[offset : offset + size]
        assert self.kit.volume.read(handle, offset, size) == wanted
        with contextlib.suppress(BlockingIOError):
            assert bytes(self.kit.volume.read_now(handle, offset, size)) == wanted

    @precondition(lambda self: self.open)
    @rule(which=WHICH, size=st.sampled_from([0, 1, 4096, 65_536, 65_537, 200_000]), by_handle=st.booleans())
    def truncate(self, which, size, by_handle) -> None:
        handle, file = self.opened(which)
        node = handle.file.node
        self.kit.volume.setattr(node.id, size=size, handle=handle if by_handle else None)
        file.data = file.data[:size].ljust(size, b"\0")
        file.unsaved = by_handle
        if not by_handle:
            file.saved, file.new = file.data, False
        assert node.size == size

    @precondition(lambda self: self.open)
    @rule(which=WHICH)
    def flush(self, which) -> None:
        handle, file = self.opened(which)
        self.kit.volume.flush(handle)
        file.saved, file.unsaved, file.new = file.data, False, False

    @precondition(lambda self: self.open)
    @rule(which=WHICH)
    def quiesce(self, which) -> None:
        handle, file = self.opened(which)
        node = handle.file.node
        self.kit.volume.quiesce(node.id)
        assert not self.kit.volume.is_busy(node.id)
        if node.nlink:
            with self.kit.volume.body(node.id) as body:
                assert body.size == len(file.data)
                assert trio.run(body.read, 0, body.size) == file.data

    @precondition(lambda self: self.open)
    @rule(which=WHICH)
    def close(self, which) -> None:
        handle, file = self.opened(which)
        self.kit.volume.flush(handle)
        self.kit.volume.release(handle)
        file.saved, file.unsaved, file.new = file.data, False, False
        self.open = [pair for pair in self.open if pair[0] is not handle]

    @rule(path=WHICH, name=NAMES, mode=st.sampled_from([0o600, 0o4755, 0]))
    def chmod(self, path, name, mode) -> None:
        place = self.place(path)
        entry = place[1].entries.get(name) if place else None
        if entry is not None and not (isinstance(entry, File) and entry.target is not None):
            node = self.kit.volume.lookup(place[0], name)
            self.kit.volume.setattr(node.id, mode=mode, mtime_ns=mode)
            entry.mode = mode

    @rule()
    def look(self) -> None:
        self.contents_are_the_same(self.root, ROOT_ID)

    def contents_are_the_same(self, folder: Folder, node_id: int) -> None:
        for name, entry in folder.entries.items():
            node = self.kit.volume.lookup(node_id, name)
            if isinstance(entry, Folder):
                self.contents_are_the_same(entry, node.id)
            elif entry.target is None:
                handle = self.kit.volume.open(node.id, os.O_RDONLY)
                found = self.kit.volume.read(handle, 0, 1 << 20)
                self.kit.volume.release(handle)
                assert found == entry.data

    # Time passes, processes die.

    @rule()
    def barrier(self) -> None:
        trio.run(self.kit.volume.barrier)
        assert not self.kit.database.rows("SELECT 1 FROM present WHERE barrier = 0")

    @rule(really=st.sampled_from([True, False, False]))
    def restart(self, really: bool) -> None:
        if not really:
            return
        for handle, file in self.open:
            self.kit.volume.release(handle)
            file.saved, file.unsaved = file.data, False
        self.open = []
        self.kit.close()
        self.kit._open("boot-1")
        assert fsck.check(self.kit.database, self.kit.store) == []
        self.contents_are_the_same(self.root, ROOT_ID)

    @rule(really=st.sampled_from([True, False, False]))
    def die(self, really: bool) -> None:
        if not really:
            return
        self.open = []
        self.kit.crash()
        assert fsck.check(self.kit.database, self.kit.store) == []
        self.adopt(self.root, ROOT_ID)

    def adopt(self, folder: Folder, node_id: int) -> None:
        """What was neither closed nor synced may be old or new, and the model goes on with what is."""
        for name, entry in list(folder.entries.items()):
            node = self.kit.volume.lookup(node_id, name)
            if isinstance(entry, Folder):
                assert node is not None and node.is_directory
                self.adopt(entry, node.id)
            elif node is None:
                assert entry.new, f"{name!r} was acknowledged and is gone"
                del folder.entries[name]
                entry.names -= 1
            elif entry.target is None:
                self.adopt_content(entry, node)

    def adopt_content(self, entry: File, node) -> None:
        handle = self.kit.volume.open(node.id, os.O_RDONLY)
        found = self.kit.volume.read(handle, 0, 1 << 20)
        self.kit.volume.release(handle)
        if not entry.unsaved and not entry.new:
            assert found == entry.saved
        else:
            entry.mode = stat.S_IMODE(node.mode)
        entry.data = entry.saved = found
        entry.unsaved = entry.new = False

    @invariant()
    def tree_is_the_same(self) -> None:
        self.compare(self.root, ROOT_ID)

    def compare(self, folder: Folder, node_id: int) -> None:
        volume = self.kit.volume
        handle = volume.opendir(node_id)
        listed, at = {}, 0
        while page := volume.readdir(handle, at, 3):
            for name, node, _ in page:
                listed[name] = node
            at = page[-1][2]
        volume.releasedir(handle)
        del listed[b"."], listed[b".."]
        assert set(listed) == set(folder.entries)
        folders = sum(isinstance(entry, Folder) for entry in folder.entries.values())
        assert volume.getattr(node_id).nlink == 2 + folders
        for name, entry in folder.entries.items():
            node = volume.lookup(node_id, name)
            assert node.id == listed[name].id
            if isinstance(entry, Folder):
                self.compare(entry, node.id)
                continue
            assert node.nlink == entry.names
            if entry.target is not None:
                assert volume.readlink(node.id) == entry.target
            else:
                assert (stat.S_IMODE(node.mode), node.size) == (entry.mode, len(entry.data))
                assert node.place in (Place.BLOB, Place.FILE)


def holds(entry: object, folder: Folder) -> bool:
    """Whether `folder` is `entry` or lies in it."""
    if entry is folder:
        return True
    return isinstance(entry, Folder) and any(holds(below, folder) for below in entry.entries.values())


TestVolume = pytest.mark.timeout(300)(VolumeMachine.TestCase)
