"""Thumbnailers and indexers do not download a folder; what a person asks for is downloaded."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mountsync.fuse.visitors import INDEXERS, THUMBNAILERS, is_uninvited
from tests.parts.real_mount import Mounted

NewMount = Callable[..., Mounted]
BODY = b"picture " * 40_000
PROGRAMS = ("tumblerd", "gdk-pixbuf-thumbnailer", "tracker-extract-3", "baloo_file_extractor")


def reads_as(name: str, path: Path, folder: Path, *words: str) -> subprocess.CompletedProcess[bytes]:
    """What a program of this name gets when it reads the file."""
    program = folder / name
    if not program.exists():
        shutil.copy("/bin/cat", program)
    return subprocess.run([program, *words, path], capture_output=True, check=False, timeout=60)


def state(path: Path) -> str:
    return os.getxattr(path, "user.mountsync.state").decode()


@pytest.fixture
def mounted(new_mount: NewMount) -> Mounted:
    mount = new_mount()
    for name in ("a.jpg", "b.jpg", "sub/c.jpg"):
        (mount.remote / name).parent.mkdir(exist_ok=True)
        (mount.remote / name).write_bytes(BODY)
    return mount.start()


def test_looking_downloads_nothing(mounted: Mounted) -> None:
    for path in (mounted.path / "a.jpg", mounted.path / "sub/c.jpg"):
        assert path.stat().st_size == len(BODY)
        assert os.listxattr(path) == []
        assert state(path) == "cloud"
        with pytest.raises(OSError, match="No data available"):
            os.getxattr(path, "user.xdg.origin.url")
        assert os.getxattr(path, "user.mountsync.token")
        assert state(path) == "cloud"
    assert mounted.status().cache.used < len(BODY)  # type: ignore[union-attr]


@pytest.mark.parametrize("program", PROGRAMS)
def test_thumbnailers_read_no_cold_file(mounted: Mounted, tmp_path: Path, program: str) -> None:
    for path in (mounted.path / "a.jpg", mounted.path / "sub/c.jpg"):
        done = reads_as(program, path, tmp_path)
        assert done.returncode == 1
        assert b"Permission denied" in done.stderr
        assert state(path) == "cloud"


def test_what_is_here_is_shown_to_everybody(mounted: Mounted, tmp_path: Path) -> None:
    path = mounted.path / "a.jpg"
    assert path.read_bytes() == BODY
    assert reads_as("tumblerd", path, tmp_path).stdout == BODY
    (mounted.path / "new.jpg").write_bytes(b"new")
    assert reads_as("tumblerd", mounted.path / "new.jpg", tmp_path).stdout == b"new"
    assert state(mounted.path / "b.jpg") == "cloud"


def test_other_programs_read_cold_files(mounted: Mounted, tmp_path: Path) -> None:
    assert reads_as("viewer", mounted.path / "a.jpg", tmp_path).stdout == BODY


def test_scripts_are_known_by_their_own_name(mounted: Mounted, tmp_path: Path) -> None:
    script = tmp_path / "xapp-thumbnailer"
    script.write_text('#!/bin/sh\nexec 3< "$1" && echo read\n')
    script.chmod(0o755)
    assert subprocess.run([script, mounted.path / "b.jpg"], capture_output=True, check=False).stdout == b""
    assert state(mounted.path / "b.jpg") == "cloud"


def test_threads_of_a_thumbnailer_are_known(mounted: Mounted, tmp_path: Path) -> None:
    """Requests carry the id of the thread, whose name is its own."""
    program = tmp_path / "tumblerd"
    program.write_text(
        "#!/usr/bin/python3\n"
        "import sys, threading\n"
        "def look():\n"
        "    open('/proc/thread-self/comm', 'w').write('pool-7')\n"
        "    try: open(sys.argv[1], 'rb').read(); print('read')\n"
        "    except PermissionError: print('refused')\n"
        "one = threading.Thread(target=look); one.start(); one.join()\n"
    )
    program.chmod(0o755)
    done = subprocess.run([program, mounted.path / "b.jpg"], capture_output=True, check=False, timeout=60)
    assert done.stdout == b"refused\n", done.stderr


def test_workers_of_kde_are_refused_only_when_they_make_thumbnails(mounted: Mounted, tmp_path: Path) -> None:
    plug_in = tmp_path / "thumbnail.so"
    plug_in.touch()
    assert reads_as("kioworker", mounted.path / "b.jpg", tmp_path, str(plug_in)).stdout == b""
    other = tmp_path / "file.so"
    other.touch()
    assert reads_as("kioworker", mounted.path / "b.jpg", tmp_path, str(other)).stdout == BODY


def test_on_request_everybody_may_download(new_mount: NewMount, tmp_path: Path) -> None:
    mount = new_mount("--thumbnails", "allow")
    (mount.remote / "a.jpg").write_bytes(BODY)
    mount.start()
    assert reads_as("tumblerd", mount.path / "a.jpg", tmp_path).stdout == BODY


def test_nobody_and_the_kernel_are_no_thumbnailers() -> None:
    assert not is_uninvited(0)
    assert not is_uninvited(-1)
    assert not is_uninvited(os.getpid())
    assert not is_uninvited((1 << 22) + 7)  # beyond the largest id


def test_names_are_programs() -> None:
    assert all(name == os.path.basename(name) and name for name in THUMBNAILERS + INDEXERS)
