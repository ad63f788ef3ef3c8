"""copy, sync, check, bisync, ls, cat and rm with a chunker on one side; damage is never a delete."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.parts.bodies import body
from tests.parts.rclone import Rclone, files_in
from tests.parts.shell import Shell

FILES = {"big": body(35, 1), "exact": body(10, 2), "sub/over": body(11, 3), "sub/small": b"x", "zero": b""}


class Sides:
    """A plain folder, and a chunker over another one."""

    def __init__(self, home: Path, shell: Shell, way: str) -> None:
        self.plain, self.base, self.shell = home / "plain", home / "base", shell
        self.chunks = f":chunker,remote={self.base},chunk_size=10B,transactions={way}:"
        self.rclone = Rclone(self.base, home, transactions=way)
        for folder in (self.plain, self.base):
            folder.mkdir()
        self.lay(FILES)

    def lay(self, files: dict[str, bytes]) -> None:
        for name, data in files.items():
            (self.plain / name).parent.mkdir(exist_ok=True)
            (self.plain / name).write_bytes(data)

    def ok(self, *words: str, code: int = 0) -> str:
        done = self.shell.here(*words)
        assert done.code == code, (words, done)
        return done.out

    def agree(self) -> None:
        self.ok("check", str(self.plain), self.chunks)
        self.rclone.ok("check", "--download", self.plain, "C:", "--exclude", ".mountsync/**")


@pytest.fixture(params=["rename", "norename"])
def sides(tmp_path: Path, shell: Shell, request: pytest.FixtureRequest) -> Sides:
    return Sides(tmp_path, shell, request.param)


def test_there_and_back(sides: Sides, tmp_path: Path) -> None:
    sides.ok("copy", str(sides.plain), sides.chunks)
    sides.agree()
    listed = sides.ok("ls", sides.chunks).splitlines()
    assert [line.split() for line in listed] == [[str(len(FILES[n])), n] for n in sorted(FILES)]
    (tmp_path / "back").mkdir()
    sides.ok("copy", sides.chunks, str(tmp_path / "back"))
    assert files_in(tmp_path / "back") == FILES
    sides.lay({"big": body(60, 9), "exact": b"no more chunks", "zero": body(10, 4)})
    (sides.plain / "sub/over").unlink()
    assert sides.shell.here("check", str(sides.plain), sides.chunks).code == 1
    sides.ok("sync", str(sides.plain), sides.chunks)
    sides.agree()


def test_bisync_follows_both_sides(sides: Sides) -> None:
    sides.ok("bisync", str(sides.plain), sides.chunks)
    sides.agree()
    (sides.plain / "big").rename(sides.plain / "renamed")
    (sides.base.parent / "theirs").write_bytes(body(44, 7))
    sides.rclone.ok("copyto", sides.base.parent / "theirs", "C:sub/over")
    sides.rclone.ok("deletefile", "C:zero")
    sides.ok("bisync", str(sides.plain), sides.chunks)
    sides.agree()
    held = {name: data for name, data in files_in(sides.plain).items() if not name.startswith(".mountsync")}
    assert held == {
        "renamed": FILES["big"],
        "exact": FILES["exact"],
        "sub/over": body(44, 7),
        "sub/small": b"x",
    }


@pytest.mark.parametrize("command", ["sync", "bisync"])
def test_a_damaged_file_is_no_deleted_one(sides: Sides, command: str) -> None:
    """rclone's sync deletes the good copy here, and says that all is well."""
    sides.ok("bisync", str(sides.plain), sides.chunks)
    next(at for at in sides.base.iterdir() if ".002" in at.name).unlink()
    pair = [str(sides.plain), sides.chunks]
    done = sides.shell.here(command, *(pair if command == "bisync" else reversed(pair)))
    assert done.code == 3, done
    assert "big: chunk 2 of 4 is missing" in done.out
    assert (sides.plain / "big").read_bytes() == FILES["big"]
    assert sides.shell.here("cat", sides.chunks + "big").code == 3
    sides.ok("rm", sides.chunks + "big")
    sides.ok("copy", str(sides.plain), sides.chunks)
    sides.agree()


def test_what_cannot_be_split_is_told_and_the_rest_goes_on(sides: Sides) -> None:
    long = "n" * 240
    sides.lay({long: body(11, 1), "y" * 240: b"small"})
    done = sides.shell.here("copy", str(sides.plain), sides.chunks)
    assert done.code == 3
    assert "longer than" in done.out
    os.unlink(sides.plain / long)
    sides.agree()
    assert not any(name.startswith(long) for name in os.listdir(sides.base))
