"""A user's shell and a remote to look at."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.parts.shell import Shell


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    (tmp_path / "home").mkdir()
    return Shell(tmp_path / "home")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A local remote with a few files."""
    root = tmp_path / "remote"
    (root / "sub/deep").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "b.txt").write_bytes(b"0123456789")
    (root / "a.txt").write_bytes(b"alpha")
    (root / "sub/deep/c.bin").write_bytes(b"x" * 70_000)
    (root / "link").symlink_to("a.txt")
    for path in (root / "a.txt", root / "b.txt", root / "sub/deep/c.bin"):
        os.utime(path, ns=(0, 1_700_000_000_123_456_789))
    return root
