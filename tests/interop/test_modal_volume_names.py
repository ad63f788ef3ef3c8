"""Names that a server tells: none becomes a path unchecked, and none becomes a volume that cannot be."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from mountsync.errors import NameRefused
from mountsync.model.entry import Problem
from mountsync.paths import ROOT, RelPath, rel_path
from mountsync.storage.modal.names import ModalNames, is_volume_name
from tests.modal_server.store import FILE, Node
from tests.parts.modal import modal_storage
from tests.parts.shell import Shell

EVIL = ["..", ".", "a/b", "../up", "/abs", "a\0b", "", "ap-" + "x" * 22, "a b", "é", "x" * 65, ".mountsync"]


@pytest.fixture
def shell(server, tmp_path):
    home = tmp_path / "deep" / "home"
    home.mkdir(parents=True)
    shell = Shell(home)
    shell.environment.update(server.environment())
    return shell


def plant(server, volume: str, path: str, data: bytes) -> None:
    there = server.volume(volume)
    server.do(lambda: server.store.plant(there, path, data, mtime=5))


def below(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("name", EVIL)
async def test_a_bad_name_of_a_volume_is_a_problem_and_no_path(server, tmp_path, name):
    plant(server, name, "evil.txt", b"evil")
    for recursive in (False, True):
        async with (
            modal_storage(server, tmp_path / "state", "") as storage,
            storage.list(ROOT, recursive=recursive) as batches,
        ):
            found = dict([item async for batch in batches for item in batch])
        assert set(found) - {"data"} == {path for path, item in found.items() if isinstance(item, Problem)}
        assert len(found) == 2
        for path in found:
            assert rel_path(path) == path
            assert path.count("/") == 0


@pytest.mark.parametrize("name", ["..", "."])
def test_nothing_is_written_outside_of_the_target(server, shell, name):
    plant(server, name, "evil.txt", b"evil")
    plant(server, name, "deeper/evil.txt", b"evil")
    plant(server, "data", "good", b"good")
    around = shell.home.parent
    (around / "evil.txt").write_bytes(b"mine")
    (shell.home / "evil.txt").write_bytes(b"mine")
    done = shell.here("copy", ":modal:", "./dest")
    assert done.code == 3
    assert repr(name) in done.out + done.err
    assert below(shell.home / "dest") == {"data/good": b"good"}
    assert {p: data for p, data in below(around).items() if p.endswith("evil.txt")} == {
        "evil.txt": b"mine",
        "home/evil.txt": b"mine",
    }


ENTRIES = ["../evil", "a/../../evil", "a//evil", "./evil", "a/./evil", "a\0evil", "..", "a/.."]


@pytest.mark.parametrize("evil", ENTRIES)
def test_a_bad_name_within_a_volume_is_a_problem_and_no_path(server, shell, evil):
    volume = server.volume("data")
    plant(server, "data", "a/good", b"good")
    node = Node(FILE, 5, 0)
    server.do(lambda: volume.nodes.update({evil: node}))
    server.do(lambda: volume.children.setdefault("", set()).add(evil))
    done = shell.here("copy", ":modal:data", "./dest")
    assert done.code == 3
    assert below(shell.home / "dest") == {"a/good": b"good"}
    assert {path for path in below(shell.home.parent) if path.endswith("evil")} == set()


def test_an_absolute_name_stays_below_the_folder(server, shell):
    plant(server, "data", "etc/f", b"x")
    volume = server.volume("data")
    server.do(lambda: volume.nodes.update({"/etc/g": volume.nodes["etc/f"]}))
    server.do(lambda: volume.children[""].add("/etc/g"))
    assert shell.here("copy", ":modal:data", "./dest").code == 0
    assert set(below(shell.home / "dest")) <= {"etc/f", "etc/g"}


def test_names_of_volumes():
    for name in EVIL:
        assert not is_volume_name(name), name
    for name in ("a", "A-b_c.9", "...", ".hidden", "x" * 64, "ap-short"):
        assert is_volume_name(name), name


def test_names_that_no_volume_has_are_refused_before_they_are_made():
    names = ModalNames(base="")
    assert names.refusal(RelPath("good/any thing")) is None
    assert names.refusal(RelPath("data/.mountsync-not")) is None
    for path in ("a b", "a b/f", ".mountsync", ".mountsync/backups/x"):
        assert isinstance(names.refusal(RelPath(path)), NameRefused), path
    assert names.depends_on_place("a b")
    assert not names.depends_on_place("good")
    assert ModalNames(base="data").refusal(RelPath("a b")) is None
    assert not ModalNames(base="data").depends_on_place("a b")


@pytest.mark.parametrize("create", [(), ("--modal-create-volumes",)])
def test_an_impossible_volume_is_one_sentence(server, shell, create):
    local = shell.home / "local"
    local.mkdir()
    for n in range(5):
        (local / f"f{n}").write_bytes(b"data")
    done = shell.here("copy", str(local), ":modal:bad name/d", *create)
    assert done.code != 0
    assert "letters, digits" in done.error_line
    assert {volume.name for volume in server.store.volumes.values()} == {"data"}


def test_no_volume_is_made_for_what_mountsync_keeps(server, shell):
    """Backups of a target have no room beside volumes; what they would keep is left as it is."""
    local = shell.home / "local"
    (local / "data").mkdir(parents=True)
    plant(server, "data", "f", b"theirs")
    (local / "data" / "f").write_bytes(b"ours, longer")
    done = shell.here("copy", str(local), ":modal:", "--modal-create-volumes")
    assert done.code == 3
    assert "name a volume" in done.out + done.err
    assert {volume.name for volume in server.store.volumes.values()} == {"data"}
    volume = server.volume("data")
    assert server.do(partial(server.store.content, volume, "f")) == b"theirs"


def test_what_needs_a_volume_says_so(server, shell):
    refused = shell.here("prune-metadata", ":modal:")
    assert refused.error_line == "the remote is the list of volumes; name a volume in it"


async def test_what_is_told_in_a_folder_where_it_is_not_is_a_problem(server, tmp_path):
    plant(server, "data", "abc/good", b"good")
    plant(server, "data", "abcd/x", b"another's")
    there = server.volume("data")
    server.do(lambda: there.children["abc"].add("abcd/x"))
    async with (
        modal_storage(server, tmp_path / "state") as storage,
        storage.list(RelPath("abc"), recursive=False) as batches,
    ):
        found = dict([item async for batch in batches for item in batch])
    assert sorted(found) == ["abc/d/x", "abc/good"]
    assert [path for path, item in found.items() if isinstance(item, Problem)] == ["abc/d/x"]
