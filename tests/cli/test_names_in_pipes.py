"""Names leave for programs as the bytes that they are, whatever they do to a terminal."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from tests.parts.shell import Shell

ODD = ["\x1b[31mred\x1b[0m", "\x1b]0;title\x07", "\x1b[2J", "a\rb", "tab\there", "\udcff\x1b[1m"]


@pytest.fixture
def remote(tmp_path: Path) -> Path:
    root = tmp_path / "odd"
    root.mkdir()
    for name in ODD:
        (root / name).write_bytes(b"1")
    return root


def test_in_a_process_of_its_own(shell: Shell, remote: Path) -> None:
    done = shell.run("lsf", str(remote))
    assert sorted(done.out.removesuffix("\n").split("\n")) == sorted(ODD)


@pytest.mark.parametrize("command", ["ls", "lsl", "lsf", "hashsum"])
def test_every_listing(shell: Shell, remote: Path, command: str) -> None:
    more = ["sha256"] if command == "hashsum" else []
    done = shell.here(command, *more, str(remote))
    lines = done.out.removesuffix("\n").split("\n")
    digest = hashlib.sha256(b"1").hexdigest()
    before = {"ls": "        1 ", "lsf": "", "hashsum": f"{digest}  "}.get(command)
    for name in ODD:
        assert any(line.endswith(name) for line in lines), name
        assert before is None or f"{before}{name}" in lines


def test_what_differs(shell: Shell, remote: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    done = shell.here("check", str(remote), str(tmp_path / "none"))
    for name in ODD:
        assert f"only on A: {name}\n" in done.out
