"""`check` where a side cannot keep times: as `copy` does, it compares contents."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.modal_server import ModalServer
from tests.parts.shell import Shell

FAR = ":modal,sidecar_metadata=false:data/far"


@pytest.fixture
def shell(server: ModalServer, tmp_path: Path) -> Shell:
    home = tmp_path / "home"
    (home / "tree/sub").mkdir(parents=True)
    for name in ("a", "sub/b"):
        (home / "tree" / name).write_text(name)
        os.utime(home / "tree" / name, ns=(0, 1_700_000_000_123_456_789))
    shell = Shell(home)
    shell.environment.update(server.environment())
    return shell


def test_what_was_copied_is_equal(shell: Shell) -> None:
    assert shell.here("copy", "./tree", FAR).code == 0
    assert "Nothing to do." in shell.here("copy", "./tree", FAR).out
    for words in (("./tree", FAR), (FAR, "./tree")):
        done = shell.here("check", *words)
        assert (done.code, done.out) == (0, "0 differences, 3 entries equal by content\n")


def test_another_content_of_the_same_size_differs(shell: Shell) -> None:
    assert shell.here("copy", "./tree", FAR).code == 0
    (shell.home / "tree/a").write_text("A")
    done = shell.here("check", "./tree", FAR)
    assert done.code == 1
    assert "differs:   a\n" in done.out


def test_where_times_are_kept_they_are_enough(shell: Shell) -> None:
    assert shell.here("copy", "./tree", ":modal:data/far").code == 0
    done = shell.here("check", "./tree", ":modal:data/far")
    assert (done.code, done.out) == (0, "0 differences, 3 entries equal by size and time\n")
