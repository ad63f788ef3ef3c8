"""A mounted Modal volume beside Modal's own command line, unmodified, on the same local server."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import time
from functools import partial
from pathlib import Path

import pytest

from tests.modal_server import ModalServer, RpcFault
from tests.parts.modal_clients import ModalCommand, modal_command
from tests.parts.real_mount import Mounted

BLOCK = 8 << 20


def body(size: int, *, zeros_at_end: int = 0) -> bytes:
    unit = hashlib.sha256(b"%d" % size).digest() * 512 + b"x"
    text = (unit * (size // len(unit) + 1))[: size - zeros_at_end]
    return text + bytes(zeros_at_end)


BODIES = {
    "empty": b"",
    "one byte": b"1",
    "under.bin": body(BLOCK - 1),
    "block.bin": body(BLOCK),
    "over.bin": body(BLOCK + 1),
    "zeros.bin": body(2 * BLOCK, zeros_at_end=BLOCK + 5),
    "deep/er/Ünï cödé %41 #.txt": b"text\n",
}


@pytest.fixture
def modal(server: ModalServer) -> ModalCommand:
    return modal_command("newest", server.environment())


@pytest.fixture
def mount(server: ModalServer, tmp_path: Path):
    mount = Mounted(tmp_path / "home", "--poll-interval", "1s", spec=":modal:data")
    mount.more = server.environment()
    mount.start()
    yield mount
    mount.end()


def test_written_here_read_by_modal(mount: Mounted, modal: ModalCommand, tmp_path: Path) -> None:
    for name, data in BODIES.items():
        (mount.path / name).parent.mkdir(parents=True, exist_ok=True)
        (mount.path / name).write_bytes(data)
    mount.flush()
    target = tmp_path / "got"
    target.mkdir()
    modal("get", "data", "/", str(target))
    for name, data in BODIES.items():
        assert (target / name).read_bytes() == data, name


def test_written_by_modal_read_here(
    mount: Mounted, modal: ModalCommand, server: ModalServer, tmp_path: Path
) -> None:
    no_doubt(server)
    source = tmp_path / "source"
    for name, data in BODIES.items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(data)
    modal("put", "data", str(source), "/put")
    mount.until((mount.path / "put" / "deep" / "er").is_dir)
    mount.flush()
    for name, data in BODIES.items():
        assert (mount.path / "put" / name).read_bytes() == data, name


@pytest.mark.parametrize("made_anew", [False, True])
def test_a_volume_that_goes_away_under_a_mount(
    mount: Mounted, server: ModalServer, tmp_path: Path, made_anew: bool
) -> None:
    (mount.path / "a").write_bytes(b"the only copy")
    (mount.path / "large").write_bytes(body(200_000))
    mount.flush()
    volume = server.volume("data")
    server.do(lambda: server.store.drop(volume.id))
    if made_anew:
        server.volume("data")
    mount.until(lambda: mount.status().state == "halted-remote")
    said = mount.run("status", str(mount.path), code=5).stdout
    assert "was deleted" in said
    assert "mountsync export" in said
    assert "--cache-dir" in said
    assert mount.run("health", str(mount.path), code=5).stdout.startswith(f"{mount.path}: halted: ")
    mount.run("evict", str(mount.path / "a"), code=5)
    mount.run("evict", str(mount.path), code=5)
    (mount.path / "later").write_bytes(b"more")
    time.sleep(2)
    mount.run("resume", str(mount.path), "--confirm", code=5)
    mount.run("flush", str(mount.path), code=5)
    assert (mount.path / "a").read_bytes() == b"the only copy"
    assert (mount.path / "large").read_bytes() == body(200_000)
    if made_anew:
        assert server.volume("data").nodes == {}
    mount.run("export", str(mount.path), str(tmp_path / "saved"))
    assert (tmp_path / "saved" / "a").read_bytes() == b"the only copy"
    assert (tmp_path / "saved" / "later").read_bytes() == b"more"
    mount.run("umount", str(mount.path), code=5)
    mount.run("umount", "--now", str(mount.path))


def test_a_folder_that_modal_does_not_list_is_an_error(mount: Mounted, server: ModalServer) -> None:
    volume = server.volume("data")
    server.do(lambda: server.store.plant(volume, "d/f", b"1", mtime=5))
    server.faults.unreadable.add("d")
    mount.until((mount.path / "d").exists)
    for act in (os.listdir, os.rmdir, lambda path: os.stat(path / "f")):
        with pytest.raises(OSError) as refused:
            act(mount.path / "d")
        assert refused.value.errno == errno.EIO
    mount.until(lambda: [each.path for each in mount.status().problems] == ["d"])
    server.faults.unreadable.add("")
    mount.until(lambda: mount.status().state == "waiting-to-retry")
    server.faults.unreadable.clear()
    mount.settle()
    assert (mount.path / "d" / "f").read_bytes() == b"1"


def test_renames_between_volumes(server: ModalServer, tmp_path: Path) -> None:
    one, two = server.volume("one"), server.volume("two")
    server.do(lambda: server.store.plant(one, "cold", body(200_000), mtime=5))
    server.do(lambda: server.store.plant(one, "d/deep/cold", b"2", mtime=5))
    mount = Mounted(tmp_path / "home", "--poll-interval", "1s", spec=":modal:")
    mount.more = server.environment()
    mount.start()
    try:
        (mount.path / "one" / "warm").write_bytes(b"3")
        (mount.path / "one" / "warm").chmod(0o755)
        os.utime(mount.path / "one" / "warm", ns=(7_000_000_000, 7_000_000_001))
        mount.flush()
        for name in ("cold", "warm", "d"):
            (mount.path / "one" / name).rename(mount.path / "two" / name)
        mount.flush()
        assert server.do(lambda: {p for p, n in one.nodes.items() if n.kind == 1 and p[0] != "."}) == set()
        for path, data in {"cold": body(200_000), "warm": b"3", "d/deep/cold": b"2"}.items():
            assert server.do(partial(server.store.content, two, path)) == data
        mount.umount()
        mount.forget_cache()
        mount.start()
        found = (mount.path / "two" / "warm").stat()
        assert (found.st_mtime_ns, stat.S_IMODE(found.st_mode)) == (7_000_000_001, 0o755)
        assert (mount.path / "two" / "cold").read_bytes() == body(200_000)
        assert os.listdir(mount.path / "one") == []
    finally:
        mount.end()


# ---- larger ones ------------------------------------------------------------------------------------


def write_large(path: Path, mib: int) -> str:
    """A file of so many MiB in which no two blocks are equal; its sha256."""
    hashed = hashlib.sha256()
    with open(path, "wb") as file:
        for n in range(mib):
            piece = hashlib.sha256(b"%d" % n).digest() * 32767 + bytes(32)
            hashed.update(piece)
            file.write(piece)
    return hashed.hexdigest()


def no_doubt(server: ModalServer) -> None:
    """What others put from now on is so old that nobody has to look whether its second is over.

    A file that is younger is looked at once more, and a handle that was opened before goes stale.
    """
    server.clock = lambda: time.time() - 1000


def digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def test_100_mib_written_here_read_by_modal(mount: Mounted, modal: ModalCommand, tmp_path: Path) -> None:
    wanted = write_large(mount.path / "large", 100)
    mount.flush()
    modal("get", "data", "large", str(tmp_path / "got"))
    assert digest(tmp_path / "got") == wanted


def test_100_mib_written_by_modal_read_here(
    mount: Mounted, modal: ModalCommand, server: ModalServer, tmp_path: Path
) -> None:
    wanted = write_large(tmp_path / "large", 100)
    no_doubt(server)
    modal("put", "data", str(tmp_path / "large"), "/large")
    mount.until((mount.path / "large").exists)
    got = server.counts.get_bytes
    with open(mount.path / "large", "rb") as file:
        piece = os.pread(file.fileno(), 1 << 20, 50 << 20)
    assert piece == hashlib.sha256(b"50").digest() * 32767 + bytes(32)
    assert server.counts.get_bytes - got < 10 << 20
    assert digest(mount.path / "large") == wanted


MANY = int(os.environ.get("MOUNTSYNC_MODAL_FILES", "250"))
"""Files in one directory; `scripts/soak modal` tries 5,000."""


def many(folder: Path) -> dict[str, bytes]:
    bodies = {f"f{n:05}": b"%d\n" % n * (n % 40) for n in range(MANY)}
    folder.mkdir()
    for name, data in bodies.items():
        (folder / name).write_bytes(data)
    return bodies


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_many_written_here_read_by_modal(
    mount: Mounted, modal: ModalCommand, server: ModalServer, tmp_path: Path
) -> None:
    bodies = many(mount.path / "many")
    mount.flush()
    assert server.counts.rpc["VolumePutFiles2"] < MANY  # many files share a call
    modal("get", "data", "many", str(tmp_path))
    assert contents(tmp_path / "many") == bodies


def test_many_written_by_modal_read_here(
    mount: Mounted, modal: ModalCommand, server: ModalServer, tmp_path: Path
) -> None:
    bodies = many(tmp_path / "many")
    no_doubt(server)
    modal("put", "data", str(tmp_path / "many"), "/many")
    mount.until((mount.path / "many").is_dir)
    mount.flush()
    assert contents(mount.path / "many") == bodies


RENAMES = {
    "a file": [("folder/big", "folder/renamed")],
    "to another folder": [("folder/big", "other/renamed")],
    "a folder": [("folder", "moved")],
}


@pytest.mark.parametrize("renames", RENAMES.values(), ids=RENAMES)
def test_a_rename_moves_no_bytes(
    mount: Mounted, server: ModalServer, modal: ModalCommand, renames: list[tuple[str, str]]
) -> None:
    for folder in ("folder", "other"):
        (mount.path / folder).mkdir()
    (mount.path / "other" / "stays").write_bytes(b"x")
    (mount.path / "folder" / "big").write_bytes(body(3 * BLOCK))
    mount.flush()
    sent, got = server.counts.put_bytes, server.counts.get_bytes
    for old, new in renames:
        os.rename(mount.path / old, mount.path / new)
    mount.flush()
    there = [str(found.relative_to(mount.path)) for found in mount.path.rglob("*") if found.is_file()]
    for name in there:
        assert Path(name).name in modal("ls", "data", "/" + str(Path(name).parent))
    assert server.counts.put_bytes - sent < 8192  # the sidecar alone
    assert server.counts.get_bytes - got < 8192


def test_times_survive_an_empty_cache(mount: Mounted) -> None:
    (mount.path / "old").write_bytes(b"x")
    os.utime(mount.path / "old", ns=(10**18, 10**18 + 123456789))
    mount.flush()
    mount.umount()
    mount.forget_cache()
    mount.start()
    assert (mount.path / "old").stat().st_mtime_ns == 10**18 + 123456789
    assert ".mountsync" not in os.listdir(mount.path)


def test_a_mount_starts_although_a_rename_cannot_be_settled(mount: Mounted, server: ModalServer) -> None:
    (mount.path / "a").write_bytes(b"x")
    mount.flush()
    server.faults.rpc.append(RpcFault("VolumeRemoveFile2", "PERMISSION_DENIED", 99))
    os.rename(mount.path / "a", mount.path / "b")
    mount.until(lambda: any(problem.path == "a" for problem in mount.status().problems))
    mount.run("umount", "--now", str(mount.path))
    mount._reap()
    mount.start()
    assert (mount.path / "b").read_bytes() == b"x"


def test_prune_metadata_drops_what_modal_removed(mount: Mounted, modal: ModalCommand) -> None:
    (mount.path / "here").write_bytes(b"x")
    mount.flush()
    mount.umount()
    modal("rm", "data", "/here")
    assert "1 stale entry dropped" in mount.run("prune-metadata", ":modal:data").stdout
    assert "0 stale entries dropped" in mount.run("prune-metadata", ":modal:data").stdout
    refused = mount.run("prune-metadata", str(mount.remote), code=2)
    assert "keeps no sidecar" in refused.stderr
