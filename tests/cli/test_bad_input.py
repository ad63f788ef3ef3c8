"""What bad input gets: one line, the right exit code, nothing touched."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.parts.shell import Shell

CONFIG = """
[remote.work]
type = "local"
root = "/tmp"

[mount.photos]
remote = "work:photos"
mountpoint = "~/Photos"
"""


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["stats"], "there is no command 'stats'; did you mean 'status'?"),
        (["xyzzy"], "there is no command 'xyzzy'; see `mountsync --help`"),
        (["--frob"], "no such option '--frob'; see `mountsync --help`"),
        (["version", "--jso"], "version: no such option '--jso'; did you mean '--json'?"),
        (["ls"], "ls: missing argument 'REMOTE'; see `mountsync ls --help`"),
        (["ls", "a:", "b:"], "ls: got unexpected extra argument (b:); see `mountsync ls --help`"),
        (["hashsum", "crc32", "."], "hashsum: invalid value for 'sha256|md5|sha1'"),
        (["lsf", "--format", "xyz", "."], "--format: 'xyz' is not made of p, s and t"),
        (["cat", "--count", "-1", "./x"], "cat: invalid value for '--count'"),
        (["flush", "--timeout", "soon"], "flush: invalid value for '--timeout': 'soon' is not a duration"),
        (["resolve", "x"], "resolve: missing option '--keep'"),
        (["resolve", "x", "--keep", "mine"], "resolve: invalid value for '--keep'"),
    ],
)
def test_wrong_usage(shell: Shell, args: list[str], said: str) -> None:
    outcome = shell.here(*args)
    assert outcome.code == 2
    assert outcome.error_line.startswith(said)
    assert outcome.out == ""


@pytest.mark.parametrize(
    ("remote", "said"),
    [
        ("wrk:", "there is no remote 'wrk'; did you mean 'work'?"),
        ("plain", "'plain' is not a remote: it has no colon"),
        ("", "'' is not a remote: it has no colon"),
        (":chnker:", "there is no remote type 'chnker'; did you mean 'chunker'?"),
        (":local,rot=/tmp:x", "remote type local has no option 'rot'; did you mean 'root'?"),
        (':local,root="/tmp:x', 'a closing " is missing'),
        ("bad name!:x", "'bad name!' is not a remote's name"),
    ],
)
def test_unknown_or_malformed_remote(shell: Shell, remote: str, said: str) -> None:
    shell.config.write_text(CONFIG)
    for command in (["ls"], ["rm"], ["fsck"]):
        outcome = shell.here(
            *command, remote if command != ["rm"] or remote in ("", "plain") else remote + "a"
        )
        assert outcome.code == 2
        assert said in outcome.error_line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[remote.x\n", "config.toml: "),
        ("[remote.x]\nroot = 1\n", "[remote.x] type: it is missing or not a text"),
        ("[remoet.x]\n", "[remoet]: unknown section; did you mean 'remote'?"),
        ('[remote.x]\ntype = "local"\nrot = "/"\n', "has no option 'rot'; did you mean 'root'?"),
        ("[mount.x]\ncache_sise = 1\n", "[mount.x] cache_sise: unknown key; did you mean 'cache_size'?"),
        ("transfer = 3\n", "transfer: unknown key; did you mean 'transfers'?"),
        ('[mount.x]\nremote = "y:"\ncache_size = "big"\n', "cache_size: 'big' is not a size"),
        ("remote = 3\n", "remote: it must be a table"),
    ],
)
def test_wrong_configuration_names_file_and_key(shell: Shell, text: str, said: str) -> None:
    shell.config.write_text(text)
    outcome = shell.here("config", "check")
    assert outcome.code == 2
    assert said in outcome.err
    assert str(shell.config) in outcome.err


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--cache-size", "huge", "'huge' is not a size"),
        ("--cache-size", "-1", "'-1' is not a size"),
        ("--poll-interval", "often", "'often' is not a duration"),
        ("--durability", "maybe", "'maybe' is not one of fsync, close"),
        ("--conflict", "mine", "'mine' is not one of manual, keep-both, newer"),
        ("--transfers", "0", "'0' is not a whole number of 1 or more"),
        ("--umask", "9", "'9' is not an octal umask"),
        ("--uid", "nobody", "'nobody' is not a whole number"),
        ("--bwlimit", "fast", "'fast' is not a bandwidth limit"),
        ("--max-delete", "some", "'some' is not a whole number"),
        ("--log-level", "loud", "'loud' is not one of"),
        ("--local-root", "", "needs"),
    ],
)
def test_wrong_mount_option_names_the_flag(
    shell: Shell, folder: Path, tmp_path: Path, flag: str, value: str, said: str
) -> None:
    if flag == "--local-root":
        outcome = shell.here("mount", str(folder), str(tmp_path), flag)
    else:
        outcome = shell.here("mount", str(folder), str(tmp_path), flag, value)
    assert outcome.code == 2
    assert flag in outcome.error_line
    assert said in outcome.error_line


def test_wrong_environment_variable_names_itself(shell: Shell, folder: Path) -> None:
    outcome = shell.run("mount", str(folder), "mnt", MOUNTSYNC_TRANSFERS="many")
    assert outcome.code == 2
    assert "MOUNTSYNC_TRANSFERS" in outcome.error_line
    assert "'many' is not a whole number" in outcome.error_line


def test_mount_of_an_unknown_section(shell: Shell) -> None:
    shell.config.write_text(CONFIG)
    assert "there is no [mount.fotos]; did you mean 'photos'?" in shell.run("mount", "fotos").error_line
    assert "did you mean 'work:'?" in shell.run("mount", "work", "mnt").error_line


def test_mount_without_a_mount_point(shell: Shell, folder: Path) -> None:
    outcome = shell.run("mount", str(folder))
    assert outcome.code == 2
    assert outcome.error_line.startswith("the mount point is missing; mountsync mount ")


@pytest.mark.parametrize("path", ["../x", "a/../b", "a//b", "a/./b"])
def test_path_with_dots_or_empty_parts(shell: Shell, path: str) -> None:
    shell.config.write_text(CONFIG)
    for command in ("cat", "ls", "rm", "mkdir", "hashsum sha256", "fsck"):
        outcome = shell.here(*command.split(), f"work:{path}")
        assert outcome.code == 3
        assert "a path must not have" in outcome.error_line


def test_file_that_is_not_there(shell: Shell, folder: Path) -> None:
    for command in ("cat", "rm", "ls"):
        outcome = shell.run(command, f"{folder}/nope")
        assert outcome.code == 3
        assert "nope" in outcome.error_line


def test_folder_where_a_file_is_wanted(shell: Shell, folder: Path) -> None:
    assert "it is a folder" in shell.run("cat", f"{folder}/sub").error_line
    assert "use -r" in shell.run("rm", f"{folder}/sub").error_line
    assert (folder / "sub/deep/c.bin").exists()


def test_whole_remote_is_not_removed(shell: Shell, folder: Path) -> None:
    shell.run("config", "create", "r", "local", f"root={folder}")
    outcome = shell.run("rm", "-r", "r:")
    assert outcome.code == 2
    assert "this is a whole remote" in outcome.error_line
    assert (folder / "a.txt").exists()


@pytest.mark.parametrize("command", ["flush", "pause", "resume", "conflicts"])
def test_nothing_is_mounted(shell: Shell, command: str) -> None:
    outcome = shell.run(command)
    assert outcome.code == 4
    assert outcome.error_line.startswith("nothing is mounted")


@pytest.mark.parametrize("command", ["umount", "status", "pin", "evict"])
def test_no_mount_there(shell: Shell, tmp_path: Path, command: str) -> None:
    outcome = shell.run(command, str(tmp_path))
    assert outcome.code == 4
    assert "no mount of mountsync is there" in outcome.error_line


def test_status_without_mounts_is_fine(shell: Shell) -> None:
    assert shell.run("status").out == "nothing is mounted, and no job runs\n"


def test_control_characters_in_errors_are_escaped(shell: Shell, folder: Path) -> None:
    outcome = shell.run("cat", f"{folder}/\x1b[31mred\nnext")
    assert "\x1b" not in outcome.err
    assert "\\x1b[31mred\\nnext" in outcome.error_line


def test_name_that_is_not_unicode_in_an_error(shell: Shell, folder: Path) -> None:
    assert "caf\\xe9" in shell.run("cat", os.fsencode(folder) + b"/caf\xe9").error_line


@pytest.mark.skipif(os.getuid() == 0, reason="root may write anywhere")
def test_state_folder_that_cannot_be_written(shell: Shell) -> None:
    assert shell.run("doctor", XDG_STATE_HOME="/proc").code == 4


def test_ctrl_c_is_quiet(shell: Shell) -> None:
    """`status --watch` waits; SIGINT ends it with 130 and without a word."""
    process = subprocess.Popen(
        [sys.executable, "-m", "mountsync", "status", "--watch"],
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "nothing is mounted, and no job runs\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "")


def test_reader_that_leaves_is_no_error(shell: Shell, tmp_path: Path) -> None:
    many = tmp_path / "many"
    many.mkdir()
    for number in range(3000):
        (many / f"{'n' * 60}{number}").touch()
    with subprocess.Popen(
        [sys.executable, "-m", "mountsync", "lsf", str(many)],
        env=shell.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
