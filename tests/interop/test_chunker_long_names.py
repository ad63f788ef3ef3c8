"""Names that leave no room for the number of a chunk: what is refused, when, and what stays where.

rclone is the witness: of what it refuses itself, and of what lies on the base afterwards.
"""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest

from tests.parts.bodies import body
from tests.parts.rclone import Rclone, files_in
from tests.parts.real_mount import Mounted
from tests.parts.shell import Shell

SIZE = 16_384
LONG = "n" * 240
"""Fits a small file, and no chunk."""
EDGE = "e" * 231
"""The longest name that a file in chunks may have."""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "base").mkdir()
    return tmp_path / "base"


def spec(base: Path, **options: str) -> str:
    more = "".join(f",{name}={value}" for name, value in options.items())
    return f":chunker,remote={base},chunk_size={SIZE}B{more}:"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    files = {
        LONG: body(3 * SIZE),
        "s" * 240: body(SIZE, 1),
        EDGE: body(2 * SIZE, 2),
        "short": body(3 * SIZE, 3),
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def test_rclone_refuses_all_such_names(base: Path, source: Path, tmp_path: Path) -> None:
    """Even those of small files; what it began it takes back."""
    done = Rclone(base, tmp_path, chunk_size=f"{SIZE}B").run("copy", source, "C:")
    assert done.returncode != 0
    assert b"too long" in done.stderr
    assert {name[:240].partition(".")[0] for name in files_in(base)} == {EDGE, "short"}


def users(files: dict[str, bytes]) -> dict[str, bytes]:
    """Without what is ours."""
    return {name: data for name, data in files.items() if not name.startswith(".mountsync/")}


@pytest.mark.parametrize("command", ["copy", "sync", "bisync"])
@pytest.mark.parametrize("way", ["rename", "norename"])
def test_copies_bring_all_but_the_large_one(
    base: Path, source: Path, tmp_path: Path, command: str, way: str
) -> None:
    """It is told, nothing of it lies on the remote, and nothing is taken for deleted by the next run."""
    before = files_in(source)
    fits = {name: data for name, data in before.items() if name != LONG}
    shell = Shell(tmp_path)
    for _ in range(2):
        done = shell.here(command, str(source), spec(base, transactions=way))
        assert done.code == 3
        assert LONG in done.out + done.err
        assert [name for name in files_in(base) if name.startswith("nnn")] == []
        judge = Rclone(base, tmp_path, chunk_size=f"{SIZE}B", transactions=way)
        assert users(judge.contents(tmp_path / "out")) == fits
        assert users(files_in(source)) == before
    (source / LONG).rename(source / "renamed")
    assert shell.here(command, str(source), spec(base, transactions=way)).code == 0
    assert users(judge.contents(tmp_path / "again")) == fits | {"renamed": before[LONG]}


@pytest.mark.parametrize(
    "kind", [{"hash_type": "md5all"}, {"hash_type": "none", "meta_format": "none"}], ids=str
)
def test_where_every_file_is_in_chunks_nothing_is_created(
    base: Path, tmp_path: Path, kind: dict[str, str]
) -> None:
    """Refused at `open`, before a byte was taken."""
    mount = Mounted(tmp_path / "home", remote=base, spec=spec(base, **kind))
    mount.start()
    try:
        with pytest.raises(OSError, match="too long") as refused:
            os.open(mount.path / LONG, os.O_CREAT | os.O_WRONLY)
        assert refused.value.errno == errno.ENAMETOOLONG
        with pytest.raises(OSError, match="too long"):
            os.mkfifo(mount.path / ("f" * 256))
        (mount.path / EDGE).write_bytes(body(2 * SIZE))
        mount.flush()
        assert list(mount.path.iterdir()) == [mount.path / EDGE]
        assert {name[:231] for name in files_in(base)} == {EDGE}
        mount.umount()
    finally:
        mount.end()


def cp(source: Path, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["cp", source, target], capture_output=True, text=True, check=False, timeout=60)


def test_a_file_that_grows_through_a_mount(base: Path, tmp_path: Path) -> None:
    """The write that goes too far is refused; the file stays as large as it was, there too, and whole."""
    mount = Mounted(tmp_path / "home", remote=base, spec=spec(base))
    judge = Rclone(base, tmp_path, chunk_size=f"{SIZE}B")
    mount.start()
    try:
        data = body(10 * SIZE)
        with open(mount.path / LONG, "xb", buffering=0) as file:
            for offset in range(0, SIZE, 4096):
                assert file.write(data[offset : offset + 4096]) == 4096
            with pytest.raises(OSError, match="too long") as refused:
                file.write(b"x")
            assert refused.value.errno == errno.ENAMETOOLONG
            assert os.fstat(file.fileno()).st_size == SIZE
            with pytest.raises(OSError, match="too long"):
                os.pwrite(file.fileno(), b"x", 100 * SIZE)
            with pytest.raises(OSError, match="too long"):
                os.ftruncate(file.fileno(), SIZE + 1)
        mount.flush()
        assert files_in(base) == {LONG: data[:SIZE]}
        assert judge.contents(tmp_path / "out") == {LONG: data[:SIZE]}

        (tmp_path / "large").write_bytes(data)
        refusal = cp(tmp_path / "large", mount.path / ("c" * 240))
        assert refusal.returncode != 0
        assert "too long" in refusal.stderr
        mount.flush()
        left = files_in(mount.path)
        assert files_in(base) == left
        assert all(len(content) <= SIZE for content in left.values())

        for path in list(mount.path.iterdir()):
            path.unlink()
        mount.flush()
        assert files_in(base) == {}
        mount.umount()
    finally:
        mount.end()
