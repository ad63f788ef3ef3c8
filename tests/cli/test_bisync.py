"""`bisync`, `copy`, `sync`, `check` and `backups`, as a person uses them."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.parts.shell import Shell


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    a, b = tmp_path / "a", tmp_path / "b"
    a.mkdir()
    b.mkdir()
    return a, b


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, ns=(0, 1_700_000_000_000_000_000 + len(text) * 10**9))


def texts(root: Path) -> dict[str, str]:
    found = sorted(path for path in root.rglob("*") if path.is_file() and ".mountsync" not in path.parts)
    return {str(path.relative_to(root)): path.read_text() for path in found}


def everything(root: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path): (path.stat().st_mtime_ns, b"" if path.is_dir() else path.read_bytes())
        for path in sorted(root.rglob("*"))
    }


def test_first_run_explains_itself_and_unites(shell: Shell, sides: tuple[Path, Path]) -> None:
    a, b = sides
    write(a / "d/only a", "1")
    write(b / "only b", "22")
    done = shell.run("bisync", str(a), str(b))
    assert done.code == 0
    assert "First sync" in done.err
    assert "nothing is deleted" in done.err
    assert "In sync" in done.out
    assert texts(a) == texts(b) == {"d/only a": "1", "only b": "22"}
    again = shell.here("bisync", str(a), str(b))
    assert again.err == ""
    assert "Nothing to do." in again.out


def test_conflict_is_told_with_what_to_do(shell: Shell, sides: tuple[Path, Path]) -> None:
    a, b = sides
    write(a / "x", "from a")
    write(b / "x", "from b!")
    done = shell.here("bisync", str(a), str(b))
    assert done.code == 1
    assert "1 conflict" in done.out
    assert "--conflict keep-both" in done.out
    assert (texts(a), texts(b)) == ({"x": "from a"}, {"x": "from b!"})
    done = shell.here("bisync", str(a), str(b), "--conflict", "larger")
    assert done.code == 0
    assert texts(a) == texts(b) == {"x": "from b!"}
    assert "backups list" in done.out


def test_dry_run_changes_nothing_at_all(shell: Shell, sides: tuple[Path, Path]) -> None:
    a, b = sides
    write(a / "x", "1")
    before = everything(shell.home.parent)
    done = shell.here("bisync", str(a), str(b), "--dry-run")
    assert "would get 1 new" in done.out
    assert everything(shell.home.parent) == before
    shell.here("bisync", str(a), str(b))
    (a / "x").unlink()
    write(b / "y", "2")
    before = everything(shell.home.parent)
    done = shell.here("bisync", str(a), str(b), "-n")
    assert "deleted" in done.out
    assert everything(shell.home.parent) == before


def test_deletes_can_be_had_back(shell: Shell, sides: tuple[Path, Path]) -> None:
    a, b = sides
    for name in ("x", "d/y", "d/z"):
        write(a / name, name)
    shell.here("bisync", str(a), str(b))
    for name in ("x", "d/y"):
        (a / name).unlink()
    assert "2 versions replaced or deleted on B" in shell.here("bisync", str(a), str(b)).out
    listed = json.loads(shell.here("backups", "list", str(b), "--json").out)
    assert [each["path"] for each in listed["backups"]] == ["d/y", "x"]
    assert shell.here("backups", "restore", str(b), "d").code == 0
    shell.here("bisync", str(a), str(b))
    assert texts(a) == texts(b) == {"d/y": "d/y", "d/z": "d/z"}
    assert shell.here("backups", "restore", str(b), "never").code == 3


def test_halts_before_it_empties_a_side(shell: Shell, sides: tuple[Path, Path]) -> None:
    a, b = sides
    for number in range(30):
        write(a / f"f{number}", str(number))
    shell.here("bisync", str(a), str(b))
    for path in a.glob("f*"):
        path.unlink()
    done = shell.here("bisync", str(a), str(b))
    assert done.code == 5
    assert "HALTED" in done.out
    assert len(texts(b)) == 30
    assert shell.here("bisync", str(a), str(b), "--from-scratch").code == 0
    assert len(texts(a)) == 30
    for number in range(25):
        (a / f"f{number}").unlink()
    done = shell.here("bisync", str(a), str(b))
    assert done.code == 5
    assert "25 of 30" in done.out
    assert shell.here("bisync", str(a), str(b), "--confirm").code == 0
    assert len(texts(b)) == 5


def test_copy_and_sync_go_one_way(shell: Shell, sides: tuple[Path, Path]) -> None:
    a, b = sides
    write(a / "x", "1")
    write(b / "mine", "2")
    assert shell.here("copy", str(a), str(b)).code == 0
    assert texts(b) == {"x": "1", "mine": "2"}
    assert texts(a) == {"x": "1"}
    assert shell.here("sync", str(a), str(b / "new/place")).code == 0
    assert texts(b / "new/place") == {"x": "1"}
    assert shell.here("sync", str(a), str(b)).code == 0
    assert texts(b) == {"x": "1"}
    assert texts(a) == {"x": "1"}
    assert "Nothing to do." in shell.here("sync", str(a), str(b)).out
    write(b / "x", "changed there")
    assert shell.here("bisync", str(a), str(b), "--one-way").code == 0
    assert (texts(a), texts(b)) == ({"x": "1"}, {"x": "1"})


def test_check_names_differences(shell: Shell, sides: tuple[Path, Path]) -> None:
    a, b = sides
    for name in ("same", "other", "only a"):
        write(a / name, name)
    for name, text in (("same", "same"), ("other", "OTHER"), ("only b", "b")):
        write(b / name, text)
    done = shell.here("check", str(a), str(b))
    assert done.code == 1
    assert done.out.splitlines() == [
        "only on A: only a",
        "only on B: only b",
        "differs:   other",
        "3 differences, 1 entry equal by content",
    ]
    shell.here("sync", str(a), str(b))
    assert shell.here("check", str(a), str(b)).code == 1, "equal size and time: sync did not look"
    shell.here("sync", str(a), str(b), "--compare", "hash")
    assert shell.here("check", str(a), str(b), "--json").code == 0


def test_filters_hide_on_both_sides(shell: Shell, sides: tuple[Path, Path]) -> None:
    a, b = sides
    write(a / "x.tmp", "1")
    write(a / "build/out", "2")
    write(b / "build/other", "3")
    write(a / "keep", "4")
    (shell.home / "filter").write_text("*.tmp\n# comment\nbuild/\n")
    args = ("bisync", str(a), str(b), "--filter-from", "filter")
    assert shell.here(*args).code == 0
    assert texts(b) == {"build/other": "3", "keep": "4"}
    assert shell.here(*args).code == 0
    assert texts(a) == {"build/out": "2", "keep": "4", "x.tmp": "1"}


def test_wrong_options_are_refused(shell: Shell, sides: tuple[Path, Path]) -> None:
    a, b = map(str, sides)
    for args, word in (
        (["--conflict", "nobody"], "nobody"),
        (["--compare", "smell"], "smell"),
        (["--max-delete", "many"], "many"),
        (["--backups", "maybe"], "neither on nor off"),
        (["--policy", "=newer"], "pattern"),
        (["--transfers", "0"], "1 or more"),
    ):
        done = shell.here("bisync", a, b, *args)
        assert done.code == 2, args
        assert word in done.error_line
    assert "same place" in shell.here("bisync", a, a).error_line
    assert "lies in" in shell.here("bisync", a, str(Path(a).parent)).error_line
    missing = shell.here("bisync", a, b + "/none")
    assert missing.code == 3
    assert "mkdir" in missing.error_line


def test_json_lists_what_was_done(shell: Shell, sides: tuple[Path, Path]) -> None:
    a, b = sides
    write(a / "x", "1")
    found = json.loads(shell.here("bisync", str(a), str(b), "--json").out)
    assert found["first"] is True
    assert found["actions"] == [{"side": "b", "what": "new", "path": "x", "target": None}]


def test_policies_by_pattern(shell: Shell, sides: tuple[Path, Path]) -> None:
    a, b = sides
    for name in ("x.md", "x.txt"):
        write(a / name, "a")
        write(b / name, "bb")
    done = shell.here("bisync", str(a), str(b), "--policy", "*.md=b")
    assert done.code == 1
    assert texts(a) == {"x.md": "bb", "x.txt": "a"}
    assert texts(b) == {"x.md": "bb", "x.txt": "bb"}
