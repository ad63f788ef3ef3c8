"""Programs that copy, move, pack and build in a mounted folder."""

from __future__ import annotations

import os
import random
import stat
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.parts.programs import need, run, shell
from tests.parts.trees import differences

OnRemote = Callable[[], Path]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder as people have it: odd names, modes, times to the ns, links, holes, empty things."""
    root = tmp_path / "source"
    (root / "sub/deep er").mkdir(parents=True)
    (root / "empty folder").mkdir()
    chance = random.Random(4)
    for number, name in enumerate(
        ["plain", "sp ace", "\u00fcml\u00e4ut", "new\nline", "-dash", "sub/deep er/leaf"]
    ):
        path = root / name
        path.write_bytes(chance.randbytes(chance.choice([1, 5_000, 200_000])))
        path.chmod([0o644, 0o600, 0o755, 0o444, 0o640, 0o711][number])
        os.utime(path, ns=(10**18, 1_600_000_000_123_456_789 + number))
    (root / "empty").touch()
    (root / "link").symlink_to("plain")
    (root / "dangling").symlink_to("/nowhere/at all")
    (root / "sub/up").symlink_to("../plain")
    os.link(root / "plain", root / "sub/hard")
    with open(root / "holes", "wb") as file:
        file.truncate(3_000_000)
        file.seek(1_500_000)
        file.write(b"island")
    (root / "sub").chmod(0o750)
    return root


def inode(path: Path) -> int:
    return path.stat().st_ino


def test_tar(place: Path, source: Path, on_remote: OnRemote) -> None:
    archive = source.parent / "a.tar"
    run("tar", "--format=posix", "-cf", archive, "-C", source, ".", cwd=source)
    run("tar", "-xpf", archive, cwd=place)
    assert run("tar", "--compare", "-f", archive, cwd=place) == ""
    assert differences(source, place) == []
    assert inode(place / "plain") == inode(place / "sub/hard")
    again = source.parent / "again.tar"
    run("tar", "--format=posix", "-cf", again, "-C", place, ".", cwd=place)
    back = source.parent / "back"
    back.mkdir()
    run("tar", "-xpf", again, cwd=back)
    assert differences(source, back) == []
    assert differences(source, on_remote()) == []


def test_rsync_twice(place: Path, source: Path, on_remote: OnRemote) -> None:
    """The second run has nothing to say: all that it compares was kept."""
    need("rsync")
    options = ["rsync", "-aHi", "--no-owner", "--no-group"]
    assert run(*options, f"{source}/", f"{place}/", cwd=source) != ""
    assert run(*options, f"{source}/", f"{place}/", cwd=source) == ""
    assert run(*options, "--checksum", f"{source}/", f"{place}/", cwd=source) == ""
    assert differences(source, on_remote()) == []
    assert run(*options, f"{place}/", f"{source}/", cwd=source) == ""


def test_rsync_updates_and_deletes(place: Path, source: Path, on_remote: OnRemote) -> None:
    need("rsync")
    options = ["rsync", "-a", "--delete", "--inplace"]
    run(*options, f"{source}/", f"{place}/", cwd=source)
    (source / "sp ace").write_bytes(b"changed")
    (source / "-dash").unlink()
    (source / "sub").rename(source / "renamed")
    run(*options, "--no-inplace", f"{source}/", f"{place}/", cwd=source)
    assert differences(source, place) == []
    assert differences(source, on_remote()) == []


def test_cp_a(place: Path, source: Path, on_remote: OnRemote) -> None:
    run("cp", "-a", source, place / "copy", cwd=place)
    assert differences(source, place / "copy") == []
    assert inode(place / "copy/plain") == inode(place / "copy/sub/hard")
    run("cp", "-a", place / "copy", place / "second", cwd=place)
    remote = on_remote()
    assert differences(source, remote / "copy") == []
    assert differences(source, remote / "second") == []


@pytest.mark.parametrize("how", ["--reflink=auto", "--sparse=always", "--sparse=never"])
def test_cp(place: Path, source: Path, on_remote: OnRemote, how: str) -> None:
    run("cp", how, source / "holes", place / "in", cwd=place)
    run("cp", how, "in", "within", cwd=place)
    out = source.parent / "out"
    run("cp", how, "within", out, cwd=place)
    expected = (source / "holes").read_bytes()
    assert [path.read_bytes() for path in (place / "in", place / "within", out)] == [expected] * 3
    assert (on_remote() / "within").read_bytes() == expected


def test_mv(place: Path, source: Path, on_remote: OnRemote) -> None:
    expected = (source / "sub/deep er/leaf").read_bytes()
    run("mv", source / "sub", place / "sub", cwd=place)
    run("mv", "sub", "moved", cwd=place)
    run("mkdir", "other", cwd=place)
    run("mv", "moved", "other/", cwd=place)
    leaf = "other/moved/deep er/leaf"
    assert (place / leaf).read_bytes() == expected
    assert (on_remote() / leaf).read_bytes() == expected
    assert os.listdir(on_remote()) == ["other"]
    run("mv", place / "other", source / "out", cwd=place)
    assert (source / "out/moved/deep er/leaf").read_bytes() == expected
    assert os.listdir(place) == os.listdir(on_remote()) == []


def test_rm_straight_after_writing(place: Path, source: Path, on_remote: OnRemote) -> None:
    for _ in range(3):
        run("cp", "-a", source, place / "copy", cwd=place)
        run("rm", "-rf", place / "copy", cwd=place)
    assert os.listdir(place) == []
    assert os.listdir(on_remote()) == []


def test_zip(place: Path, source: Path, on_remote: OnRemote) -> None:
    need("zip", "unzip")
    (source / "new\nline").unlink()
    run("zip", "-qry", place / "a.zip", ".", cwd=source)
    run("unzip", "-q", "a.zip", "-d", "out", cwd=place)
    (place / "out/plain").write_text("new")
    run("zip", "-qry", "../a.zip", ".", cwd=place / "out")
    assert "No errors detected" in run("unzip", "-t", "a.zip", cwd=place)
    assert run("unzip", "-p", "a.zip", "plain", cwd=place) == "new"
    assert sorted(os.listdir(on_remote())) == ["a.zip", "out"]


def test_python_venv(place: Path, on_remote: OnRemote) -> None:
    venv.create(place / "env", symlinks=True, with_pip=False)
    assert (place / "env/bin/python").is_symlink()
    code = "import sys; print(sys.prefix)"
    assert run(place / "env/bin/python", "-c", code, cwd=place) == f"{place}/env\n"
    assert os.readlink(on_remote() / "env/bin/python3") == os.readlink(place / "env/bin/python3")


def test_python_writes_and_uses_its_caches(place: Path, on_remote: OnRemote) -> None:
    (place / "module.py").write_text("VALUE = 5\n")
    run(sys.executable, "-c", "import module", cwd=place, env={"PYTHONDONTWRITEBYTECODE": ""})
    (cached,) = (on_remote() / "__pycache__").iterdir()
    assert cached.suffix == ".pyc"


MAKEFILE = """
program: main.o part.o
\tcc -o $@ $^
%.o: %.c part.h
\tcc -c -o $@ $<
"""


def test_make(place: Path, on_remote: OnRemote) -> None:
    """It goes by the order of mtimes; what it builds runs from the folder."""
    need("make", "cc")
    (place / "Makefile").write_text(MAKEFILE)
    (place / "part.h").write_text("int part(void);\n")
    (place / "part.c").write_text('#include "part.h"\nint part(void) { return 7; }\n')
    (place / "main.c").write_text(
        '#include <stdio.h>\n#include "part.h"\nint main(void) { printf("%d\\n", part()); return 0; }\n'
    )
    assert run("make", cwd=place).count("cc ") == 3
    assert run("./program", cwd=place) == "7\n"
    assert "up to date" in run("make", cwd=place)
    (place / "part.c").write_text('#include "part.h"\nint part(void) { return 8; }\n')
    assert run("make", cwd=place).count("cc ") == 2
    assert run("./program", cwd=place) == "8\n"
    assert run(on_remote() / "program", cwd=place) == "8\n"


def test_writer_that_seeks_back(place: Path, on_remote: OnRemote) -> None:
    """As a muxer does: sizes are put into the header at the end."""
    body = random.Random(1).randbytes(2_500_000)
    with open(place / "film.mp4", "wb") as file:
        file.write(b"moov????")
        for first in range(0, len(body), 70_000):
            file.write(body[first : first + 70_000])
            if first % 700_000 == 0:
                at = file.tell()
                file.seek(4)
                file.write(b"%04d" % (first // 70_000))
                file.seek(at)
        file.seek(0)
        file.write(b"moovDONE")
    assert (place / "film.mp4").read_bytes() == b"moovDONE" + body
    assert (on_remote() / "film.mp4").read_bytes() == b"moovDONE" + body


def test_download_that_is_resumed(place: Path, on_remote: OnRemote) -> None:
    """As a browser does: a `.part` that grows, is renamed at the end."""
    body = random.Random(2).randbytes(900_000)
    part = place / "big.iso.part"
    for first in range(0, len(body), 100_000):
        with open(part, "ab") as file:
            file.write(body[first : first + 100_000])
    part.rename(place / "big.iso")
    assert (on_remote() / "big.iso").read_bytes() == body
    assert os.listdir(on_remote()) == ["big.iso"]


def test_small_tools(place: Path, on_remote: OnRemote) -> None:
    """Each of them replaces or changes a file in its own way."""
    need("patch", "dd")
    shell(
        """
        seq 100 > a; sort -r -o a a; sed -i s/50/fifty/ a; install -m 751 a b; cp a c
        echo more >> c; diff -u a c > d || true; patch -s a d; cmp a c
        truncate -s 10 b; gzip c; dd if=/dev/zero of=e bs=64k count=20 conv=fsync status=none
        dd if=/dev/zero of=e bs=1 count=1 seek=70000 conv=notrunc status=none
        touch -d '2001-02-03 04:05:06.123456789' e; ln -s e f; ln a g; mkfifo pipe; chmod u+s b
        find . -type f -newer e | wc -l; tee h < a > /dev/null; shred -u h; mkdir -p p/q/r; rmdir -p p/q/r
        """,
        cwd=place,
    )
    remote = on_remote()
    assert sorted(os.listdir(remote)) == ["a", "b", "c.gz", "d", "e", "f", "g"]
    assert stat.S_IMODE((remote / "b").stat().st_mode) == 0o4751
    assert "fifty" in (remote / "a").read_text()


def test_gio_copies_moves_and_trashes(place: Path, source: Path, on_remote: OnRemote) -> None:
    need("gio")
    env = {"GIO_USE_VFS": "local", "DBUS_SESSION_BUS_ADDRESS": "disabled:"}
    run("gio", "copy", "--preserve", source / "plain", place / "copied", cwd=place, env=env)
    assert (place / "copied").stat().st_mtime_ns // 1000 == (source / "plain").stat().st_mtime_ns // 1000
    run("cp", "-a", source / "sub", place / "sub", cwd=place)
    run("gio", "move", place / "sub", place / "moved", cwd=place, env=env)
    run("gio", "mkdir", place / "made", cwd=place, env=env)
    run("gio", "save", place / "saved", cwd=place, env=env, stdin="from standard input")
    run("gio", "rename", place / "saved", "renamed", cwd=place, env=env)
    run("gio", "remove", place / "copied", cwd=place, env=env)
    remote = on_remote()
    assert sorted(os.listdir(remote)) == ["made", "moved", "renamed"]
    assert (remote / "renamed").read_text() == "from standard input"
    assert (remote / "moved/up").is_symlink()


def test_trash_stays_here(programs_mount: object, place: Path, on_remote: OnRemote) -> None:
    """The freedesktop trash of a volume: what is thrown away leaves the remote."""
    path = place / "waste"
    path.write_text("waste")
    assert os.listdir(on_remote()) == ["waste"]
    trash = place.parent / f".Trash-{os.getuid()}"
    (trash / "files").mkdir(parents=True)
    (trash / "info").mkdir()
    (trash / "info/waste.trashinfo").write_text("[Trash Info]\n")
    path.rename(trash / "files/waste")
    remote = on_remote()
    assert os.listdir(remote) == []
    assert not (remote.parent / trash.name).exists()
    (trash / "files/waste").rename(path)
    assert (on_remote() / "waste").read_text() == "waste"
    run("rm", "-r", trash, cwd=place)
