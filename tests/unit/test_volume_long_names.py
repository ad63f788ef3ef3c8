"""Names that the remote bears only for small contents: who makes the content large hears of it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mountsync.errors import NameRefused, NameTooLong
from mountsync.formats.chunk_names import name_format
from mountsync.formats.modal_sidecar import RCLONE_NAME
from mountsync.paths import RelPath
from mountsync.state.tree import ROOT_ID, Node
from mountsync.storage.api import NameRules
from mountsync.storage.chunker.names import chunker_names
from mountsync.storage.modal.names import ModalNames
from mountsync.vfs.handles import Handle
from mountsync.vfs.renaming import EXCHANGE

sys.path.insert(0, str(Path(__file__).parent.parent / "model"))
from volume_kit import Kit

CHUNK = 100_000
RULES = chunker_names(NameRules(), name_format(), chunk_size=CHUNK, always=False)
LONG, FITS = b"n" * 232, b"n" * 231


@pytest.fixture
def kit(tmp_path: Path):
    made = Kit(tmp_path, names=RULES)
    yield made
    made.close()


def make(kit: Kit, name: bytes, size: int = 0) -> tuple[Handle, Node]:
    handle, node = kit.volume.create(ROOT_ID, name, 0o644, os.O_RDWR, 0, 0)
    if size:
        kit.volume.write(handle, 0, b"x" * size)
    return handle, node


def test_what_a_name_bears():
    assert RULES.largest(RelPath("n" * 200)) is None
    assert RULES.largest(RelPath("n" * 231)) == 999 * CHUNK, "three digits fit, four do not"
    assert RULES.largest(RelPath("n" * 232)) == CHUNK
    assert RULES.refusal(RelPath("n" * 231), size=999 * CHUNK) is None
    assert RULES.refusal(RelPath("n" * 231), size=999 * CHUNK + 1) is not None


def test_a_write_beyond_one_chunk_is_refused_and_changes_nothing(kit: Kit):
    handle, node = make(kit, LONG, CHUNK)
    with pytest.raises(NameTooLong):
        kit.volume.write(handle, CHUNK, b"x")
    with pytest.raises(NameTooLong):
        kit.volume.write(handle, CHUNK - 1, b"yy")
    assert kit.volume.read(handle, 0, 2 * CHUNK) == b"x" * CHUNK
    assert node.size == CHUNK
    kit.volume.write(handle, 0, b"y")
    kit.volume.release(handle)


def test_a_small_first_write_is_refused_too(kit: Kit):
    handle, node = make(kit, LONG)
    with pytest.raises(NameTooLong):
        kit.volume.write(handle, CHUNK, b"x")
    assert (node.size, kit.volume.read(handle, 0, 10)) == (0, b"")
    kit.volume.release(handle)


def test_a_name_that_is_short_enough(kit: Kit):
    handle, node = make(kit, FITS, 2 * CHUNK)
    assert node.size == 2 * CHUNK
    with pytest.raises(NameTooLong):
        kit.volume.setattr(node.id, size=999 * CHUNK + 1)
    kit.volume.release(handle)


def test_truncate_that_lengthens(kit: Kit):
    handle, node = make(kit, LONG, 10)
    kit.volume.release(handle)
    with pytest.raises(NameTooLong):
        kit.volume.setattr(node.id, size=CHUNK + 1)
    assert kit.volume.setattr(node.id, size=CHUNK).size == CHUNK
    assert kit.volume.setattr(node.id, size=0).size == 0


def test_a_large_file_gets_no_long_name(kit: Kit):
    handle, node = make(kit, b"short", CHUNK + 1)
    other, _ = make(kit, LONG, 10)
    with pytest.raises(NameTooLong):
        kit.volume.rename(ROOT_ID, b"short", ROOT_ID, LONG + b"2")
    with pytest.raises(NameTooLong):
        kit.volume.rename(ROOT_ID, b"short", ROOT_ID, LONG, EXCHANGE)
    with pytest.raises(NameTooLong):
        kit.volume.rename(ROOT_ID, LONG, ROOT_ID, b"short", EXCHANGE)
    with pytest.raises(NameTooLong):
        kit.volume.link(node.id, ROOT_ID, LONG + b"2")
    kit.volume.rename(ROOT_ID, b"short", ROOT_ID, FITS)
    kit.volume.release(handle)
    kit.volume.release(other)


def test_names_are_asked_again_when_they_change(kit: Kit):
    handle, node = make(kit, b"short", CHUNK)
    kit.volume.rename(ROOT_ID, b"short", ROOT_ID, LONG)
    with pytest.raises(NameTooLong):
        kit.volume.write(handle, CHUNK, b"x")
    kit.volume.rename(ROOT_ID, LONG, ROOT_ID, b"short")
    kit.volume.write(handle, CHUNK, b"x")
    kit.volume.link(node.id, ROOT_ID, b"second")
    kit.volume.write(handle, CHUNK, b"xx")
    kit.volume.unlink(ROOT_ID, b"short")
    kit.volume.unlink(ROOT_ID, b"second")
    kit.volume.write(handle, CHUNK, b"no name, no limit")
    kit.volume.release(handle)


def test_what_never_travels_may_be_large(kit: Kit):
    handle, node = make(kit, LONG[:240] + b".local", 2 * CHUNK)
    assert node.size == 2 * CHUNK
    kit.volume.release(handle)


def test_a_name_that_depends_on_its_folder_is_asked_with_it(tmp_path: Path):
    kit = Kit(tmp_path, names=ModalNames(base="data"))
    try:
        with pytest.raises(NameRefused, match="kept"):
            make(kit, RCLONE_NAME.encode())
        folder = kit.volume.mkdir(ROOT_ID, b"d", 0o755, 0, 0)
        kit.volume.create(folder.id, RCLONE_NAME.encode(), 0o644, os.O_RDWR, 0, 0)
    finally:
        kit.close()
