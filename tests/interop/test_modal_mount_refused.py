"""What cannot be mounted of Modal is refused before anything is mounted."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.modal_server import ModalServer
from tests.parts.modal import plant
from tests.parts.real_mount import PATIENCE_S, Mounted


@pytest.fixture
def mount(server: ModalServer, tmp_path: Path):
    plant(server, "folder/file", b"text")
    mount = Mounted(tmp_path / "home", spec=":modal:data/folder/file")
    mount.more = server.environment()
    yield mount
    mount.end()


def refused(mount: Mounted) -> str:
    done = subprocess.run(
        mount.mount_command(),
        env=mount.environment,
        cwd=mount.home,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
        stdin=subprocess.DEVNULL,
    )
    assert (done.returncode, done.stdout) == (3, ""), done
    assert not os.path.ismount(mount.path)
    (line,) = done.stderr.splitlines()
    return line


def test_a_file_is_refused_with_the_next_step(mount: Mounted) -> None:
    said = refused(mount)
    assert said == "mountsync: :modal:data/folder/file: it is a file; name the folder that it lies in"


def test_a_local_file_too(mount: Mounted) -> None:
    (mount.home / "file").write_bytes(b"text")
    mount.spec = str(mount.home / "file")
    assert refused(mount).endswith("it is not a folder; name the folder that it lies in")


def test_a_known_folder_is_mounted_while_modal_is_away(mount: Mounted) -> None:
    mount.spec = ":modal:data/folder"
    mount.start()
    assert (mount.path / "file").read_bytes() == b"text"
    mount.umount()
    mount.more |= {"MODAL_SERVER_URL": "http://127.0.0.1:9"}  # where nobody answers
    mount.start()
    assert os.listdir(mount.path) == ["file"]
    assert mount.status().state in ("starting", "offline")
