"""`kill -9` at any moment of a sync, and the same command again: both sides whole and equal."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.parts.shell import Shell
from tests.parts.trees import tree


def _kill_in_the_middle(shell: Shell, args: list[str], after: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "mountsync", *args],
        env=shell.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()


def _contents(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): path.read_bytes()
        for path in root.rglob("*")
        if path.is_file() and ".mountsync" not in path.relative_to(root).parts
    }


def _change(a: Path, b: Path, chance: random.Random, number: int) -> None:
    """Edits, deletes and renames on both sides, none of which meet."""
    mine = sorted(path for path in a.rglob("f*") if path.is_file() and ".mountsync" not in path.parts)
    chance.shuffle(mine)
    for path in mine[:10]:
        path.write_bytes(b"edited %d " % number * 50)
    for path in mine[10:20]:
        path.unlink()
    for path in mine[20:30]:
        path.rename(path.with_name(f"{path.name}-{number}"))
    for path in mine[30:40]:
        there = b / path.relative_to(a)
        if there.exists():
            there.write_bytes(b"edited there %d " % number * 40)
    for count in range(20):
        (b / f"fnew-{number}-{count}").write_bytes(os.urandom(3000))


LONG = bool(os.environ.get("MOUNTSYNC_LONG"))


@pytest.mark.parametrize("seed", range(1, 20) if LONG else [1])
def test_kills_at_any_moment(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    (tmp_path / "home").mkdir()
    shell = Shell(tmp_path / "home")
    a, b = tmp_path / "a", tmp_path / "b"
    for number in range(150):
        path = a / f"d{number % 7}" / f"f{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"content %d " % number * (1 + number % 300))
    (a / "f-large").write_bytes(os.urandom(10 << 20))
    b.mkdir()
    args = ["bisync", str(a), str(b), "--conflict", "keep-both", "--max-delete", "off"]
    for number in range(3):
        written = set(_contents(a).values()) | set(_contents(b).values())
        _kill_in_the_middle(shell, args, 0.25 + chance.random() * 0.6)
        _kill_in_the_middle(shell, args, 0.25 + chance.random() * 0.3)
        assert set(_contents(b).values()) <= written, "a torn or strange file"
        done = shell.run(*args)
        assert done.code == 0, done.out + done.err
        assert tree(a) == tree(b)
        assert not [path for path in tree(b) if "tmp" in path]
        assert "Nothing to do." in shell.run(*args).out
        _change(a, b, chance, number)
