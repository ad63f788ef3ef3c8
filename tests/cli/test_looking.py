"""Commands that look at remotes, on real ones."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
from pathlib import Path

from tests.parts.shell import Shell


def test_ls_prints_sizes_and_paths_sorted(shell: Shell, folder: Path) -> None:
    lines = shell.run("ls", str(folder)).out.splitlines()
    assert [line.split(None, 1) for line in lines if "link" not in line] == [
        ["5", "a.txt"],
        ["10", "b.txt"],
        ["70000", "sub/deep/c.bin"],
    ]
    assert lines[0] == "        5 a.txt"


def test_ls_of_one_file(shell: Shell, folder: Path) -> None:
    assert shell.run("ls", f"{folder}/sub/deep/c.bin").out == "    70000 c.bin\n"


def test_lsl_prints_times(shell: Shell, folder: Path) -> None:
    assert "        5 2023-11-14 22:13:20.123456789 a.txt\n" in shell.run("lsl", str(folder)).out


def test_lsd_prints_folders_only(shell: Shell, folder: Path) -> None:
    lines = shell.here("lsd", str(folder)).out.splitlines()
    assert [line.split()[-1] for line in lines] == ["empty", "sub"]
    assert len(shell.here("lsd", "-R", str(folder)).out.splitlines()) == 3


def test_lsf_marks_folders(shell: Shell, folder: Path) -> None:
    assert shell.here("lsf", str(folder)).out == "a.txt\nb.txt\nempty/\nlink\nsub/\n"
    assert shell.here("lsf", "--dirs-only", str(folder)).out == "empty/\nsub/\n"
    rows = shell.here("lsf", "-R", "--files-only", "--format", "ps", "--separator", "|", str(folder)).out
    assert "sub/deep/c.bin|70000\n" in rows


def test_ls_as_json(shell: Shell, folder: Path) -> None:
    found = json.loads(shell.run("lsf", "-R", "--json", str(folder)).out)
    assert found["version"] == 1
    by_path = {entry["path"]: entry for entry in found["entries"]}
    assert by_path["a.txt"]["mtime"] == "2023-11-14T22:13:20.123456789Z"
    assert by_path["link"]["target"] == "a.txt"
    assert by_path["sub/deep"]["kind"] == "directory"


def test_cat_whole_and_part(shell: Shell, folder: Path) -> None:
    assert shell.run("cat", f"{folder}/b.txt").out == "0123456789"
    assert shell.run("cat", "--offset", "3", "--count", "4", f"{folder}/b.txt").out == "3456"
    assert shell.run("cat", "--offset", "-3", f"{folder}/b.txt").out == "789"
    assert shell.run("cat", "--offset", "100", f"{folder}/b.txt").out == ""
    assert shell.run("cat", f"{folder}/a.txt", f"{folder}/b.txt").out == "alpha0123456789"


def test_hashsums_are_those_of_coreutils(shell: Shell, folder: Path) -> None:
    for kind in ("sha256", "md5", "sha1"):
        listing = shell.run("hashsum", kind, str(folder)).out
        assert [line.split("  ")[1] for line in listing.splitlines()] == ["a.txt", "b.txt", "sub/deep/c.bin"]
        checked = subprocess.run(
            [f"{kind}sum", "--check", "--quiet"],
            input=listing,
            text=True,
            cwd=folder,
            capture_output=True,
            check=False,
        )
        assert (checked.returncode, checked.stdout) == (0, "")


def test_hashsum_of_one_file_as_json(shell: Shell, folder: Path) -> None:
    found = json.loads(shell.run("hashsum", "sha256", "--json", f"{folder}/a.txt").out)
    assert found["files"] == [{"path": "a.txt", "digest": hashlib.sha256(b"alpha").hexdigest()}]


def test_mkdir_makes_parents_and_is_content_when_there(shell: Shell, folder: Path) -> None:
    assert shell.here("mkdir", f"{folder}/x/y/z").code == 0
    assert shell.here("mkdir", f"{folder}/x/y/z").code == 0
    assert (folder / "x/y/z").is_dir()


def test_rm_of_a_file_a_link_and_a_tree(shell: Shell, folder: Path) -> None:
    assert shell.here("rm", f"{folder}/link").code == 0
    assert shell.here("rm", f"{folder}/a.txt").code == 0
    assert shell.here("rm", "-r", f"{folder}/sub").code == 0
    assert sorted(path.name for path in folder.iterdir()) == ["b.txt", "empty"]


def test_names_leave_as_the_bytes_that_they_are(shell: Shell, folder: Path) -> None:
    (folder / os.fsdecode(b"caf\xe9")).write_bytes(b"au lait")
    assert os.fsdecode(b"caf\xe9") in shell.run("lsf", str(folder)).out.splitlines()
    assert shell.run("cat", os.fsencode(folder) + b"/caf\xe9").out == "au lait"
    assert shell.run("lsf", "--json", str(folder)).code == 0


def test_memory_remote_is_empty_in_each_process(shell: Shell) -> None:
    outcome = shell.run("ls", ":memory:")
    assert (outcome.code, outcome.out) == (0, "")


def test_relative_and_home_paths(shell: Shell) -> None:
    (shell.home / "docs").mkdir()
    (shell.home / "docs/note").touch()
    assert shell.here("lsf", "./docs").out == "note\n"
    assert shell.here("lsf", "~/docs").out == "note\n"
    assert shell.here("cat", "./docs/note").code == 0


def test_configured_remote_flag_and_environment(shell: Shell, folder: Path) -> None:
    assert shell.here("config", "create", "r", "local", f"root={folder}").code == 0
    assert shell.here("lsf", "r:sub").out == "deep/\n"
    other = f"{folder}/sub"
    assert shell.here("lsf", "--local-root", other, "r:").out == "deep/\n"
    assert shell.here("lsf", f"--local-root={other}", "r:").out == "deep/\n"
    assert shell.here("lsf", "r:", MOUNTSYNC_LOCAL_ROOT=other).out == "deep/\n"
    assert shell.here("lsf", "r,root=/nowhere:").code == 3


def test_misspelt_flag_of_a_remote_type(shell: Shell, folder: Path) -> None:
    outcome = shell.run("ls", str(folder), "--local-roto", "x")
    assert outcome.code == 2
    assert outcome.error_line == "no such option '--local-roto'; did you mean '--local-root'?"


def test_fsck_of_a_sound_remote(shell: Shell, folder: Path) -> None:
    outcome = shell.run("fsck", "--read", str(folder))
    assert (outcome.code, outcome.out) == (0, "7 entries checked, 0 damages found\n")
